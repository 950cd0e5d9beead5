"""The body of `POST /responses`: what is asked of which agent, where it goes on, and how the answer is to come.

Owns the shape of the request and its defaults. What tunes a model or is beyond an agent (`temperature`, `text`,
`truncation` …) goes to the agent as it came.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta, Raw, Struct

from edge.errors import Refusal
from edge.json_body import refused
from edge.openai import tools
from edge.openai.bodies import IDEMPOTENCY_HEADER, agent_options, read_body
from edge.protocols.openai_responses import ids
from edge.protocols.openai_responses.input import Entry, read_input
from edge.protocols.openai_responses.origin import Origin
from penstock.v1.run_pb2 import ClientTool, RunOptions

Name = Annotated[str, Meta(min_length=1)]


class Tool(Struct, tag_field="type", tag="function"):
    name: Name
    description: str | None = None
    parameters: dict[str, Raw] | None = None


class Server(Struct, tag_field="type", tag="mcp"):
    """The agent's own tools, as some clients must declare them before they may approve a call."""

    server_label: str


class Conversation(Struct):
    id: Name


class Body(Struct):
    model: Name
    input: Raw = Raw(b"null")
    instructions: str | None = None
    stream: bool | None = None
    background: bool | None = None
    store: bool | None = None
    previous_response_id: str | None = None
    conversation: Name | Conversation | None = None
    tools: list[Tool | Server] | None = None
    tool_choice: Raw = Raw(b"null")
    metadata: dict[str, str] | None = None
    include: list[str] | None = None


_UNDERSTOOD = frozenset(Body.__struct_fields__) - {"tool_choice"} | {"stream_options"}


@dataclass(frozen=True, slots=True)
class ResponseRequest:
    """One request, understood."""

    agent_id: str
    entries: Sequence[Entry]
    instructions: str
    previous: ids.ResponseRef | None
    thread_id: str
    """The thread of the conversation; empty when none is named."""
    options: RunOptions
    metadata: Mapping[str, str]
    origin: Origin
    is_stream: bool
    request_id: str


def parse(data: Raw, headers: Mapping[str, str]) -> ResponseRequest:
    """Understand a request. Raises Refusal, so that nothing half-made ever starts."""
    body = read_body(data, Body)
    if bytes(body.input) == b"null":
        raise refused("input", "input is missing: there is nothing to answer.")
    origin = _origin(body)
    return ResponseRequest(
        agent_id=body.model,
        entries=read_input(body.input),
        instructions=body.instructions or "",
        previous=_previous(body.previous_response_id),
        thread_id=ids.thread_id(origin.conversation or ""),
        options=RunOptions(
            tools=_offers(body),
            agent_options_json=agent_options(data, _UNDERSTOOD),
            retry_after_output=False,  # what was streamed here cannot be taken back
        ),
        metadata=body.metadata or {},
        origin=origin,
        is_stream=bool(body.stream),
        request_id=headers.get(IDEMPOTENCY_HEADER, ""),
    )


def _origin(body: Body) -> Origin:
    conversation = body.conversation.id if isinstance(body.conversation, Conversation) else body.conversation
    if body.previous_response_id and conversation:
        raise refused("previous_response_id", "Give previous_response_id or conversation, not both.")
    if body.background and body.store is False:
        raise refused("store", "A background response must be stored, or nobody could ever see it.")
    return Origin(
        previous_response_id=body.previous_response_id,
        conversation=conversation,
        background=bool(body.background),
        store=body.store is not False,
        encrypted="reasoning.encrypted_content" in (body.include or ()),
    )


def _previous(response_id: str | None) -> ids.ResponseRef | None:
    if not response_id:
        return None
    ref = ids.response_ref(response_id)
    if ref is None:
        raise unknown_previous(response_id)
    return ref


def unknown_previous(response_id: str) -> Refusal:
    """Return the refusal of a previous response that is not there."""
    message = f"There is no response {response_id[:80]!r} to go on with."
    return Refusal(400, "PREVIOUS_RESPONSE_NOT_FOUND", message, field="previous_response_id")


def _offers(body: Body) -> list[ClientTool]:
    if bytes(body.tool_choice) == b'"none"':  # what is not offered is surely not called
        return []
    offers = [_offer(tool, body.model, f"tools[{number}]") for number, tool in enumerate(body.tools or ())]
    return [offer for offer in offers if offer is not None]


def _offer(tool: Tool | Server, agent_id: str, where: str) -> ClientTool | None:
    if isinstance(tool, Tool):
        return tools.offer(tool.name, tool.description, tool.parameters)
    if tool.server_label != agent_id:
        raise refused(f"{where}.server_label", f"An agent has the tools it has; those of this one are {agent_id!r}.")
    return None
