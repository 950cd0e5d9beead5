"""The `input` of a request: a text or a list of items, as the entries that they are to a run.

Owns the shapes of input items. What an agent has said in earlier turns may come back as it went out, by reference too;
items that say nothing to an agent are passed over, those that nobody here knows are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from msgspec import Raw, Struct

from edge.json_body import read, read_members, refused
from edge.openai import tools
from edge.openai.bodies import read_body
from edge.protocols.openai_responses import contents
from edge.protocols.openai_responses.contents import Content, InputFile, InputImage, InputText
from penstock.v1.message_pb2 import Message, Part, ReasoningPart, Role, ToolOutcome, ToolRunner


@dataclass(frozen=True, slots=True)
class Said:
    """What somebody said, as messages; none when it says nothing to an agent."""

    messages: tuple[Message, ...]
    where: str
    is_agents: bool = False


@dataclass(frozen=True, slots=True)
class Referred:
    """Something that an agent said, by the id of its item."""

    item_id: str
    where: str


@dataclass(frozen=True, slots=True)
class Approved:
    """Whether a call may go ahead."""

    approval_id: str
    approve: bool
    reason: str
    where: str


Entry = Said | Referred | Approved


class MessageItem(Struct):
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Content]


class FunctionCall(Struct):
    call_id: str
    name: str
    arguments: str


class FunctionCallOutput(Struct):
    call_id: str
    output: str | list[InputText | InputImage | InputFile]
    name: str | None = None


class Text(Struct):
    text: str


class Reasoning(Struct):
    summary: list[Text] = []
    content: list[Text] | None = None
    encrypted_content: str | None = None


class ToolUse(Struct):
    """An `mcp_call`."""

    id: str
    name: str
    arguments: str
    output: str | None = None
    error: Raw = Raw(b"null")


class Reference(Struct):
    id: str


class ApprovalResponse(Struct):
    approval_request_id: str
    approve: bool
    reason: str | None = None


Shape = TypeVar("Shape")

_ROLES = {
    "user": Role.ROLE_USER,
    "assistant": Role.ROLE_ASSISTANT,
    "system": Role.ROLE_SYSTEM,
    "developer": Role.ROLE_SYSTEM,
}


def read_input(raw: Raw) -> list[Entry]:
    """Return the entries of an input. Raises Refusal, which names the culprit."""
    if bytes(raw).startswith(b'"'):
        words = read(raw, "input", str, "text")
        return [Said((Message(role=Role.ROLE_USER, parts=[contents.text(words)]),), "input")]
    items = read(raw, "input", list[Raw], "text or a list of items")
    if not items:
        raise refused("input", "input is empty: there is nothing to answer.")
    return [_entry(item, f"input[{number}]") for number, item in enumerate(items)]


def behind_last_answer(entries: Sequence[Entry]) -> Sequence[Entry]:
    """Return the entries behind the last one that the agent said: what is new when a client sends all of them."""
    answers = [place for place, entry in enumerate(entries) if _is_agents(entry)]
    return entries[answers[-1] + 1 :] if answers else entries


def _is_agents(entry: Entry) -> bool:
    return isinstance(entry, Referred) or (isinstance(entry, Said) and entry.is_agents)


def _entry(raw: Raw, where: str) -> Entry:
    kind = _kind(read_members(raw, where), where)
    reader = _READERS.get(kind)
    if reader is None:
        raise refused(f"{where}.type", f"{where}.type is {kind}; there are {', '.join(_READERS)}.")
    return reader(raw, where)


def _kind(members: Mapping[str, Raw], where: str) -> str:
    if "type" in members:
        return read(members["type"], f"{where}.type", str, "a string")
    return "message" if "role" in members else "item_reference"


def _message(raw: Raw, where: str) -> Entry:
    item = read_body(raw, MessageItem, where)
    message = Message(role=_ROLES[item.role], parts=contents.parts(item.content, f"{where}.content"))
    return Said((message,), where, is_agents=item.role == "assistant")


def _function_call(raw: Raw, where: str) -> Entry:
    item = read_body(raw, FunctionCall, where)
    return Said((_assistant(tools.call(item.call_id, item.name, item.arguments)),), where, is_agents=True)


def _function_call_output(raw: Raw, where: str) -> Entry:
    item = read_body(raw, FunctionCallOutput, where)
    parts = contents.parts(item.output, f"{where}.output")
    output = "".join(part.text.text for part in parts)
    files = [part for part in parts if part.HasField("file")]
    return Said((_tool(tools.result(item.call_id, item.name or "", output, content=files)),), where)


def _reasoning(raw: Raw, where: str) -> Entry:
    item = read_body(raw, Reasoning, where)
    thoughts = "".join(piece.text for piece in item.summary or item.content or ())
    secret = item.encrypted_content
    part = Part(reasoning=ReasoningPart(text=thoughts), provider_json=tools.output_json(secret) if secret else "")
    return Said((_assistant(part),), where, is_agents=True)


def _tool_use(raw: Raw, where: str) -> Entry:
    item = read_body(raw, ToolUse, where)
    call = tools.call(item.id, item.name, item.arguments, runner=ToolRunner.TOOL_RUNNER_AGENT)
    result = tools.result(item.id, item.name, item.output or "")
    if bytes(item.error) != b"null":
        result.tool_result.outcome = ToolOutcome.TOOL_OUTCOME_FAILED
        result.tool_result.error_text = tools.compact_json(bytes(item.error).decode())
        result.tool_result.output_json = ""
    return Said((_assistant(call), _tool(result)), where, is_agents=True)


def _reference(raw: Raw, where: str) -> Entry:
    return Referred(read_body(raw, Reference, where).id, where)


def _approval(raw: Raw, where: str) -> Entry:
    item = read_body(raw, ApprovalResponse, where)
    return Approved(item.approval_request_id, item.approve, item.reason or "", where)


def _passed_over(_raw: Raw, where: str) -> Entry:
    return Said((), where, is_agents=True)


_READERS: Mapping[str, Callable[[Raw, str], Entry]] = {
    "message": _message,
    "function_call": _function_call,
    "function_call_output": _function_call_output,
    "reasoning": _reasoning,
    "item_reference": _reference,
    "mcp_approval_response": _approval,
    "mcp_approval_request": _passed_over,
    "mcp_call": _tool_use,
    "mcp_list_tools": _passed_over,
}


def _assistant(part: Part) -> Message:
    return Message(role=Role.ROLE_ASSISTANT, parts=[part])


def _tool(result: Part) -> Message:
    return Message(role=Role.ROLE_TOOL, parts=[result])
