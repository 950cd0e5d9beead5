"""Schedules: what clients do with them, and the loop that creates their runs.

A run and the next time of its schedule are one transaction. So whoever dies leaves both or none, and of the cores that
find the same time due one makes its run. What was due while nothing ran is run once: the next time lies behind now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from core_service.domain import schedules
from core_service.domain.errors import (
    CoreDraining,
    DueTimePassed,
    InvalidArgument,
    Refusal,
    ScheduleNotFound,
    StoreFull,
    StoreUnavailable,
)
from core_service.domain.ids import new_id
from core_service.domain.pages import TimePages
from core_service.domain.run_requests import check_request_id
from core_service.engine.agents import Agents
from core_service.engine.creates import Creates
from core_service.engine.metrics import Metrics
from core_service.engine.webhooks import Webhooks
from core_service.ports import Clock, DueSchedule, DueTime, Page, RequestKey, ScheduleStore
from penstock.v1.schedule_pb2 import Schedule
from penstock.v1.schedule_service_pb2 import CreateScheduleRequest, ListSchedulesRequest

log = structlog.get_logger(__name__)

POLL_SECONDS = 1.0
SCHEDULES_PER_TURN = 50
_PAGES = TimePages("schedules")


class Schedules:
    """The use cases of ScheduleService, and the loop."""

    def __init__(
        self,
        *,
        store: ScheduleStore,
        clock: Clock,
        agents: Agents,
        creates: Creates,
        webhooks: Webhooks,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._clock = clock
        self._agents = agents
        self._creates = creates
        self._webhooks = webhooks
        self._metrics = metrics

    # ── what clients do ──────────────────────────────────────────────────────────────────────────────────────────────

    async def create(self, tenant: str, request: CreateScheduleRequest) -> Schedule:
        """Create a schedule. Refuses with AgentNotFound, IdempotencyMismatch, and as a create of its runs would."""
        if self._creates.draining:
            raise CoreDraining("This core shuts down; repeat with the same request_id in a moment.")
        check_request_id(request.request_id)
        schedule = schedules.stored(request.schedule, schedule_id=new_id("sch"), now=self._clock.now())
        following = schedules.next_time(schedule, after=await self._store.now())
        if following is None:
            raise InvalidArgument("cron never comes true in the next fifty years.", field="cron")
        await self._agents.get(tenant, schedule.agent_id)
        await self._webhooks.check(schedule.options.webhook_url)
        key = None
        if request.request_id:
            digest = schedules.fingerprint(request.schedule, tenant=tenant)
            key = RequestKey("create_schedule", request.request_id, digest)
        return await self._store.create(tenant, schedule, next_time=following, request=key)

    async def get(self, tenant: str, schedule_id: str) -> Schedule:
        """Return a schedule. Refuses with ScheduleNotFound."""
        schedule = await self._store.get(tenant, schedule_id)
        if schedule is None:
            raise ScheduleNotFound(f"There is no schedule {schedule_id[:80]!r}.", schedule_id=schedule_id[:80])
        return schedule

    async def page(self, tenant: str, request: ListSchedulesRequest) -> tuple[Sequence[Schedule], str]:
        """Return a page of schedules, newest first, and the token of the next."""
        size, after = _PAGES.read(request.page_size, request.page_token)
        found = await self._store.page(tenant, agent_id=request.agent_id, page=Page(size + 1, after))
        if len(found) <= size:
            return found, ""
        last = found[size - 1]
        return found[:size], _PAGES.token(last.create_time.ToMicroseconds(), last.id)

    async def pause(self, tenant: str, schedule_id: str, *, paused: bool) -> Schedule:
        """Stop or continue a schedule; doing it twice changes nothing. Refuses with ScheduleNotFound."""
        schedule = await self.get(tenant, schedule_id)
        if paused:
            await self._store.pause(tenant, schedule_id)
        else:
            following = schedules.next_time(schedule, after=await self._store.now())
            await self._store.resume(tenant, schedule_id, next_time=following)
        return await self.get(tenant, schedule_id)

    async def delete(self, tenant: str, schedule_id: str) -> None:
        """Delete a schedule; its runs stay. Refuses with ScheduleNotFound."""
        if not await self._store.delete(tenant, schedule_id):
            raise ScheduleNotFound(f"There is no schedule {schedule_id[:80]!r}.", schedule_id=schedule_id[:80])

    # ── the loop ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Create the runs that are due, until cancelled. What fails is due again in the next turn."""
        while True:
            is_behind = False
            try:
                is_behind = await self.create_due()
            except Refusal as error:
                log.warning("schedules failed", reason=error.reason)
            except Exception:  # the loop must live
                log.exception("schedules failed")
            if not is_behind:
                await self._clock.sleep(POLL_SECONDS)

    async def create_due(self) -> bool:
        """Create the runs of some schedules that are due, and tell whether there may be more."""
        if self._creates.draining:
            return False
        found = await self._store.due(limit=SCHEDULES_PER_TURN)
        done = await asyncio.gather(*(self._create_one(due) for due in found))
        return len(found) == SCHEDULES_PER_TURN and all(done)

    async def _create_one(self, due: DueSchedule) -> bool:
        """Create one run and go on to the next time. False: that is not decided, and the next turn does it again."""
        time = DueTime(due.schedule.id, due.time, self._following(due))
        try:
            refusal = await self._try_create(due, time)
            if refusal and not await self._store.refuse(time, refusal):
                return True
        except (StoreUnavailable, StoreFull, CoreDraining) as error:
            log.warning("scheduled run delayed", schedule_id=due.schedule.id, reason=error.reason)
            return False
        except DueTimePassed:
            return True
        self._metrics.scheduled.labels("refused" if refusal else "created").inc()
        return True

    async def _try_create(self, due: DueSchedule, time: DueTime) -> str:
        """Create the run. Returns why it was refused; empty when it was not."""
        try:
            await self._creates.create(due.tenant, schedules.run_request(due.schedule), due=time)
        except (StoreUnavailable, StoreFull, CoreDraining, DueTimePassed):
            raise
        except Refusal as error:
            log.warning("scheduled run refused", schedule_id=due.schedule.id, reason=error.reason)
            return error.reason
        except Exception:  # this schedule's own fault, which must not keep the others from their runs
            log.exception("scheduled run failed", schedule_id=due.schedule.id)
            return Refusal.reason
        return ""

    def _following(self, due: DueSchedule) -> int | None:
        try:
            return schedules.next_time(due.schedule, after=max(due.time, due.now))
        except InvalidArgument as error:  # its time zone is not in the tables any more
            log.error("schedule over", schedule_id=due.schedule.id, error=error.message)
            return None
