"""Cancelling all runs that match, each as CancelRun does it."""

from __future__ import annotations

import asyncio

from core_service.domain.errors import InvalidArgument, RunNotFound
from core_service.domain.runs import ACTIVE
from core_service.engine.errands import Errands
from core_service.engine.request_keys import request_key
from core_service.engine.runs import Runs
from core_service.ports import Clock, Page, RunFilter, Store
from penstock.v1.run_pb2 import EndReason, Run
from penstock.v1.run_service_pb2 import CancelRunsRequest, CancelRunsResponse

MOST_RUNS = 1_000
RUNS_PER_PAGE = 50
"""Cancelled at a time."""


class BulkCancels:
    """The use case of CancelRuns."""

    def __init__(self, store: Store, runs: Runs, clock: Clock) -> None:
        self._store = store
        self._runs = runs
        self._clock = clock
        self._errands = Errands()

    async def cancel(self, tenant: str, request: CancelRunsRequest, reason: EndReason.ValueType) -> CancelRunsResponse:
        """Ask the active runs that match to stop, unless somebody has, and tell which: newest first, so that what waits
        for its turn on a thread is stopped before it comes.

        A repeat asks those again that were there at the first call, and no others. Refuses with InvalidArgument when
        neither a filter nor `all` is set, and with IdempotencyMismatch.
        """
        return await self._errands.run(self._cancel(tenant, request, reason))

    async def _cancel(self, tenant: str, request: CancelRunsRequest, reason: EndReason.ValueType) -> CancelRunsResponse:
        key = request_key("cancel_runs", tenant, request)
        _check(request)
        now = str(self._clock.now())
        first = now if key is None else await self._store.first_call(tenant, key, now)
        is_repeated = first != now
        which = _which(request, created_until=int(first) if is_repeated else None)
        found: list[str] = []
        after: tuple[int, str] | None = None
        while which.states and (page := await self._store.list_runs(tenant, which, Page(RUNS_PER_PAGE, after))):
            chosen = [run for run in page if is_repeated or not run.cancel_requested]
            if len(found) + len(chosen) > MOST_RUNS:
                return CancelRunsResponse(run_ids=found, more=True)
            await asyncio.gather(*(self._ask(tenant, run, reason) for run in chosen))
            found += [run.id for run in chosen]
            after = (page[-1].create_time.ToMicroseconds(), page[-1].id)
        return CancelRunsResponse(run_ids=found)

    async def _ask(self, tenant: str, run: Run, reason: EndReason.ValueType) -> None:
        try:
            await self._runs.cancel(tenant, run.id, reason, request_id="")
        except RunNotFound:
            return  # deleted meanwhile


def _check(request: CancelRunsRequest) -> None:
    filters = (request.thread_id, request.agent_id, request.states, request.metadata)
    if not (any(filters) or request.HasField("created_before") or request.all):
        raise InvalidArgument("Name at least one filter, or set `all`.", field="all")


def _which(request: CancelRunsRequest, *, created_until: int | None) -> RunFilter:
    bounds = [] if created_until is None else [created_until + 1]
    if request.HasField("created_before"):
        bounds.append(request.created_before.ToMicroseconds())
    wanted = ACTIVE & set(request.states) if request.states else ACTIVE
    return RunFilter(
        thread_id=request.thread_id or None,
        agent_id=request.agent_id or None,
        states=tuple(sorted(wanted)),
        created_before=min(bounds, default=None),
        labels=tuple(sorted(request.metadata.items())),
    )
