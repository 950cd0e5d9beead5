"""The messages and parts of one run as its events tell them, open ones with what has been said so far.

Folds message and part events; knows nothing of outputs, calls, steps or states.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from io import StringIO
from typing import Literal

from penstock.v1.event_pb2 import MessageEnded, MessageStarted, PartEnded, PartStarted
from penstock.v1.message_pb2 import Completion, Message, Part, PartKind, Role

Content = Literal["text", "reasoning", "tool_call", "tool_result", "file", "data", "source"]

TEXT = PartKind.PART_KIND_TEXT
REASONING = PartKind.PART_KIND_REASONING
TOOL_CALL = PartKind.PART_KIND_TOOL_CALL
TOOL_RESULT = PartKind.PART_KIND_TOOL_RESULT
WHOLE = PartKind.PART_KIND_UNSPECIFIED
"""Files, data and sources: they are never streamed."""

SPEECH = frozenset({TEXT, REASONING})
KINDS: dict[Content | None, PartKind.ValueType] = {
    "text": TEXT,
    "reasoning": REASONING,
    "tool_call": TOOL_CALL,
    "tool_result": TOOL_RESULT,
}


class OpenPart:
    """A part that has started and not ended; what was streamed is one string buffer, never a list (ENGINE.md J4)."""

    __slots__ = ("_buffer", "entry", "header", "kind", "length", "ordinal")

    def __init__(self, header: Part, entry: Entry) -> None:
        self.header = header
        self.entry = entry
        self.ordinal = header.ordinal
        self.kind = KINDS.get(header.WhichOneof("content"), WHOLE)
        self.length = 0
        """Characters of text and reasoning; bytes of arguments and results."""
        self._buffer = StringIO()

    def extend(self, text: str) -> None:
        """Add a delta."""
        self._buffer.write(text)
        self.length += len(text) if self.kind in SPEECH else utf8_length(text)

    def go_on_from(self, cut: OpenPart) -> None:
        """Begin with what a part that a pause cut off had collected."""
        self.extend(cut.text())

    def text(self) -> str:
        """Return everything streamed so far."""
        return self._buffer.getvalue()

    def snapshot(self) -> Part:
        """Return the part as a late joiner sees it: no completion, with what is known so far."""
        part = Part()
        part.CopyFrom(self.header)
        if self.kind == TEXT:
            part.text.text = self.text()
        elif self.kind == REASONING:
            part.reasoning.text = self.text()
        elif self.kind == TOOL_CALL:
            part.tool_call.raw_arguments = self.text()
        return part


def utf8_length(text: str) -> int:
    """Return the length of `text` in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


@dataclass(slots=True, eq=False)
class Entry:
    """One message of the run with its parts, ended and open."""

    header: Message
    lane: str
    ended_parts: dict[int, Part] = field(default_factory=dict)
    open_parts: dict[int, OpenPart] = field(default_factory=dict)
    has_result: bool = False
    """One of its calls has a result: it ends once none of its calls is open (rule 9)."""
    is_received: bool = False
    """It came from outside, and whole."""

    def open_calls(self) -> list[OpenPart]:
        """Return its calls whose arguments may still grow."""
        return [part for part in self.open_parts.values() if part.kind == TOOL_CALL]

    def message(self, retracted: Collection[int]) -> Message:
        """Return it whole. Retracted parts are left out, unless there are no others: then the message is marked."""
        if self.is_received:
            return self.header
        parts = self.ended_parts | {ordinal: part.snapshot() for ordinal, part in self.open_parts.items()}
        kept = parts.keys() - set(retracted)
        message = Message()
        message.CopyFrom(self.header)
        message.retracted = not kept
        message.parts.extend(parts[ordinal] for ordinal in sorted(kept or parts))
        return message


class Transcript:
    """All messages of the run in order of start, its own and those of steering. Its input is not among them."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self.open_entries: dict[str, Entry] = {}
        self.open_parts: dict[int, OpenPart] = {}
        self.assistant: dict[str, Entry] = {}
        """By lane: its open assistant message."""
        self.speech: dict[str, OpenPart] = {}
        """By lane: the open text or reasoning part of that message."""
        self.straight: OpenPart | None = None
        """The open text part of the main lane: where most outputs go."""
        self.last_ordinal = 0
        self.retracted: set[int] = set()

    def start_message(self, event: MessageStarted) -> None:
        header = Message()
        header.CopyFrom(event.message)
        entry = Entry(header, event.lane)
        self._entries[header.id] = self.open_entries[header.id] = entry
        if header.role == Role.ROLE_ASSISTANT:
            self.assistant[event.lane] = entry

    def receive(self, message: Message) -> None:
        """A message came from outside."""
        header = Message()
        header.CopyFrom(message)
        self._entries[header.id] = Entry(header, "", is_received=True)

    def start_part(self, event: PartStarted) -> OpenPart:
        header = Part()
        header.CopyFrom(event.part)
        entry = self._entries[event.message_id]
        part = OpenPart(header, entry)
        entry.open_parts[part.ordinal] = self.open_parts[part.ordinal] = part
        self.last_ordinal = part.ordinal
        if part.kind in SPEECH:
            self.speech[entry.lane] = part
            self.straight = part if part.kind == TEXT and not entry.lane else self.straight
        return part

    def end_part(self, event: PartEnded) -> OpenPart:
        whole = Part()
        whole.CopyFrom(event.part)
        part = self.open_parts.pop(whole.ordinal)
        entry = part.entry
        del entry.open_parts[part.ordinal]
        entry.ended_parts[part.ordinal] = whole
        if self.speech.get(entry.lane) is part:
            del self.speech[entry.lane]
        if self.straight is part:
            self.straight = None
        return part

    def end_message(self, event: MessageEnded) -> None:
        entry = self.open_entries.pop(event.message_id)
        entry.header.completion = event.completion
        if self.assistant.get(entry.lane) is entry:
            del self.assistant[entry.lane]

    def messages(self) -> list[Message]:
        """Return all messages, retracted and open ones included."""
        return [entry.message(self.retracted) for entry in self._entries.values()]

    def history(self, *, unread: Collection[str]) -> list[Message]:
        """Return what the thread keeps: ended messages without what was retracted, and without results cut off.

        A result cut off does not count: its call has another one, or waits for it. Steering messages that nobody has
        read were never part of the conversation.
        """
        kept = []
        for entry in self._entries.values():
            message = entry.message(self.retracted)
            if entry.is_received:
                counts = message.id not in unread
            else:
                counts = bool(message.completion) and not message.retracted and not _is_cut_result(message)
            if counts:
                kept.append(message)
        return kept


def _is_cut_result(message: Message) -> bool:
    return message.role == Role.ROLE_TOOL and any(
        part.completion == Completion.COMPLETION_INCOMPLETE for part in message.parts
    )
