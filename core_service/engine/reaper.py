"""The core's housekeeping: its own lease, what is due in memory, what is lost, overdue or stuck in the store.

Nothing here is needed for correctness of a log; everything here makes sure that each run reaches its end (ENGINE.md B3,
B8, G5, I4).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from core_service.domain.errors import Refusal
from core_service.domain.runs import ENDED, QUEUED
from core_service.engine.dispatch import Dispatch
from core_service.engine.executions import Executions
from core_service.engine.journal import Journal
from core_service.engine.owned import OwnedRun, Ownership
from core_service.engine.settling import Settling
from core_service.ports import Bus, Clock, Head, Ring, Store

log = structlog.get_logger(__name__)

TICK_SECONDS = 0.5
SWEEP_SECONDS = 5.0
RUNS_PER_SWEEP = 200
THREADS_PER_PROMOTION = 50
REQUESTS_PER_SWEEP = 10_000


class Reaper:
    """The loops that look after time."""

    def __init__(
        self,
        *,
        core_id: str,
        address: str,
        lease: float,
        store: Store,
        bus: Bus,
        clock: Clock,
        ownership: Ownership,
        journal: Journal,
        dispatch: Dispatch,
        executions: Executions,
        settling: Settling,
    ) -> None:
        self._core_id = core_id
        self._address = address
        self._lease = lease
        self._store = store
        self._bus = bus
        self._clock = clock
        self._ownership = ownership
        self._journal = journal
        self._dispatch = dispatch
        self._executions = executions
        self._settling = settling
        self._seen_lost: dict[str, tuple[int, float]] = {}
        self._store_away_since: float | None = None
        self._patient_until = 0.0
        self._renewed = clock.monotonic()
        self._store_works = True
        self.on_health: Callable[[bool], Awaitable[None]]
        """Called when this core can no longer store anything (False), and when it can again (True)."""

    # ── the lease of this core ───────────────────────────────────────────────────────────────────────────────────────

    async def renew(self) -> None:
        """Renew the lease every sixth of it, until cancelled.

        A core that could not for a whole lease claims nothing.
        """
        while True:
            try:
                await self._store.renew_core(self._core_id, address=self._address, lease=self._lease)
            except Refusal as error:
                self._store_works = False
                log.warning("lease not renewed", reason=error.reason)
            else:
                self._store_works = True
                self._renewed = self._clock.monotonic()
            await self._clock.sleep(self._lease / 6 if self._store_works else min(1.0, self._lease / 6))

    async def watch_health(self) -> None:
        """Tell when the store is away and when it is back, until cancelled (ENGINE.md L2)."""
        healthy = True
        while True:
            await self._clock.sleep(TICK_SECONDS)
            self._dispatch.held_back = self._clock.monotonic() - self._renewed >= self._lease
            works = self._store_works and self._journal.store_available and not self._dispatch.held_back
            if works != healthy:
                healthy = works
                log.warning("health changed", serving=healthy)
                await self.on_health(healthy)

    # ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def tick(self) -> None:
        """Do what is due in memory, twice a second, until cancelled."""
        while True:
            self._executions.tick()
            await self._clock.sleep(TICK_SECONDS)

    async def sweep(self) -> None:
        """Look through the store every five seconds, until cancelled. Each chore fails alone."""
        while True:
            await self._clock.sleep(SWEEP_SECONDS)
            for chore in (
                self._reap,
                self._expire_queued,
                self._unstick,
                self._signals,
                self._forget,
            ):
                try:
                    await chore()
                except Refusal as error:
                    self._note_store(away=True)
                    log.warning("sweep failed", chore=chore.__name__, reason=error.reason)
                except Exception:  # one chore must not stop the others
                    log.exception("sweep failed", chore=chore.__name__)

    def _note_store(self, *, away: bool) -> None:
        """After more than a sweep without the store, wait for a lease before anything counts as lost."""
        now = self._clock.monotonic()
        if away:
            self._store_away_since = self._store_away_since or now
        elif self._store_away_since is not None:
            if now - self._store_away_since > SWEEP_SECONDS:
                self._patient_until = now + self._lease
            self._store_away_since = None

    async def _reap(self) -> None:
        margin = self._lease / 3
        heads = await self._store.lost_runs(margin=margin, limit=RUNS_PER_SWEEP)
        self._note_store(away=False)
        now = self._clock.monotonic()
        seen, self._seen_lost = self._seen_lost, {}
        for head in heads:
            if self._ownership.get(head.run_id) is not None:
                continue  # its owner acts on its own timer
            fence, since = seen.get(head.run_id, (head.fence, now))
            if fence != head.fence:
                since = now
            if self._is_certain(head, now - since, margin) and now >= self._patient_until:
                await self._settling.lost(head)
            else:
                self._seen_lost[head.run_id] = (head.fence, since)

    @staticmethod
    def _is_certain(head: Head, seen_for: float, margin: float) -> bool:
        """A run of another core must be seen lost twice, so that a jump of the clock alone takes nothing away."""
        return head.owner is None or seen_for >= margin

    async def _expire_queued(self) -> None:
        for head in await self._store.overdue_queued(limit=RUNS_PER_SWEEP):
            await self._settling.overdue(head)

    async def _unstick(self) -> None:
        stuck = await self._store.stuck_threads(limit=RUNS_PER_SWEEP)
        if stuck:
            self._bus.ring([Ring("work", agent_id) for agent_id in await self._store.promote(stuck)])

    async def _signals(self) -> None:
        """Find cancels whose ring was lost."""
        heads = await self._store.heads([owned.run_id for owned in self._ownership])
        for head in heads:
            if head.cancel_reason is not None and head.state not in ENDED | {QUEUED}:
                await self._settling.signal(head)

    async def _forget(self) -> None:
        await self._store.forget_requests(limit=REQUESTS_PER_SWEEP)


class Promotions:
    """Lets the next run of a thread go once the one before has ended."""

    def __init__(self, store: Store, bus: Bus) -> None:
        self._store = store
        self._bus = bus
        self._free: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    def ended(self, owned: OwnedRun) -> None:
        """A run has ended: its thread has no active run any more."""
        self._free.put_nowait((owned.tenant, owned.run.thread_id))

    async def run(self) -> None:
        """Promote until cancelled; what fails is found by the sweep."""
        while True:
            threads = [await self._free.get()]
            while not self._free.empty() and len(threads) < THREADS_PER_PROMOTION:
                threads.append(self._free.get_nowait())
            try:
                agents = await self._store.promote(threads)
            except Refusal as error:
                log.warning("promotion failed", threads=len(threads), reason=error.reason)
            else:
                self._bus.ring([Ring("work", agent_id) for agent_id in agents])
