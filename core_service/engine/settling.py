"""Runs that no worker drives: queued ones that are cancelled or overdue, and lost ones that must be retried or ended.

Each is settled from what its log says. If its log cannot be read back, it ends FAILED / INTERNAL without it, and the
core goes on (ENGINE.md B11).
"""

from __future__ import annotations

import asyncio
from typing import Unpack

import structlog

from core_service.domain.errors import StoreFull, StoreUnavailable
from core_service.domain.grammar import Grammar
from core_service.domain.runs import ENDED, QUEUED
from core_service.engine.executions import Executions
from core_service.engine.journal import Journal
from core_service.engine.logs import Logs, ThreadState
from core_service.engine.owned import OwnedRun, Ownership
from core_service.engine.patience import FIRST_PAUSE, patiently
from core_service.ports import Bus, Clock, Head, Owned, Ring, Store
from penstock.v1.event_pb2 import Event, RunQueued, RunStarted
from penstock.v1.run_pb2 import EndReason, Run, RunError, RunState

log = structlog.get_logger(__name__)

ATTEMPTS = 5
"""How often a cancel looks again when the run moved under it."""


class Settling:
    """Settles runs from their logs. Every end passes through the journal like any other."""

    def __init__(
        self,
        *,
        core_id: str,
        store: Store,
        journal: Journal,
        bus: Bus,
        clock: Clock,
        ownership: Ownership,
        executions: Executions,
        logs: Logs,
    ) -> None:
        self._core_id = core_id
        self._store = store
        self._journal = journal
        self._bus = bus
        self._clock = clock
        self._ownership = ownership
        self._executions = executions
        self._logs = logs
        self._ending: dict[str, asyncio.Task[bool]] = {}

    async def cancel(self, head: Head) -> None:
        """Carry out a cancel that the store has noted: by the owner, or here and now when nobody owns the run."""
        current: Head | None = head
        for _ in range(ATTEMPTS):
            if current is None or current.state in ENDED or current.cancel_reason is None:
                return
            if (owned := self._ownership.get(current.run_id)) is not None:
                self._executions.cancel(owned, current.cancel_reason, current.cancel_time or 0)
                return
            if current.state != QUEUED:  # its owner, its adopter or the reaper will see it
                self._bus.ring([Ring("signal", current.run_id)])
                return
            if await self._end_unowned(current, current.cancel_reason, None):
                return
            current = await self._store.head(current.run_id)

    async def overdue(self, head: Head) -> None:
        """End a queued run that no worker took in time, or whose cancel was noted and never carried out."""
        if head.cancel_reason is not None:
            await self.cancel(head)
            return
        error = RunError(
            code="QUEUE_TIMEOUT", message="No worker took the run within its queue timeout.", retryable=True
        )
        await self._end_unowned(head, EndReason.END_REASON_QUEUE_TIMEOUT, error)

    async def _end_unowned(self, head: Head, reason: EndReason.ValueType, error: RunError | None) -> bool:
        """End a run that nobody owns. False when it moved meanwhile: a claim took the fence, and the log refused.

        One at a time per run: of two ends at the same seq both would count as written, and one of them is not.
        """
        task = self._ending.get(head.run_id)
        if task is None:
            task = self._ending[head.run_id] = asyncio.create_task(self._end_now(head, reason, error))
            task.add_done_callback(lambda _: self._ending.pop(head.run_id))
        return await asyncio.shield(task)

    async def _end_now(self, head: Head, reason: EndReason.ValueType, error: RunError | None) -> bool:
        run = await self._store.get_run(head.tenant, head.run_id)
        if run is None:
            return True
        grammar = await self._folded(run.id, head.last_seq) or _blind(run, head.last_seq)
        owned = OwnedRun(run, head.tenant, grammar, head.fence, head.last_seq, grammar.state)
        grammar.end(reason, self._executions.now(), error=error)
        return await self._journal.settled(owned)

    async def lost(self, head: Head) -> None:
        """Take a run whose worker or core is gone for good, and retry or end it."""
        taken = await self._take(head)
        if taken is None:
            return
        log.warning("run lost", run_id=head.run_id, owner=head.owner, worker_id=head.session)
        self._executions.lose(await self.own(taken, head.tenant))

    async def own(self, taken: Owned, tenant: str) -> OwnedRun:
        """Own a run from its log. A log that cannot be folded ends the run FAILED / INTERNAL."""
        grammar = await self._folded(
            taken.run.id, taken.last_seq, state_json=taken.state_json, state_version=taken.state_version
        )
        if grammar is None:
            return self._unreadable(taken, tenant)
        owned = OwnedRun.of(taken, grammar, tenant=tenant)
        self._ownership.add(owned)
        return owned

    async def _folded(self, run_id: str, last_seq: int, **state: Unpack[ThreadState]) -> Grammar | None:
        """Return the grammar that the log tells of; None when the log cannot be read back (ENGINE.md B11)."""
        try:
            return await patiently(self._clock, lambda: self._logs.grammar(run_id, up_to=last_seq, **state))
        except Exception:  # whatever is wrong with it: this run ends, and the core goes on
            log.exception("log unreadable", run_id=run_id)
            return None

    async def _take(self, head: Head) -> Owned | None:
        """Take a run from whoever has it. None: somebody was faster."""
        fence, pause = head.fence, FIRST_PAUSE
        while True:
            try:
                return await self._store.take(head.run_id, fence=fence, owner=self._core_id)
            except (StoreUnavailable, StoreFull):  # it may have been taken all the same: then once more, from ourselves
                await self._clock.sleep(pause)
                pause = min(2 * pause, 1.0)
                now = await patiently(self._clock, lambda: self._store.head(head.run_id))
                if now is not None and now.owner == self._core_id and now.session is None:
                    fence = now.fence

    def _unreadable(self, taken: Owned, tenant: str) -> OwnedRun:
        owned = OwnedRun.of(taken, _blind(taken.run, taken.last_seq), tenant=tenant)
        error = RunError(code="INTERNAL", message="The log of this run could not be read back.")
        self._executions.finish(owned, EndReason.END_REASON_INTERNAL, error)
        return owned

    async def poisoned(self, owned: OwnedRun) -> None:
        """End a run whose newest events the store could not take, from what its log holds.

        If not even that end can be stored, then one without what the run said; if not that either, an operator must
        look.
        """
        head = await patiently(self._clock, lambda: self._store.head(owned.run_id))
        if head is None or head.state in ENDED or owned.poisonings > 1:
            return
        taken = await self._take(head)
        if taken is None:
            return
        again = self._unreadable(taken, head.tenant) if owned.poisonings else await self.own(taken, head.tenant)
        again.poisonings = owned.poisonings + 1
        error = RunError(code="INTERNAL", message="The server could not store the run's output.")
        self._executions.finish(again, EndReason.END_REASON_INTERNAL, error)


def _blind(run: Run, last_seq: int) -> Grammar:
    """Return a grammar that knows where the log ends and nothing of what it says."""
    if run.state == RunState.RUN_STATE_QUEUED:
        return Grammar.rebuild((Event(seq=last_seq, run_queued=RunQueued(run=run)),))
    return Grammar.rebuild((Event(seq=last_seq, run_started=RunStarted(attempt=run.attempt)),))
