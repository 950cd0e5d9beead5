"""What a run has said up to now, as messages: for a snapshot in the middle of it.

Owns the order of messages and the text of parts that are still open, which the shared fold does not keep. It does not
know how AG-UI writes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from edge.fold import Fold, FoldedPart
from penstock.v1.event_pb2 import Event, PartDelta
from penstock.v1.message_pb2 import Completion, Message, Part


class Said:
    """The messages of a run in order of their start, those that it received included."""

    def __init__(self, fold: Fold) -> None:
        self._fold = fold
        self._order: list[str | Message] = []  # ids of its own
        self._pieces: dict[int, list[str]] = {}  # of open parts, by ordinal

    def add_piece(self, delta: PartDelta) -> None:
        """Add a piece of a part, as long as its text may be asked for before it has ended."""
        self._pieces.setdefault(delta.part, []).append(delta.text)

    def feed(self, event: Event, payload: str | None) -> None:
        """Add the next event that is no piece."""
        match payload:
            case "part_ended":
                self._pieces.pop(event.part_ended.part.ordinal, None)
            case "message_started":
                self._order.append(event.message_started.message.id)
            case "message_received":
                received = Message()
                received.CopyFrom(event.message_received.message)
                self._order.append(received)
            case _:
                pass

    def messages(self, is_shown: Callable[[FoldedPart], bool]) -> Iterator[Message]:
        """Yield the messages with the parts that count and are shown; those without any are not there."""
        own: dict[str, Message] = {}
        for ordinal, folded in sorted(self._fold.parts.items()):
            if ordinal not in self._fold.retracted and is_shown(folded) and not _is_half_result(folded):
                header = folded.message.message
                message = own.get(header.id)
                if message is None:
                    message = own[header.id] = Message()
                    message.CopyFrom(header)
                message.parts.append(self._as_it_is(folded))
        for entry in self._order:
            if isinstance(entry, Message):
                yield entry
            elif entry in own:
                yield own[entry]

    def _as_it_is(self, folded: FoldedPart) -> Part:
        if not folded.is_open:
            return folded.part
        part = Part()
        part.CopyFrom(folded.part)
        text = "".join(self._pieces.get(part.ordinal, ()))
        match part.WhichOneof("content"):
            case "text":
                part.text.text = text
            case "reasoning":
                part.reasoning.text = text
            case "tool_call":
                part.tool_call.raw_arguments = text
            case _:
                pass
        return part


def _is_half_result(folded: FoldedPart) -> bool:
    """True for a result that is still streamed, or was cut off: its call has another one, or waits for it."""
    is_whole = folded.part.completion == Completion.COMPLETION_COMPLETE
    return folded.part.HasField("tool_result") and not is_whole
