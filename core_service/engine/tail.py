"""The newest committed events of busy runs, in memory.

A cache and nothing else: whatever is missing here is read from the store. It saves the reads of watchers that are level
with their run, which is nearly all of them.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from core_service.domain.segments import skip
from core_service.ports import Segment
from penstock.v1.run_pb2 import RunState


@dataclass(frozen=True, slots=True)
class End:
    """Where the log of an ended run ends: it stays true for ever."""

    tenant: str
    last_seq: int
    state: RunState.ValueType


class _RunTail:
    """Consecutive segments of one run."""

    __slots__ = ("end", "segments", "size")

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self.size = 0
        self.end: End | None = None

    def add(self, segment: Segment, max_bytes: int) -> int:
        """Add a segment, drop the oldest beyond `max_bytes`, and return by how much the size changed."""
        before = self.size
        if self.segments and self.segments[-1].last_seq + 1 != segment.first_seq:
            self.segments.clear()
            self.size = 0
        self.segments.append(segment)
        self.size += len(segment.data)
        drop = 0
        while self.size > max_bytes and drop < len(self.segments) - 1:
            self.size -= len(self.segments[drop].data)
            drop += 1
        if drop:
            del self.segments[:drop]
        return self.size - before

    def after(self, seq: int, max_bytes: int) -> Segment | None:
        """Return events from seq + 1 on, joined up to about `max_bytes`; None when they are not all here."""
        segments = self.segments
        if not segments or segments[0].first_seq > seq + 1 or segments[-1].last_seq <= seq:
            return None
        start = len(segments) - 1
        while segments[start].first_seq > seq + 1:
            start -= 1
        first = segments[start]
        pieces = [first.data[skip(first.data, seq + 1 - first.first_seq) :]]
        size, last = len(pieces[0]), first.last_seq
        for segment in segments[start + 1 :]:
            size += len(segment.data)
            if size > max_bytes:
                break
            pieces.append(segment.data)
            last = segment.last_seq
        return Segment(seq + 1, last, pieces[0] if len(pieces) == 1 else b"".join(pieces))


class Tail:
    """Bounded per run and in all; the run that was quiet longest goes first."""

    def __init__(self, *, run_bytes: int, total_bytes: int) -> None:
        self._run_bytes = run_bytes
        self._total_bytes = total_bytes
        self._runs: OrderedDict[str, _RunTail] = OrderedDict()
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes held."""
        return self._size

    def add(self, run_id: str, segment: Segment, end: End | None = None) -> None:
        """Add a committed segment; `end` when it is the last one."""
        run = self._runs.get(run_id)
        if run is None:
            run = self._runs[run_id] = _RunTail()
        else:
            self._runs.move_to_end(run_id)
        run.end = end
        self._size += run.add(segment, self._run_bytes)
        while self._size > self._total_bytes and len(self._runs) > 1:
            self._size -= self._runs.popitem(last=False)[1].size

    def forget(self, run_id: str) -> None:
        """Drop what is held of a run: it was deleted, or its events have expired."""
        if (run := self._runs.pop(run_id, None)) is not None:
            self._size -= run.size

    def after(self, run_id: str, seq: int, *, max_bytes: int) -> Segment | None:
        """Return the run's events from seq + 1 on, joined up to about `max_bytes`; None: ask the store."""
        run = self._runs.get(run_id)
        return run.after(seq, max_bytes) if run else None

    def end(self, run_id: str) -> End | None:
        """Return where the run's log ends, if it has ended and is held here."""
        run = self._runs.get(run_id)
        return run.end if run else None
