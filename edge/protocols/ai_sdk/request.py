"""The body of a chat request, as `DefaultChatTransport`, `useCompletion` and apps of their own making post it.

Owns the fields and their defaults. What it does not understand is the app's own (`temperature`, `locale` …) and goes to
the agent as it came.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from msgspec import Raw, Struct

from edge.errors import Refusal
from edge.json_body import Members, compact, read, read_members, refused
from edge.protocols.ai_sdk.messages import UIMessage
from penstock.v1.run_pb2 import ClientTool, RunOptions

_UNDERSTOOD = frozenset(
    {"id", "threadId", "agent", "agentId", "messages", "message", "prompt", "trigger", "messageId", "tools", "answers"}
)


class Tool(Struct, rename="camel"):
    """A tool that the client runs."""

    name: str = ""
    description: str | None = None
    input_schema: dict[str, Raw] | None = None
    parameters: dict[str, Raw] | None = None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One request, understood."""

    agent_id: str
    thread_id: str
    """Empty: a conversation of this one request."""
    messages: tuple[UIMessage, ...]
    """Never empty."""
    asks_again: bool
    """The last message is to be answered anew, if it was asked before."""
    answers: Mapping[str, Raw]
    """Answers to questions that belong to no call, by the question's id; null declines."""
    options: RunOptions
    idempotency_key: str = ""

    @property
    def tail(self) -> tuple[UIMessage, ...]:
        """What was said behind the last answer."""
        answers = [place for place, said in enumerate(self.messages) if said.role == "assistant"]
        return self.messages[answers[-1] + 1 :] if answers else self.messages

    @property
    def needs_ids(self) -> bool:
        """What is new cannot be told without knowing the thread's messages: some of the tail may have been asked."""
        return len(self.tail) > 1 or (self.asks_again and len(self.tail) == 1)


def parse(
    data: Raw, *, agent_id: str = "", thread_id: str = "", default_agent: str = "", idempotency_key: str = ""
) -> ChatRequest:
    """Understand a request. `agent_id` and `thread_id` are those of the path, if it names them. Raises Refusal."""
    body = read_members(data, "")
    messages = _messages(body)
    trigger, message_id = _text(body, "trigger"), _text(body, "messageId")
    options = RunOptions(
        tools=_tools(body),
        agent_options_json=_rest(body),
        retry_after_output=False,  # what was streamed here cannot be taken back
    )
    return ChatRequest(
        agent_id=agent_id or _agent(body) or _default(default_agent),
        thread_id=thread_id or _text(body, "id") or _text(body, "threadId"),
        messages=messages,
        asks_again=trigger == "regenerate-message" or "" != message_id == messages[-1].id,
        answers=read(body["answers"], "answers", dict[str, Raw], "an object") if "answers" in body else {},
        options=options,
        idempotency_key=idempotency_key,
    )


def _messages(body: Members) -> tuple[UIMessage, ...]:
    if "prompt" in body:
        text = msgspec.json.encode({"type": "text", "text": _text(body, "prompt")})
        return (UIMessage(role="user", parts=[Raw(text)]),)
    if "message" in body:
        return (_message(body["message"], "message"),)
    raws = read(body.get("messages", Raw(b"[]")), "messages", list[Raw], "a list of UI messages")
    if not raws:
        raise refused("messages", "Nothing was said: send messages, message or prompt.")
    return tuple(_message(raw, f"messages[{number}]") for number, raw in enumerate(raws))


def _message(raw: Raw, path: str) -> UIMessage:
    return read(raw, path, UIMessage, "a UI message: an object with id, role and parts")


def _agent(body: Members) -> str:
    return _text(body, "agent") or _text(body, "agentId")


def _default(agent_id: str) -> str:
    if not agent_id:
        message = "Which agent? Name it in the path or as `agent` in the body, or set `default_agent` of the edge."
        raise Refusal(400, "INVALID_ARGUMENT", message, field="agent")
    return agent_id


def _tools(body: Members) -> list[ClientTool]:
    """Read the client's tools: a list, or an object with the names as keys."""
    if "tools" not in body:
        return []
    if bytes(body["tools"]).startswith(b"{"):
        named = read(body["tools"], "tools", dict[str, Tool], "tools by their names")
        return [_tool(tool, name) for name, tool in named.items()]
    listed = read(body["tools"], "tools", list[Tool], "a list of tools, or tools by their names")
    return [_tool(tool, tool.name) for tool in listed]


def _tool(tool: Tool, name: str) -> ClientTool:
    schema = tool.input_schema if tool.input_schema is not None else tool.parameters
    schema_json = "" if schema is None else compact(Raw(msgspec.json.encode(schema)))
    return ClientTool(name=name, description=tool.description or "", schema_json=schema_json)


def _rest(body: Members) -> str:
    wishes = {name: raw for name, raw in body.items() if name not in _UNDERSTOOD}
    return compact(Raw(msgspec.json.encode(wishes))) if wishes else ""


def _text(body: Members, name: str) -> str:
    return read(body[name], name, str, "a string") if name in body else ""
