"""The body of a request: AG-UI's RunAgentInput, and who is to run.

Owns the shape of the request. What the protocol requires is required here, and a wrong type is a refusal that names the
field; unknown fields are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct
from msgspec.json import Decoder

from edge.errors import Refusal
from edge.json_body import compact, refused
from edge.protocols.ag_ui.dialect import Dialect, dialect_of
from edge.protocols.ag_ui.messages import ClientMessage, Id
from edge.protocols.ag_ui.origin import RunIds
from penstock.v1.run_pb2 import ClientTool, RunOptions

T = TypeVar("T")

NULL = b"null"


class Tool(Struct):
    name: Annotated[str, Meta(min_length=1)]
    description: str | None = None
    parameters: Raw = Raw(NULL)


class Context(Struct):
    description: str
    value: str


class ResumeEntry(Struct, rename="camel"):
    """An answer to an interrupt."""

    interrupt_id: str
    status: Literal["resolved", "cancelled"]
    payload: Raw = Raw(NULL)


class Body(Struct, rename="camel"):
    thread_id: Id
    run_id: Id
    messages: list[Raw]
    protocol_version: str | None = None
    parent_run_id: Annotated[str, Meta(max_length=256)] | None = None
    state: Raw = Raw(NULL)
    tools: list[Tool] | None = None
    context: list[Context] | None = None
    forwarded_props: Raw = Raw(NULL)
    resume: list[ResumeEntry] | None = None
    agent_id: str | None = None


class _Wishes(Struct):
    """Where clients that cannot choose the path put the agent's name."""

    agent: str | None = None
    agentId: str | None = None
    agent_id: str | None = None


@dataclass(frozen=True, slots=True)
class AgUiRequest:
    """One request, understood."""

    thread_id: str
    """As the client calls it."""
    ids: RunIds
    dialect: Dialect
    agent_id: str
    """Empty when the body names none."""
    messages: Sequence[ClientMessage]
    raw_messages: Sequence[Raw]
    """The same, as they came."""
    resume: Sequence[ResumeEntry]
    state_json: str
    """The client's state; empty when it has none."""
    options: RunOptions


_BODY = Decoder(Body)
_MESSAGE: Decoder[ClientMessage] = Decoder(ClientMessage)
_MEMBERS = Decoder(dict[str, Raw])
_TEXT = Decoder(str)

_COMPLAINT = re.compile(r"(?P<what>.*?) - at `\$\.?(?P<path>.*)`")


def parse(data: Raw, *, thread_id: str | None = None) -> AgUiRequest:
    """Understand a request. Raises Refusal. A thread that the path names need not be in the body, nor may it differ."""
    if thread_id is not None:
        data = _with_thread(data, thread_id)
    body = decode(data, _BODY)
    return AgUiRequest(
        thread_id=body.thread_id,
        ids=RunIds(body.run_id, body.parent_run_id),
        dialect=dialect_of(body.protocol_version),
        agent_id=body.agent_id or _wished_agent(body.forwarded_props),
        messages=[decode(raw, _MESSAGE, f"messages[{number}]") for number, raw in enumerate(body.messages)],
        raw_messages=body.messages,
        resume=body.resume or (),
        state_json=_state(body.state),
        options=RunOptions(tools=[_tool(tool) for tool in body.tools or ()], agent_options_json=_agent_options(body)),
    )


def decode(data: Raw, decoder: Decoder[T], where: str = "") -> T:
    """Decode JSON of good syntax. Raises Refusal, which names the field."""
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        complaint = _COMPLAINT.fullmatch(str(error))
        what, path = (complaint["what"], complaint["path"]) if complaint else (str(error), "")
        place = where + ("." if where and path and not path.startswith("[") else "") + path
        raise refused(place, f"{what}{' at ' if place else ''}{place}.") from None
    except msgspec.DecodeError:  # a lone surrogate: good syntax, and no text
        raise Refusal(400, "INVALID_JSON", "The body holds text that is not Unicode.") from None


def _with_thread(data: Raw, thread_id: str) -> Raw:
    members = decode(data, _MEMBERS)
    named = decode(members["threadId"], _TEXT, "threadId") if "threadId" in members else thread_id
    if named != thread_id:
        raise refused("threadId", "threadId is another thread than that of the path.")
    return Raw(msgspec.json.encode({**members, "threadId": thread_id}))


def _wished_agent(forwarded: Raw) -> str:
    try:
        wishes = msgspec.json.decode(forwarded, type=_Wishes)
    except msgspec.ValidationError:  # it is free: any JSON may stand there
        return ""
    return wishes.agent or wishes.agentId or wishes.agent_id or ""


def _state(state: Raw) -> str:
    """A client that holds no state sends an empty object: that is no wish to empty the thread's."""
    text = compact(state)
    return "" if text in ("null", "{}") else text


def _tool(tool: Tool) -> ClientTool:
    schema = "" if bytes(tool.parameters) == NULL else compact(tool.parameters)
    return ClientTool(name=tool.name, description=tool.description or "", schema_json=schema)


def _agent_options(body: Body) -> str:
    """What the agent is to know beside the conversation, under the names that AG-UI gives it."""
    wishes: Mapping[str, object] = {
        **({"context": body.context} if body.context else {}),
        **({"forwardedProps": body.forwarded_props} if bytes(body.forwarded_props) not in (NULL, b"{}") else {}),
    }
    return compact(Raw(msgspec.json.encode(wishes))) if wishes else ""
