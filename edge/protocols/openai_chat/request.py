"""The body of `POST /chat/completions`, and the run that it asks for.

Owns the shape of the request and its defaults. It refuses what a client would miss (`n` above one, unknown roles).
What tunes a model or is beyond an agent (`temperature`, `response_format`, `seed` …) goes to the agent as it came.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta, Raw, Struct

from edge.json_body import refused
from edge.openai import tools
from edge.openai.bodies import IDEMPOTENCY_HEADER, THREAD_HEADER, agent_options, read_body
from edge.protocols.openai_chat.messages import ChatMessage, to_messages
from penstock.v1.run_pb2 import ClientTool, RunOptions
from penstock.v1.run_service_pb2 import CreateRunRequest

THREAD_KEY = "thread_id"
"""In `metadata`, for clients that cannot set the header."""


class Function(Struct):
    name: Annotated[str, Meta(min_length=1)]
    description: str | None = None
    parameters: dict[str, Raw] | None = None


class Tool(Struct, tag_field="type", tag="function"):
    function: Function


class StreamOptions(Struct):
    include_usage: bool | None = None


class Body(Struct):
    model: Annotated[str, Meta(min_length=1)]
    messages: Annotated[list[ChatMessage], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None
    tools: list[Tool] | None = None
    tool_choice: Raw = Raw(b"null")
    metadata: dict[str, str] | None = None


_UNDERSTOOD = frozenset({"model", "messages", "stream", "stream_options", "n", "tools", "metadata"})


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One request, understood."""

    create: CreateRunRequest
    is_stream: bool
    includes_usage: bool


def parse(data: Raw, headers: Mapping[str, str]) -> ChatRequest:
    """Understand a request. Raises Refusal, so that nothing half-made ever starts."""
    body = read_body(data, Body)
    if body.n not in (None, 1):
        raise refused("n", "An agent gives one answer: n must be 1.")
    labels = dict(body.metadata or {})
    thread_of_body = labels.pop(THREAD_KEY, "")
    create = CreateRunRequest(
        request_id=headers.get(IDEMPOTENCY_HEADER, ""),
        agent_id=body.model,
        thread_id=headers.get(THREAD_HEADER, thread_of_body),
        input=to_messages(body.messages),
        options=RunOptions(
            tools=_offers(body),
            agent_options_json=agent_options(data, _UNDERSTOOD),
            retry_after_output=False,  # what was streamed here cannot be taken back
        ),
        metadata=labels,
    )
    options = body.stream_options
    return ChatRequest(create, bool(body.stream), includes_usage=bool(options and options.include_usage))


def _offers(body: Body) -> list[ClientTool]:
    if bytes(body.tool_choice) == b'"none"':  # what is not offered is surely not called
        return []
    functions = [tool.function for tool in body.tools or ()]
    return [tools.offer(function.name, function.description, function.parameters) for function in functions]
