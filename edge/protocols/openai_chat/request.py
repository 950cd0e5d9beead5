"""The body of `POST /chat/completions`, and the run that it asks for.

Owns the shape of the request and its defaults. It refuses what a client would miss (`n` above one, unknown roles).
What tunes a model or is beyond an agent (`temperature`, `response_format`, `seed` …) goes to the agent as it came.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

from edge.errors import Refusal
from edge.json_body import compact, refused
from edge.protocols.openai_chat.messages import ChatMessage, to_messages
from penstock.v1.run_pb2 import ClientTool, RunOptions
from penstock.v1.run_service_pb2 import CreateRunRequest

THREAD_HEADER = "X-Thread-Id"
THREAD_KEY = "thread_id"
"""The same in `metadata`, for clients that cannot set a header."""
IDEMPOTENCY_HEADER = "Idempotency-Key"


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
_COMPLAINT = re.compile(r"(?P<what>.*) - at `\$\.(?P<path>.*)`")


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One request, understood."""

    create: CreateRunRequest
    is_stream: bool
    includes_usage: bool


def parse(data: Raw, headers: Mapping[str, str]) -> ChatRequest:
    """Understand a request. Raises Refusal, so that nothing half-made ever starts."""
    body, agent_options = _decoded(data)
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
            tools=_tools(body),
            agent_options_json=agent_options,
            retry_after_output=False,  # what was streamed here cannot be taken back
        ),
        metadata=labels,
    )
    options = body.stream_options
    return ChatRequest(create, bool(body.stream), includes_usage=bool(options and options.include_usage))


def _decoded(data: Raw) -> tuple[Body, str]:
    try:
        return msgspec.json.decode(data, type=Body), _agent_options(data)
    except msgspec.ValidationError as error:
        complaint = _COMPLAINT.fullmatch(str(error))
        if complaint is None:
            raise refused("", f"{error}.") from None
        raise refused(complaint["path"], f"{complaint['what']} at {complaint['path']}.") from None
    except msgspec.DecodeError:  # a lone surrogate: good syntax, and no text
        raise Refusal(400, "INVALID_JSON", "The body holds text that is not Unicode.") from None


def _agent_options(data: Raw) -> str:
    fields = msgspec.json.decode(data, type=dict[str, Raw])
    wishes = {name: raw for name, raw in fields.items() if name not in _UNDERSTOOD and bytes(raw) != b"null"}
    return _compact(wishes) if wishes else ""


def _tools(body: Body) -> list[ClientTool]:
    if bytes(body.tool_choice) == b'"none"':  # what is not offered is surely not called
        return []
    return [_tool(tool.function) for tool in body.tools or ()]


def _tool(function: Function) -> ClientTool:
    schema = "" if function.parameters is None else _compact(function.parameters)
    return ClientTool(name=function.name, description=function.description or "", schema_json=schema)


def _compact(members: Mapping[str, Raw]) -> str:
    return compact(Raw(msgspec.json.encode(members)))
