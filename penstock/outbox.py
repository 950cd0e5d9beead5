"""The outputs that a worker has made and that no core has acknowledged: numbered per run, bounded, ready to be resent.

An `Outbox` holds those of one attempt as records (`wire.py`); `Outboxes` holds the boxes of a worker, says when there
is something to send, and packs requests. Numbers are given here and nowhere else, so that a resend adds nothing twice.
Nothing here knows handlers or gRPC. Everything is called in the event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

from penstock import wire
from penstock.v1.worker_service_pb2 import Credit, WorkerMessage

MAX_OUTPUTS = 4_000
MAX_BYTES = 1 << 20
MAX_BYTES_IN_ALL = 64 << 20

_LAST_RECORD = wire.MAX_OUTPUT + 64
"""Who was not told to wait may add one more record. Its size is kept free, so that no bound is ever passed."""
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
        self._waiter: asyncio.Future[None] | None = None

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
            self._waiter = asyncio.get_running_loop().create_future()
            self._boxes.blocked(self)
            await self._waiter
        if self.closed:
            raise asyncio.CancelledError("the run is not held any more")

    def wake(self) -> None:
        """Let whoever waits for room look again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

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
        self.wake()

    def close(self) -> None:
        """Forget everything; nothing more will be sent."""
        self.rewind()
        self.closed = True
        self._unsent.clear()
        self._fresh.clear()
        self._free(self._bytes)
        self._boxes.unsent.pop(self, None)
        self.wake()

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


def _count_that_fits(records: list[bytes], limit: int) -> int:
    size = 0
    for count, record in enumerate(records):
        size += len(record)
        if size > limit:
            return count
    return len(records)


class Outboxes:
    """All outboxes of a worker, what else it has to say, and whether it is time to say it."""

    def __init__(self) -> None:
        self.max_outputs = MAX_OUTPUTS
        self.max_bytes = MAX_BYTES - _LAST_RECORD
        self.max_bytes_in_all = MAX_BYTES_IN_ALL - _LAST_RECORD
        self.bytes = 0
        self.in_flight = 0
        """Boxes that wait for an acknowledgement of what they sent."""
        self.unsent: dict[Outbox, None] = {}
        self.stirred = asyncio.Event()
        """There is something to send."""
        self.urgent = asyncio.Event()
        """No use in gathering more: the core has nothing of ours to do, or a handler waits for room."""
        self._said: list[bytes] = []
        self._credit = 0
        self._waiting: list[Outbox] = []

    def open(self, run_id: str, attempt: int) -> Outbox:
        """An empty outbox."""
        return Outbox(self, run_id, attempt)

    def limit(self, *, outputs: int, size: int) -> None:
        """Bounds of one run as the core wishes them; 0 leaves ours, which are never exceeded."""
        self.max_outputs = min(outputs or MAX_OUTPUTS, MAX_OUTPUTS)
        self.max_bytes = max(min(size or MAX_BYTES, MAX_BYTES) - _LAST_RECORD, 0)

    def say(self, message: WorkerMessage) -> None:
        """Send a message, ahead of the outputs that wait."""
        self._said.append(wire.message(message))
        self.stirred.set()

    def credit(self, runs: int) -> None:
        """The core may send that many more runs."""
        self._credit += runs
        self.stirred.set()

    def begin(self) -> None:
        """A new stream: what was to be said on the old one is void."""
        self._said.clear()
        self._credit = 0

    def stir(self, box: Outbox) -> None:
        """`box` has something to send."""
        self.unsent[box] = None
        self.stirred.set()

    def blocked(self, box: Outbox) -> None:
        """A handler waits for room in `box`."""
        if box.has_unsent:
            self.urgent.set()
        if self.bytes > self.max_bytes_in_all:
            self._waiting.append(box)

    def freed(self, size: int) -> None:
        """That many bytes are not held any more."""
        self.bytes -= size
        if self._waiting and self.bytes <= self.max_bytes_in_all:
            waiting, self._waiting = self._waiting, []
            for box in waiting:
                box.wake()

    def landed(self) -> None:
        """One box more has nothing under way."""
        self.in_flight -= 1
        if not self.in_flight:
            self.urgent.set()

    def take(self) -> bytes | None:
        """The next request of at most 1 MiB; None once everything has been sent."""
        pieces, self._said = self._said, []
        if self._credit:
            pieces.append(wire.message(WorkerMessage(credit=Credit(runs=self._credit))))
            self._credit = 0
        free = wire.MAX_REQUEST - sum(map(len, pieces))
        while self.unsent:
            box = next(iter(self.unsent))
            piece = box.take(free)
            if piece is None:
                break
            pieces.append(piece)
            free -= len(piece)
            if not box.has_unsent:
                del self.unsent[box]
        if pieces:
            return b"".join(pieces)
        self.stirred.clear()
        self.urgent.clear()
        return None
