"""Runs that come back from the store: taken from whoever had them, and owned from what their logs say.

A log that cannot be read back ends its run FAILED / INTERNAL without it, and the core goes on (ENGINE.md B11).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from core_service.domain.errors import StoreFull, StoreUnavailable
from core_service.domain.grammar import Grammar
from core_service.domain.records import RunRecords
from core_service.domain.runs import ENDED, QUEUED
from core_service.engine.executions import Executions
from core_service.engine.logs import Logs
from core_service.engine.owned import OwnedRun, Ownership
from core_service.engine.patience import FIRST_PAUSE, patiently
from core_service.engine.signals import Signals
from core_service.ports import Clock, Head, Owned, Store
from penstock.v1.event_pb2 import Event, RunQueued, RunStarted
from penstock.v1.run_pb2 import EndReason, Run, RunError

log = structlog.get_logger(__name__)

UNREADABLE = RunError(code="INTERNAL", message="The log of this run could not be read back.")
NOT_STORABLE = RunError(code="INTERNAL", message="The server could not store the run's output.")


class Recovery:
    """Takes runs and owns them."""

    def __init__(
        self,
        *,
        core_id: str,
        store: Store,
        clock: Clock,
        ownership: Ownership,
        executions: Executions,
        signals: Signals,
        logs: Logs,
        is_replayable: Callable[[str, str], Awaitable[bool]],
    ) -> None:
        self._core_id = core_id
        self._store = store
        self._clock = clock
        self._ownership = ownership
        self._executions = executions
        self._signals = signals
        self._logs = logs
        self._is_replayable = is_replayable

    async def take(self, head: Head) -> Owned | None:
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

    async def own(self, taken: Owned, tenant: str) -> tuple[OwnedRun, RunRecords]:
        """Own a run from its log and its records, and write what the store has noted for it meanwhile.

        A log that cannot be folded ends the run FAILED / INTERNAL.
        """
        records = await patiently(self._clock, lambda: self._store.run_records(taken.run.id))
        replayable = await self._is_replayable(tenant, taken.run.agent_id)
        grammar = await self._folded(taken, records)
        if grammar is None:
            return self._unreadable(taken, tenant), records
        owned = OwnedRun.of(taken, grammar, tenant=tenant)
        owned.replayable = replayable
        self._ownership.add(owned)
        self._signals.deliver(owned, records)
        return owned, records

    async def _folded(self, taken: Owned, records: RunRecords) -> Grammar | None:
        try:
            return await patiently(
                self._clock,
                lambda: self._logs.grammar(
                    taken.run.id,
                    up_to=taken.last_seq,
                    records=records,
                    state_json=taken.state_json,
                    state_version=taken.state_version,
                ),
            )
        except Exception:  # whatever is wrong with it: this run ends, and the core goes on
            log.exception("log unreadable", run_id=taken.run.id)
            return None

    def _unreadable(self, taken: Owned, tenant: str) -> OwnedRun:
        owned = OwnedRun.of(taken, _blind(taken.run, taken.last_seq), tenant=tenant)
        self._executions.finish(owned, EndReason.END_REASON_INTERNAL, UNREADABLE)
        return owned

    async def poisoned(self, owned: OwnedRun) -> None:
        """End a run whose newest events the store could not take, from what its log holds.

        If not even that end can be stored, then one without what the run said; if not that either, an operator must
        look.
        """
        head = await patiently(self._clock, lambda: self._store.head(owned.run_id))
        if head is None or head.state in ENDED or owned.poisonings > 1:
            return
        taken = await self.take(head)
        if taken is None:
            return
        if owned.poisonings:
            again = self._unreadable(taken, head.tenant)
        else:
            again, _ = await self.own(taken, head.tenant)
        again.poisonings = owned.poisonings + 1
        self._executions.finish(again, EndReason.END_REASON_INTERNAL, NOT_STORABLE)


def _blind(run: Run, last_seq: int) -> Grammar:
    """Return a grammar that knows where the log ends and nothing of what it says."""
    if run.state == QUEUED:
        return Grammar.rebuild((Event(seq=last_seq, run_queued=RunQueued(run=run)),))
    return Grammar.rebuild((Event(seq=last_seq, run_started=RunStarted(attempt=run.attempt)),))
