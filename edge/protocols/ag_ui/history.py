"""Which of a request's messages are new to its thread, and the conversation as both sides have it then.

A client sends all messages every time, each with an id. Those that the thread knows by that id are left out. On a
thread that has messages only what a person or a tool says can be new: an answer that the thread does not know was taken
back, or never was one of ours. An empty thread takes all, so that a conversation can move in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from msgspec import Raw

from edge.json_body import compact, refused
from edge.protocols.ag_ui.conversation import Earlier, entries_of, public_id, put_aside, reasoning_id
from edge.protocols.ag_ui.messages import (
    Activity,
    Assistant,
    ClientMessage,
    Reasoning,
    Tool,
    User,
    to_message,
    tool_names,
    tool_result,
)
from edge.protocols.ag_ui.request import AgUiRequest
from edge.protocols.ag_ui.threads import KnownThread
from penstock.v1.message_pb2 import Message, Role, ToolResultPart

_ANSWERS = (Role.ROLE_ASSISTANT, Role.ROLE_TOOL)

Numbered = tuple[int, ClientMessage]
"""A message with its place in the request."""


@dataclass(frozen=True, slots=True)
class History:
    """A request's messages, held against those of its thread."""

    asked: AgUiRequest
    known: KnownThread | None
    new: Sequence[Numbered]

    def input(self) -> list[Message]:
        """Return what a new run is to answer. When nothing is new, the last question is asked again."""
        asked = self.new or _asked_again(self.asked.messages)
        if not asked:
            raise refused("messages", "There is nothing to answer: no message of a user or a tool.")
        names = tool_names(self.asked.messages)
        return [to_message(said, f"messages[{number}]", names) for number, said in asked]

    def results(self) -> dict[str, ToolResultPart]:
        """Return the results of tools that the request brings, by call id."""
        names = tool_names(self.asked.messages)
        return {
            said.tool_call_id: tool_result(said, names.get(said.tool_call_id, ""), f"messages[{number}]")
            for number, said in enumerate(self.asked.messages)
            if isinstance(said, Tool)
        }

    def earlier(self, *, without: str = "") -> Earlier:
        """Return the thread's messages and the new ones, in the client's words where it has any.

        `without` is a run whose own messages the stream tells itself.
        """
        held = [*self.known.messages, *self.known.said] if self.known is not None else []
        told = [message for message in held if not message.retracted and not _is_own(message, without)]
        raw_by_id = dict(zip((said.id for said in self.asked.messages), self.asked.raw_messages, strict=True))
        entries = entries_of(told, self.asked.dialect)
        listed = [raw_by_id.get(str(entry["id"]), entry) for entry in entries]
        new = [self.asked.raw_messages[number] for number, _ in self.new]
        return put_aside(Raw(compact(entry).encode()) if isinstance(entry, Raw) else entry for entry in [*listed, *new])


def compare(asked: AgUiRequest, known: KnownThread | None) -> History:
    """Find out what is new."""
    listed = [(number, said) for number, said in enumerate(asked.messages) if not isinstance(said, Activity)]
    held = [*known.messages, *known.said] if known is not None else []
    if held:
        ids, answered = _ids(held), _answered(held)
        listed = [(number, said) for number, said in listed if said.id not in ids and _may_be_new(said, answered)]
    return History(asked, known, listed)


def _may_be_new(said: ClientMessage, answered: set[str]) -> bool:
    if isinstance(said, Tool):
        return said.tool_call_id not in answered
    return not isinstance(said, Assistant | Reasoning)


def _asked_again(messages: Sequence[ClientMessage]) -> Sequence[Numbered]:
    """Return what stands behind the last answer, else the user's last message: a run had failed, or is repeated."""
    numbered = list(enumerate(messages))
    behind = max((number for number, said in numbered if isinstance(said, Assistant)), default=-1)
    questions = [one for one in numbered if not isinstance(one[1], Assistant | Reasoning | Activity)]
    last = [one for one in questions if isinstance(one[1], User)][-1:]
    return [one for one in questions if one[0] > behind] or last


def _is_own(message: Message, run_id: str) -> bool:
    """True for what a run said itself, which has no sender's id."""
    return message.run_id == run_id and message.role in _ANSWERS and not message.client_id


def _ids(messages: Iterable[Message]) -> set[str]:
    """Return the ids under which a client may have these messages."""
    ids = set()
    for message in messages:
        ids.add(public_id(message))
        ids |= {reasoning_id(message, part) for part in message.parts if part.HasField("reasoning")}
    return ids


def _answered(messages: Iterable[Message]) -> set[str]:
    """Return the ids of calls that have a result."""
    parts = (part for message in messages for part in message.parts)
    return {part.tool_result.call_id for part in parts if part.HasField("tool_result")}
