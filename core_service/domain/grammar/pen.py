"""Writes events: numbers them, stamps them, folds them, and keeps their records until they are taken for the log."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.timestamp_pb2 import Timestamp

from core_service.domain import segments
from core_service.domain.grammar.fold import Fold
from core_service.domain.grammar.transcript import OpenPart
from penstock.v1.event_pb2 import Event
from penstock.v1.run_service_pb2 import WatchRunResponse


def set_time(target: Timestamp, micros: int) -> None:
    """Set an instant, microseconds since 1970 UTC. By hand: the methods of Timestamp take five times as long."""
    target.seconds, rest = divmod(micros, 1_000_000)
    target.nanos = rest * 1000


class Pen:
    """The one place where a seq is given out."""

    def __init__(self, fold: Fold) -> None:
        self.now = 0
        """When what is being written happens; microseconds since 1970 UTC."""
        self._fold = fold
        self._records = bytearray()
        self._taken_bytes = 0
        self._streamed: OpenPart | None = None
        # The template of all deltas: a segment of one event, so that serialising it makes the record at once. Mutating
        # a message is right only here: it never leaves this class, and building one each time costs three times as
        # much (ENGINE.md N2).
        self._segment = WatchRunResponse()
        self._event = self._segment.events.add()
        self._delta = self._event.part_delta

    @property
    def time(self) -> int:
        """The time that the next event gets: `now`, but never before the last one."""
        return max(self.now, self._fold.time)

    @property
    def size_bytes(self) -> int:
        """Bytes of all records of the run."""
        return self._taken_bytes + len(self._records)

    def read(self, events: Iterable[Event]) -> None:
        """Take in events that are in the log already."""
        apply = self._fold.apply
        size = 0
        for event in events:
            apply(event)
            length = event.ByteSize()
            size += length + (2 if length < 0x80 else 1 + len(segments.varint(length)))
        self._taken_bytes += size

    def write(self, event: Event) -> None:
        """Write an event that is complete but for its seq and time."""
        event.seq = self._fold.seq + 1
        set_time(event.create_time, self.time)
        self._records += segments.record(event.SerializeToString(deterministic=True))
        self._fold.apply(event)

    def write_delta(self, part: OpenPart, text: str) -> None:
        """Write a delta of an open part. Deltas have no time."""
        if part is not self._streamed:
            self._streamed = part
            self._delta.part = part.ordinal
            self._delta.kind = part.kind
        fold = self._fold
        self._event.seq = fold.seq = fold.seq + 1
        self._delta.text = text
        self._records += self._segment.SerializeToString()
        part.extend(text)

    def take(self) -> bytes:
        """Return the records written since the last call."""
        records = bytes(self._records)
        self._taken_bytes += len(records)
        self._records.clear()
        return records
