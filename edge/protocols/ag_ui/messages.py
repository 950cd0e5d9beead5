"""The messages that a client sends, and the messages of a thread that they become.

Owns the shapes of AG-UI's messages. Fields that have no place here are ignored, as the protocol demands; unknown roles
and contents are refused: without them something else was said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, assert_never

import msgspec
from msgspec import Meta, Raw, Struct

from edge.protocols.ag_ui.content import Content, text_of, to_parts
from penstock.v1.message_pb2 import (
    Message,
    Part,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolOutcome,
    ToolResultPart,
    ToolRunner,
)

MAX_ID = 256
"""Characters of an id that a client makes: what the core keeps of a message's."""

Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID)]


class Function(Struct):
    name: str
    arguments: str


class ToolCall(Struct, rename="camel"):
    id: str
    function: Function
    encrypted_value: str | None = None


class _Said(Struct, tag_field="role", rename="camel", kw_only=True):
    id: Id
    name: str | None = None
    metadata: Raw = Raw(b"null")
    encrypted_value: str | None = None


class System(_Said, tag="system"):
    content: str


class Developer(_Said, tag="developer"):
    content: str


class User(_Said, tag="user"):
    content: Content


class Assistant(_Said, tag="assistant"):
    content: str | None = None
    tool_calls: list[ToolCall] | None = None


class Tool(_Said, tag="tool"):
    tool_call_id: Annotated[str, Meta(min_length=1)]
    content: Content
    error: str | None = None


class Reasoning(_Said, tag="reasoning"):
    content: str


class Activity(_Said, tag="activity"):
    """What the client shows by itself; it should not send it."""


ClientMessage = System | Developer | User | Assistant | Tool | Reasoning | Activity


def to_message(said: ClientMessage, where: str, tool_names: Mapping[str, str]) -> Message:
    """Return the message of a thread. Raises Refusal, which names the culprit."""
    role, parts = _role_and_parts(said, where, tool_names)
    return Message(role=role, parts=parts, client_id=said.id, metadata_json=_metadata(said))


def tool_result(said: Tool, tool_name: str, where: str) -> ToolResultPart:
    """Return the result that a tool message brings. JSON objects and arrays are JSON, everything else is a string."""
    result = ToolResultPart(call_id=said.tool_call_id, tool_name=tool_name)
    result.content.extend(part for part in to_parts(said.content, f"{where}.content") if part.HasField("file"))
    text = text_of(said.content)
    if said.error:
        result.outcome, result.error_text = ToolOutcome.TOOL_OUTCOME_FAILED, said.error
    else:
        compact = compact_json(text)
        is_data = compact.startswith(("{", "["))
        result.outcome = ToolOutcome.TOOL_OUTCOME_SUCCEEDED
        result.output_json = compact if is_data else msgspec.json.encode(text).decode()
    return result


def tool_names(conversation: Sequence[ClientMessage]) -> dict[str, str]:
    """Return the names of the tools by the ids of their calls: tool messages do not tell them."""
    answers = [said for said in conversation if isinstance(said, Assistant)]
    return {call.id: call.function.name for said in answers for call in said.tool_calls or ()}


def compact_json(text: str) -> str:
    """Return JSON text without white space and with its numbers as written; empty when it is not JSON."""
    try:
        return msgspec.json.format(text, indent=-1)
    except (msgspec.DecodeError, RecursionError):
        return ""


def _role_and_parts(said: ClientMessage, where: str, names: Mapping[str, str]) -> tuple[Role.ValueType, Sequence[Part]]:
    match said:
        case System() | Developer():
            return Role.ROLE_SYSTEM, [Part(text=TextPart(text=said.content))]
        case User():
            return Role.ROLE_USER, to_parts(said.content, f"{where}.content")
        case Assistant():
            return Role.ROLE_ASSISTANT, _answer(said)
        case Tool():
            result = tool_result(said, names.get(said.tool_call_id, ""), where)
            return Role.ROLE_TOOL, [Part(tool_result=result)]
        case Reasoning():
            reasoning = ReasoningPart(text=said.content)
            return Role.ROLE_ASSISTANT, [Part(reasoning=reasoning, provider_json=_opaque(said.encrypted_value))]
        case Activity():
            return Role.ROLE_ASSISTANT, []
        case unheard_of:
            assert_never(unheard_of)


def _answer(said: Assistant) -> list[Part]:
    calls = [Part(tool_call=_call(call), provider_json=_opaque(call.encrypted_value)) for call in said.tool_calls or ()]
    text = Part(text=TextPart(text=said.content or ""), provider_json=_opaque(said.encrypted_value))
    return [text, *calls] if said.content or not calls else calls  # never without a part


def _call(call: ToolCall) -> ToolCallPart:
    """Return a call of an earlier answer. Arguments that are not a JSON object stay as the model wrote them."""
    runner = ToolRunner.TOOL_RUNNER_CLIENT
    part = ToolCallPart(call_id=call.id, tool_name=call.function.name, runner=runner)
    written = call.function.arguments.strip() or "{}"  # some models write nothing when a tool takes nothing
    compact = compact_json(written)
    if compact.startswith("{"):
        part.arguments_json = compact
    else:
        part.raw_arguments = written
    return part


def _opaque(value: str | None) -> str:
    """Return a provider's value as JSON: ours is JSON already, another producer's may be any text."""
    return (compact_json(value) or msgspec.json.encode(value).decode()) if value else ""


def _metadata(said: ClientMessage) -> str:
    metadata = compact_json(bytes(said.metadata).decode())
    if not said.name:
        return metadata if metadata.startswith("{") else ""
    members = msgspec.json.decode(metadata, type=dict[str, Raw]) if metadata.startswith("{") else {}
    return msgspec.json.encode({**members, "name": said.name}).decode()
