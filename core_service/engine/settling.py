"""Runs that no worker of this core drives and that somebody wants something of: a cancel, an answer, an end.

What an owner here has to do is handed to it. A run that is nobody's is taken, settled, and let go again. What belongs
to another core is left to it: it is rung, and finds what the store has noted.
"""

from __future__ import annotations

from core_service.domain.runs import ENDED, QUEUED, RUNNING, WAITING
from core_service.engine.departures import Departures
from core_service.engine.endings import Endings
from core_service.engine.executions import Executions
from core_service.engine.journal import Journal
from core_service.engine.owned import OwnedRun, Ownership
from core_service.engine.recovery import Recovery
from core_service.engine.signals import Signals
from core_service.ports import Bus, Head, RequestKey, Ring, Store
from penstock.v1.run_pb2 import EndReason, RunError

ATTEMPTS = 5
"""How often it looks again when the run moved under it."""

NOBODY_TOOK_IT = RunError(
    code="QUEUE_TIMEOUT", message="No worker took the run within its queue timeout.", retryable=True
)


class Settling:
    """Carries out what the store has noted about runs. Every end passes through the journal like any other."""

    def __init__(
        self,
        *,
        store: Store,
        journal: Journal,
        bus: Bus,
        ownership: Ownership,
        executions: Executions,
        endings: Endings,
        departures: Departures,
        signals: Signals,
        recovery: Recovery,
    ) -> None:
        self._store = store
        self._journal = journal
        self._bus = bus
        self._ownership = ownership
        self._executions = executions
        self._endings = endings
        self._departures = departures
        self._signals = signals
        self._recovery = recovery

    async def signal(self, head: Head) -> None:
        """Carry out what the store has noted for a run: a cancel, answers, steering messages."""
        current: Head | None = head
        for _ in range(ATTEMPTS):
            if current is None or current.state in ENDED or await self._carry_out(current):
                return
            current = await self._store.head(head.run_id)

    async def cancel(
        self, tenant: str, run_id: str, reason: EndReason.ValueType, *, request: RequestKey | None = None
    ) -> bool:
        """Note a cancel and carry it out. False: there is no such run. An ended run stays as it is."""
        head = await self._store.request_cancel(tenant, run_id, reason, request=request)
        if head is None:
            return False
        await self.signal(head)
        return True

    async def _carry_out(self, head: Head) -> bool:
        """Do it, or leave it to who must. False when the run moved meanwhile."""
        owned = self._ownership.get(head.run_id)
        if owned is not None:
            return await self._hand_to_owner(owned, head)
        if head.state == QUEUED:  # answers and messages wait for the worker that takes it
            return head.cancel_reason is None or await self._settle(head)
        if head.state == WAITING and head.is_nobodys:
            return await self._settle(head)
        self._bus.ring([Ring("signal", head.run_id)])  # its owner, its adopter or the reaper will see it
        return True

    async def _hand_to_owner(self, owned: OwnedRun, head: Head) -> bool:
        if owned.grammar.ended is not None and owned.session is not None:  # whatever came after its end came too late
            return True
        if owned.is_leaving:
            await self._journal.settled(owned)
            return False
        if head.cancel_reason is not None:
            self._executions.cancel(owned, head.cancel_reason, head.cancel_time or 0)
        records = await self._store.run_records(head.run_id)
        if self._ownership.get(head.run_id) is not owned:
            return False
        self._signals.deliver(owned, records)
        return True

    async def overdue(self, head: Head) -> None:
        """End a queued run that no worker took in time, or whose cancel was noted and never carried out."""
        if head.cancel_reason is not None:
            await self.signal(head)
        else:
            await self._settle(head, EndReason.END_REASON_QUEUE_TIMEOUT, NOBODY_TOOK_IT)

    async def _settle(
        self, head: Head, reason: EndReason.ValueType | None = None, error: RunError | None = None
    ) -> bool:
        """Take a run that is nobody's, and end it, queue it or let it go. False when it moved meanwhile."""
        taken = await self._recovery.take(head)
        if taken is None:
            return False
        owned, _ = await self._recovery.own(taken, head.tenant)
        if not owned.is_leaving:
            reason = owned.cancel_reason or reason
            if reason is not None:
                self._endings.end(owned, reason, error if owned.cancel_reason is None else None)
            elif owned.grammar.state == RUNNING:
                self._departures.hand_over(owned)
            elif owned.is_waiting:
                self._departures.let_go(owned)
            else:
                self._ownership.drop(owned)
                return True
        return await self._journal.settled(owned)

    async def lost(self, head: Head) -> None:
        """Take a run whose worker or core is gone for good, and retry, queue, let go or end it."""
        taken = await self._recovery.take(head)
        if taken is None:
            return
        owned, _ = await self._recovery.own(taken, head.tenant)
        if not owned.is_leaving and taken.run.state == WAITING and owned.grammar.state == RUNNING:
            self._departures.hand_over(owned)  # its answer came while nobody had it
        else:
            self._departures.lost(owned)
