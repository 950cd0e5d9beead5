"""Which worker gets which run: credits, the claim loop, and the reservation that lets a create start at once.

A core claims only for workers that are connected to it and have room now. Rings wake it; a poll once a second finds
what a lost ring hid. Tenants take turns (ENGINE.md I).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Iterable

import structlog

from core_service.domain.errors import Refusal
from core_service.domain.segments import record
from core_service.engine.journal import Journal, Published
from core_service.engine.sessions import WorkerSession
from core_service.ports import Bus, Clock, Owned, Segment, Store
from penstock.v1.event_pb2 import Event, RunStarted
from penstock.v1.run_pb2 import RunState

log = structlog.get_logger(__name__)

POLL_SECONDS = 1.0
TENANTS_PER_TURN = 8
CLAIMS_PER_TRANSACTION = 50


class Dispatch:
    """The connected workers by agent, and the loop that claims for them."""

    def __init__(self, *, store: Store, journal: Journal, bus: Bus, clock: Clock, core_id: str) -> None:
        self._store = store
        self._journal = journal
        self._bus = bus
        self._clock = clock
        self._core_id = core_id
        self._by_agent: dict[str, list[WorkerSession]] = {}
        self._wanted: set[str] = set()
        self._maybe_waiting: set[str] = set()
        self._doubts: dict[tuple[WorkerSession, str], None] = {}
        self._wake = asyncio.Event()
        self._last_tenant: dict[str, str] = {}
        self.paused = False
        """True once this core drains."""
        self.held_back = False
        """True while this core's lease is over: somebody else may count it as lost."""
        self.on_claimed: Callable[[WorkerSession, str, Owned], Awaitable[None]]
        """Called with (worker, tenant, run) for each run that was claimed."""
        self.on_doubt: Callable[[WorkerSession, str], Awaitable[None]]
        """Called with (worker, tenant) when a run may have been claimed for a worker without an answer to tell."""

    # ── workers ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def join(self, session: WorkerSession) -> None:
        """A worker is connected."""
        for agent_id in session.versions:
            self._by_agent.setdefault(agent_id, []).append(session)
        self._maybe_waiting.update(session.versions)

    def leave(self, session: WorkerSession) -> None:
        """A worker is gone."""
        for agent_id in session.versions:
            sessions = self._by_agent.get(agent_id, [])
            if session in sessions:
                sessions.remove(session)

    def is_online(self, agent_id: str) -> bool:
        """Tell whether a connected worker runs this agent."""
        return any(not session.draining for session in self._by_agent.get(agent_id, ()))

    def pick(self, agent_id: str) -> WorkerSession | None:
        """Return the worker with the most room for an agent; None when nobody has any."""
        if self.paused or self.held_back:
            return None
        best = max(self._by_agent.get(agent_id, ()), key=lambda session: session.room(agent_id), default=None)
        return best if best is not None and best.room(agent_id) > 0 else None

    def reserve(self, agent_id: str) -> WorkerSession | None:
        """Take one credit for a create that may start at once. Give it back with `WorkerSession.unreserve`."""
        session = self.pick(agent_id)
        if session is not None:
            session.reserve(agent_id)
        return session

    # ── the claim loop ───────────────────────────────────────────────────────────────────────────────────────────────

    def credited(self, session: WorkerSession) -> None:
        """A worker has room again: look soon for work of its agents, if any may wait."""
        self._look(self._maybe_waiting.intersection(session.versions))

    def rung(self, agent_id: str) -> None:
        """Listen to the bus: a run of this agent waits."""
        self._maybe_waiting.add(agent_id)
        if self.pick(agent_id) is not None:
            self._look((agent_id,))

    def _look(self, agent_ids: Iterable[str]) -> None:
        self._wanted.update(agent_ids)
        if self._wanted:
            self._wake.set()

    def doubt(self, session: WorkerSession, tenant: str) -> None:
        """A claim for this worker got no answer, and may have happened: look soon."""
        self._doubts[session, tenant] = None
        self._wake.set()

    async def run(self) -> None:
        """Claim until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS * random.uniform(0.8, 1.2)):
                    await self._wake.wait()
            polled = not self._wake.is_set()
            self._wake.clear()
            wanted, self._wanted = self._wanted, set()
            await self._settle_doubts()
            for agent_id in list(self._by_agent) if polled else wanted:
                try:
                    await self._claim_for(agent_id)
                except Refusal as error:
                    log.warning("claim failed", agent_id=agent_id, reason=error.reason)
                except Exception:  # the loop must live; the poll tries again
                    log.exception("claim failed", agent_id=agent_id)

    async def _settle_doubts(self) -> None:
        for session, tenant in list(self._doubts):
            try:
                await self.on_doubt(session, tenant)
                del self._doubts[session, tenant]
            except Exception:  # the store is still away; the poll tries again
                log.exception("claim in doubt", worker_id=session.worker_id)

    async def _claim_for(self, agent_id: str) -> None:
        while self.pick(agent_id) is not None:
            after = self._last_tenant.get(agent_id, "")
            tenants = await self._store.waiting_tenants(agent_id, after=after, limit=TENANTS_PER_TURN)
            if not tenants and not after:
                self._maybe_waiting.discard(agent_id)
                return
            self._last_tenant[agent_id] = tenants[-1] if len(tenants) == TENANTS_PER_TURN else ""
            claimed = [await self._claim(tenant, agent_id, alone=len(tenants) == 1) for tenant in tenants]
            if not any(claimed) and not after:
                return

    async def _claim(self, tenant: str, agent_id: str, *, alone: bool) -> int:
        session = self.pick(agent_id)
        if session is None:
            return 0
        limit = min(session.room(agent_id), CLAIMS_PER_TRANSACTION) if alone else 1
        session.reserve(agent_id, limit)
        started = self.starter(agent_id, session)
        claimed: list[Owned] = []
        try:
            claimed = await self._store.claim(
                tenant, agent_id, owner=self._core_id, session=session.worker_id, limit=limit, started=started
            )
        except Exception:
            self.doubt(session, tenant)
            raise
        finally:
            session.unreserve(agent_id, limit - len(claimed))
        self._journal.publish(
            [
                Published(
                    tenant,
                    owned.run.id,
                    Segment(owned.last_seq, owned.last_seq, started(owned.last_seq, owned.run.attempt)),
                    RunState.RUN_STATE_RUNNING,
                )
                for owned in claimed
            ]
        )
        for owned in claimed:
            await self.on_claimed(session, tenant, owned)
        return len(claimed)

    def starter(self, agent_id: str, session: WorkerSession) -> Callable[[int, int], bytes]:
        """Return what makes the record of RunStarted for a (seq, attempt) of a run that `session` gets now."""
        now, version, worker_id = self._clock.now(), session.versions[agent_id], session.worker_id

        def started(seq: int, attempt: int) -> bytes:
            payload = RunStarted(attempt=attempt, agent_version=version, worker_id=worker_id)
            event = Event(seq=seq, run_started=payload)
            event.create_time.FromMicroseconds(now)
            return record(event.SerializeToString())

        return started
