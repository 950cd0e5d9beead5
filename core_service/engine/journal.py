"""The only writer of events: it gathers what all owned runs have made, commits it in one transaction, then tells.

Group commit: while one commit runs, the next batch gathers. So latency is one commit when idle, batches grow under
load, and no timer is needed. Only after the commit are watchers woken, outputs acknowledged and the bus rung: what a
watcher saw is in the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import structlog

from core_service.domain.errors import StoreFull, StoreUnavailable
from core_service.domain.runs import ENDED
from core_service.engine.metrics import Metrics
from core_service.engine.owned import OwnedRun
from core_service.engine.tail import End, Tail
from core_service.ports import Append, AppendOutcome, Bus, Clock, Ring, Segment, Store
from penstock.v1.run_pb2 import RunState

log = structlog.get_logger(__name__)

MAX_BATCH_RUNS = 2_000
MAX_BATCH_BYTES = 4 << 20
CROWD_RUNS = 200
CROWD_SECONDS = 0.08
"""A commit of many runs costs by the run, not by the event: then events gather for so long from commit to commit."""


@dataclass(frozen=True, slots=True)
class Published:
    """Committed news of one run."""

    tenant: str
    run_id: str
    segment: Segment
    state: RunState.ValueType

    @property
    def end(self) -> End | None:
        """Where the log ends, once it has ended."""
        return End(self.tenant, self.segment.last_seq, self.state) if self.state in ENDED else None


class Journal:
    """Commits the events of owned runs. `mark` is synchronous; `run` is the loop that commits."""

    def __init__(
        self, store: Store, bus: Bus, clock: Clock, tail: Tail, metrics: Metrics, *, backlog_bytes: int
    ) -> None:
        self._store = store
        self._bus = bus
        self._clock = clock
        self._tail = tail
        self._metrics = metrics
        self._backlog_bytes = backlog_bytes
        self._dirty: dict[OwnedRun, int] = {}
        self._waiting_bytes = 0
        self._room = asyncio.Event()
        self._room.set()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.store_available = True
        self.on_published: list[Callable[[Sequence[Published]], None]] = []
        """Called after each commit with what it made visible."""
        self.on_written: Callable[[OwnedRun, Append], None] = lambda owned, append: None
        """Called for each run whose append is in the log."""
        self.on_refused: Callable[[OwnedRun], None] = lambda owned: None
        """Called for each run that the log refused: it is not this core's any more."""
        self.on_poisoned: Callable[[OwnedRun, Exception], None] = lambda owned, error: None
        """Called for a run whose append the store cannot take whatever is done."""

    def mark(self, owned: OwnedRun, size: int = 0) -> None:
        """Commit what the run's grammar has made, soon. Everything it makes until then goes along.

        `size` is what it weighs, in bytes, for `room`.
        """
        self._dirty[owned] = self._dirty.get(owned, 0) + size
        self._waiting_bytes += size
        if self._waiting_bytes > self._backlog_bytes:
            self._room.clear()
        self._idle.clear()
        self._wake.set()

    async def room(self) -> None:
        """Return once less waits than the backlog allows; until then nothing should be read that makes more."""
        await self._room.wait()

    def settled(self, owned: OwnedRun) -> asyncio.Future[bool]:
        """Mark the run and return a future: True once it is committed, False when the log refused it."""
        if owned.settled is None:
            owned.settled = asyncio.get_running_loop().create_future()
        self.mark(owned)
        return owned.settled

    def publish(self, news: Sequence[Published]) -> None:
        """Tell watchers and other cores what has been committed. Creates and claims publish through here too."""
        for item in news:
            self._tail.add(item.run_id, item.segment, item.end)
        for listener in self.on_published:
            listener(news)
        self._bus.ring([Ring("run", item.run_id) for item in news])

    @property
    def backlog(self) -> int:
        """Runs that wait for a commit."""
        return len(self._dirty)

    async def empty(self) -> None:
        """Return once nothing waits."""
        await self._idle.wait()

    async def run(self) -> None:
        """Commit until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._dirty:
                began = self._clock.monotonic()
                batch, size = self._gather()
                await self._commit(batch)
                self._waiting_bytes -= size
                if self._waiting_bytes <= self._backlog_bytes:
                    self._room.set()
                if len(batch) >= CROWD_RUNS:
                    await self._clock.sleep(max(0.0, began + CROWD_SECONDS - self._clock.monotonic()))
            self._idle.set()

    def _gather(self) -> tuple[list[tuple[OwnedRun, Append]], int]:
        """Take a batch of whole runs, in the order in which they were marked, and what it weighed as it waited."""
        batch: list[tuple[OwnedRun, Append]] = []
        taken: set[str] = set()
        size = waited = 0
        for owned in list(self._dirty):
            if len(batch) >= MAX_BATCH_RUNS or size >= MAX_BATCH_BYTES:
                break
            if owned.run_id in taken:  # by an earlier owner of the run, whom the log will refuse: one at a time
                continue
            waited += self._dirty.pop(owned)
            append = owned.take_append()
            if append is None:
                self._settle(owned, written=True)
                continue
            batch.append((owned, append))
            taken.add(owned.run_id)
            size += len(append.data)
        return batch, waited

    async def _commit(self, batch: list[tuple[OwnedRun, Append]]) -> None:
        if not batch:
            return
        began = perf_counter()
        try:
            outcomes = await self._write([append for _, append in batch])
        except Exception as error:  # the content of some append: find it, the others go on (ENGINE.md A7)
            if len(batch) > 1:
                middle = len(batch) // 2
                await self._commit(batch[:middle])
                await self._commit(batch[middle:])
                return
            log.exception("append impossible", run_id=batch[0][0].run_id)
            self._drop(batch[0][0])
            self.on_poisoned(batch[0][0], error)
            return
        self._metrics.commit(perf_counter() - began, runs=len(batch))
        self._tell(batch, outcomes)

    async def _write(self, appends: list[Append]) -> list[AppendOutcome]:
        """Append until the outcome is known.

        The same call again is harmless, so an unknown outcome is just asked again.
        """
        delay = 0.01
        while True:
            try:
                outcomes = await self._store.append(appends)
            except (StoreUnavailable, StoreFull) as error:
                if self.store_available:
                    log.warning("store away", reason=error.reason, error=error.message)
                self.store_available = False
                await self._clock.sleep(delay)
                delay = min(delay * 2, 1.0)
            else:
                self.store_available = True
                return outcomes

    def _tell(self, batch: list[tuple[OwnedRun, Append]], outcomes: list[AppendOutcome]) -> None:
        news: list[Published] = []
        events = 0
        for (owned, append), outcome in zip(batch, outcomes, strict=True):
            if outcome is AppendOutcome.REFUSED:
                self._drop(owned)
                self._metrics.refused.inc()
                self.on_refused(owned)
                continue
            owned.written(append)
            events += append.last - append.expected
            if append.data:
                segment = Segment(append.expected + 1, append.last, append.data)
                news.append(Published(owned.tenant, owned.run_id, segment, owned.stored_state))
        self._metrics.events.inc(events)
        if news:
            self.publish(news)
        for (owned, append), outcome in zip(batch, outcomes, strict=True):
            if outcome is AppendOutcome.WRITTEN:
                self.on_written(owned, append)
                if owned not in self._dirty:
                    self._settle(owned, written=True)

    def _drop(self, owned: OwnedRun) -> None:
        """Forget a run whose append is not in the log: what it made since then would leave a gap."""
        self._waiting_bytes -= self._dirty.pop(owned, 0)
        self._settle(owned, written=False)

    @staticmethod
    def _settle(owned: OwnedRun, *, written: bool) -> None:
        settled, owned.settled = owned.settled, None
        if settled is not None and not settled.done():
            settled.set_result(written)
