"""The outputs that a worker has made and that no core has acknowledged: numbered per run, bounded, ready to be resent.

An `Outbox` holds those of one attempt as records (`wire.py`). Numbers are given here and nowhere else, so that a resend
adds nothing twice. Nothing here knows handlers or gRPC. Everything is called in the event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from penstock import wire

if TYPE_CHECKING:
    from penstock.outboxes import Outboxes

_OVERHEAD = 128
"""More than an Outputs message weighs beside its records."""


class _Chunk(NamedTuple):
    """Consecutive records that travel together."""

    first: int
    last: int
    records: bytes


class Outbox:
    """What one attempt has said, and how far it got. `acked` ≤ `sent` ≤ `last`; all are numbers of outputs.

    Once closed it forgets what it is given, and `room` raises CancelledError: the run is somebody else's.
    """

    def __init__(self, boxes: Outboxes, run_id: str, attempt: int) -> None:
        self.last = 0
        self.sent = 0
        self.acked = 0
        self.closed = False
        self._boxes = boxes
        self._head = wire.outputs_head(run_id, attempt)
        self._bytes = 0
        self._chunk_bytes = 0
        self._fresh: list[bytes] = []
        self._unsent: deque[_Chunk] = deque()
        self._under_way: deque[_Chunk] = deque()
        self._waiters: list[asyncio.Future[None]] = []
        self._awaited: list[tuple[int, asyncio.Future[None]]] = []

    def add(self, record: bytes) -> bool:
        """Number and keep a record. True: there is room for more; else the caller must await `room`."""
        if self.closed:
            return False
        if not self._fresh:
            self._boxes.stir(self)
        self._fresh.append(record)
        self.last += 1
        size = len(record)
        self._bytes += size
        self._boxes.bytes += size
        return self.has_room_for(1)

    def has_room_for(self, count: int) -> bool:
        """So many more outputs may be added."""
        boxes = self._boxes
        return (
            self.last - self.acked + count <= boxes.max_outputs
            and self._bytes <= boxes.max_bytes
            and boxes.bytes <= boxes.max_bytes_in_all
        )

    @property
    def has_unsent(self) -> bool:
        """The stream has not carried everything."""
        return self.sent < self.last

    @property
    def is_pending(self) -> bool:
        """The core has not stored everything."""
        return self.acked < self.last

    async def room(self) -> None:
        """Return once there is room for another output."""
        while not self.closed and not self.has_room_for(1):
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            self._boxes.blocked(self)
            await waiter
        self._check_held()

    async def stored(self, number: int) -> None:
        """Return once the core has stored the output of this number, and so all before it."""
        if self.acked < number and not self.closed:
            waiter = asyncio.get_running_loop().create_future()
            self._awaited.append((number, waiter))
            self._boxes.awaited(self)
            await waiter
        self._check_held()

    def wake(self) -> None:
        """Let those who wait for room look again."""
        if self._waiters:
            waiters, self._waiters = self._waiters, []
            _release(waiters)

    def take(self, limit: int) -> bytes | None:
        """The next unsent outputs as a piece of a request of at most `limit` bytes; None when nothing fits."""
        if not self._unsent and not self._bundle(limit - _OVERHEAD):
            return None
        if len(self._unsent[0].records) > limit - _OVERHEAD:
            return None
        chunk = self._unsent.popleft()
        self._under_way.append(chunk)
        if self.sent == self.acked:
            self._boxes.in_flight += 1
        self.sent = chunk.last
        return wire.outputs_message(self._head, chunk.first, chunk.records)

    def accept(self, accepted: int) -> None:
        """The core has stored the outputs up to `accepted`. What was never sent, and old news, is ignored."""
        if not self.acked < accepted <= self.sent:
            return
        self.acked = accepted
        self._drop(self._under_way, accepted)
        if accepted == self.sent:
            self._boxes.landed()
        self._tell_stored()
        self.wake()

    def rewind(self) -> None:
        """The stream is gone: everything that was under way is unsent again."""
        if self.sent > self.acked:
            self._boxes.landed()
        self._unsent.extendleft(reversed(self._under_way))
        self._under_way.clear()
        self.sent = self.acked

    def resume(self, accepted: int) -> None:
        """A new stream: go on behind `accepted`, which lies in what is unsent or just before it."""
        self._drop(self._unsent, accepted)
        if self._unsent and self._unsent[0].first <= accepted:
            self._unsent[0] = self._cut(self._unsent[0], accepted)
        self.sent = self.acked = accepted
        if self.has_unsent:
            self._boxes.stir(self)
        else:
            self._boxes.unsent.pop(self, None)
        self._tell_stored()
        self.wake()

    def close(self) -> None:
        """Forget everything; nothing more will be sent."""
        self.rewind()
        self.closed = True
        self._unsent.clear()
        self._fresh.clear()
        self._free(self._bytes)
        self._boxes.unsent.pop(self, None)
        self._tell_stored()
        self.wake()

    def _check_held(self) -> None:
        if self.closed:
            raise asyncio.CancelledError("the run is not held any more")

    def _tell_stored(self) -> None:
        if self._awaited:
            stored = [waiter for number, waiter in self._awaited if self.closed or number <= self.acked]
            self._awaited = [entry for entry in self._awaited if not self.closed and entry[0] > self.acked]
            _release(stored)

    def _bundle(self, limit: int) -> bool:
        """Make the fresh records that fit a chunk. False: there are none, or none fits."""
        count = len(self._fresh)
        if self._bytes - self._chunk_bytes > limit:
            count = _count_that_fits(self._fresh, limit)
        if not count:
            return False
        chunk = _Chunk(self.sent + 1, self.sent + count, b"".join(self._fresh[:count]))
        self._fresh = self._fresh[count:]
        self._chunk_bytes += len(chunk.records)
        self._unsent.append(chunk)
        return True

    def _drop(self, chunks: deque[_Chunk], accepted: int) -> None:
        while chunks and chunks[0].last <= accepted:
            chunk = chunks.popleft()
            self._chunk_bytes -= len(chunk.records)
            self._free(len(chunk.records))

    def _cut(self, chunk: _Chunk, accepted: int) -> _Chunk:
        offset = wire.skip(chunk.records, accepted + 1 - chunk.first)
        self._chunk_bytes -= offset
        self._free(offset)
        return _Chunk(accepted + 1, chunk.last, chunk.records[offset:])

    def _free(self, size: int) -> None:
        self._bytes -= size
        self._boxes.freed(size)


def _release(waiters: list[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)


def _count_that_fits(records: list[bytes], limit: int) -> int:
    size = 0
    for count, record in enumerate(records):
        size += len(record)
        if size > limit:
            return count
    return len(records)
