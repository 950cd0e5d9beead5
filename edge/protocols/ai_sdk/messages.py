"""The UI messages of a chat client, and the messages of a thread that they become.

Owns the shapes. A message is looked into only where it is new to its thread: what a client sends back of earlier
answers is as its version built it. A part of a person's message that is not understood is refused: without it
something else was said.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Literal

from msgspec import Raw, Struct

from edge.data_urls import inline_file
from edge.json_body import compact, read, refused
from penstock.v1.message_pb2 import (
    DataPart,
    FilePart,
    Message,
    Part,
    ReasoningPart,
    Role,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolOutcome,
    ToolResultPart,
    ToolRunner,
)

NULL = Raw(b"null")

ROLES = {"user": Role.ROLE_USER, "assistant": Role.ROLE_ASSISTANT, "system": Role.ROLE_SYSTEM}

OUTCOMES = {
    "output-available": ToolOutcome.TOOL_OUTCOME_SUCCEEDED,
    "output-error": ToolOutcome.TOOL_OUTCOME_FAILED,
    "output-denied": ToolOutcome.TOOL_OUTCOME_DENIED,
}
"""The states of a tool part that hold its result."""


class UIMessage(Struct, frozen=True):
    """A message as it was sent; its parts are still unread."""

    role: Literal["user", "assistant", "system"]
    parts: list[Raw]
    id: str = ""
    metadata: Raw = NULL


class Approval(Struct, frozen=True):
    id: str
    approved: bool | None = None
    reason: str | None = None


class UIPart(Struct, frozen=True, rename="camel"):
    """A part of any type; `type` says which fields count."""

    type: str
    id: str | None = None
    text: str | None = None
    url: str | None = None
    media_type: str | None = None
    filename: str | None = None
    source_id: str | None = None
    title: str | None = None
    data: Raw = NULL
    tool_call_id: str | None = None
    tool_name: str | None = None
    state: str | None = None
    input: Raw = NULL
    output: Raw = NULL
    error_text: str | None = None
    approval: Approval | None = None

    @property
    def called(self) -> str:
        """The tool's name; empty for a part of another type."""
        return (self.tool_name or "") if self.type == "dynamic-tool" else _behind("tool-", self.type)


def read_parts(message: UIMessage, where: str) -> list[UIPart]:
    """Look into a message. Raises Refusal, which names the culprit."""
    return [
        read(raw, f"{where}.parts[{number}]", UIPart, "a part of a UI message")
        for number, raw in enumerate(message.parts)
    ]


def to_messages(said: UIMessage, where: str, *, client_id: str | None = None) -> list[Message]:
    """Return what a message becomes: of an answer with tools more than one. `client_id` may differ from the id."""
    parts = read_parts(said, where)
    metadata = compact(said.metadata) if bytes(said.metadata).startswith(b"{") else ""
    messages = _answer(parts) if said.role == "assistant" else [_from_person(said, parts, where)]
    if messages:
        messages[0].client_id = said.id if client_id is None else client_id
        messages[0].metadata_json = metadata
    return messages


def tool_result(part: UIPart) -> ToolResultPart | None:
    """Return the result that a tool part holds, if it does."""
    outcome = OUTCOMES.get(part.state or "")
    if outcome is None or not part.called:
        return None
    result = ToolResultPart(call_id=part.tool_call_id or "", tool_name=part.called, outcome=outcome)
    if outcome == ToolOutcome.TOOL_OUTCOME_SUCCEEDED:
        result.output_json = compact(part.output)
    else:
        result.error_text = part.error_text or ""
    return result


def _from_person(said: UIMessage, parts: Iterable[UIPart], where: str) -> Message:
    content = [_said(part, f"{where}.parts[{number}]") for number, part in enumerate(parts)]
    if not content:
        raise refused(f"{where}.parts", f"{where} has no parts: what does it say?")
    return Message(role=ROLES[said.role], parts=content)


def _said(part: UIPart, where: str) -> Part:
    if part.type == "text":
        return Part(text=TextPart(text=part.text or ""))
    if part.type == "file":
        return Part(file=_file(part, where))
    if part.type.startswith("data-"):
        return Part(data=_data(part))
    raise refused(f"{where}.type", f"{where}: a message of a person has parts of type text, file and data-….")


def _answer(parts: Sequence[UIPart]) -> list[Message]:
    """Return an earlier answer, a message for each of its steps and one for the results of each step's tools."""
    messages = []
    for is_border, step in groupby(parts, lambda part: part.type == "step-start"):
        content, results = _step([] if is_border else step)
        if content:
            messages.append(Message(role=Role.ROLE_ASSISTANT, parts=content))
        if results:
            messages.append(Message(role=Role.ROLE_TOOL, parts=results))
    return messages


def _step(parts: Iterable[UIPart]) -> tuple[list[Part], list[Part]]:
    content, results = [], []
    for part in parts:
        answered = _answered(part)
        if answered is not None:
            content.append(answered)
        result = tool_result(part)
        if result is not None:
            results.append(Part(tool_result=result))
    return content, results


def _answered(part: UIPart) -> Part | None:
    """Return a part of an answer. What only some version of the client knows is left out."""
    match part.type:
        case "text":
            return Part(text=TextPart(text=part.text or ""))
        case "reasoning":
            return Part(reasoning=ReasoningPart(text=part.text or ""))
        case "file":
            return Part(file=_file(part, "messages"))
        case "source-url" | "source-document":
            return Part(source=_source(part))
        case data if data.startswith("data-"):
            return Part(data=_data(part))
        case _:
            return Part(tool_call=_call(part)) if part.called else None


def _call(part: UIPart) -> ToolCallPart:
    is_dynamic = part.type == "dynamic-tool"
    runner = ToolRunner.TOOL_RUNNER_AGENT if is_dynamic else ToolRunner.TOOL_RUNNER_CLIENT
    call = ToolCallPart(call_id=part.tool_call_id or "", tool_name=part.called, runner=runner)
    given = compact(part.input)
    if given.startswith("{"):
        call.arguments_json = given
    else:
        call.raw_arguments = given
    return call


def _file(part: UIPart, where: str) -> FilePart:
    url = part.url or ""
    if url.startswith("data:"):
        file = inline_file(url, where=f"{where}.url")
    elif url.startswith(("https://", "http://")):
        file = FilePart(url=url)
    else:
        raise refused(f"{where}.url", "The URL of a file must begin with https:, http: or data:.")
    file.name = part.filename or ""
    file.media_type = part.media_type or file.media_type
    return file


def _data(part: UIPart) -> DataPart:
    return DataPart(name=_behind("data-", part.type), key=part.id or "", value_json=compact(part.data))


def _source(part: UIPart) -> SourcePart:
    return SourcePart(
        source_id=part.source_id or "",
        url=part.url or "",
        title=part.title or "",
        media_type=part.media_type or "",
        filename=part.filename or "",
    )


def _behind(prefix: str, text: str) -> str:
    return text.removeprefix(prefix) if text.startswith(prefix) else ""
