"""The outboxes of a worker: what else it has to say, whether it is time to say it, and the bounds of all.

Packs what is unsent into requests. It knows neither handlers nor gRPC. Everything is called in the event loop.
"""

from __future__ import annotations

import asyncio

from penstock import wire
from penstock.outbox import Outbox
from penstock.v1.worker_service_pb2 import Credit, WorkerMessage

MAX_OUTPUTS = 4_000
MAX_BYTES = 1 << 20
MAX_BYTES_IN_ALL = 64 << 20

_LAST_RECORD = wire.MAX_OUTPUT + wire.MAX_ADDRESS + 64
"""Who was not told to wait may add one more record. Its size is kept free, so that no bound is ever passed."""


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
        """No use in gathering more: the core has nothing of ours to do, or a handler waits for it."""
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

    def awaited(self, box: Outbox) -> None:
        """A handler waits until `box` is stored."""
        if box.has_unsent:
            self.urgent.set()

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
