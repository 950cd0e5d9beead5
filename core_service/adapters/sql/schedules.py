"""Schedules: kept as created, with the columns that change. Implements `ports.ScheduleStore`.

The transaction that creates a schedule's run also goes on to its next time, if its due time is still the next one. So a
due time makes one run, whoever dies, and however many cores find it.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, false, insert, literal_column, null, or_, select, true, tuple_, update

from core_service.adapters.sql import requests
from core_service.adapters.sql.rows import micros, set_instant
from core_service.adapters.sql.runs import END_OF_TIME
from core_service.adapters.sql.schema import IS_SCHEDULED, schedules
from core_service.adapters.sql.statements import all_given, count, given, integer, now, text
from core_service.adapters.sql.transaction import Database, Row, Transaction, check_text
from core_service.domain.errors import DueTimePassed, ScheduleNotFound
from core_service.ports import DueSchedule, DueTime, Page, RequestKey
from penstock.v1.schedule_pb2 import Schedule

_c = schedules.c
_in_tenant = _c.tenant == text("tenant")
_is_schedule = _c.schedule_id == text("schedule")
SCHEDULE = (_c.body, _c.paused, _c.next_time, _c.last_time, _c.last_run_id, _c.last_refusal)

NOW = select(now())
INSERT = insert(schedules).values(
    all_given(_c.schedule_id, _c.tenant, _c.agent_id, _c.body, _c.next_time, _c.created)
    | {"paused": false(), "last_refusal": literal_column("''")}
)
GET = select(*SCHEDULE).where(_in_tenant, _is_schedule)
PAGE = (
    select(*SCHEDULE)
    .where(
        _in_tenant,
        tuple_(_c.created, _c.schedule_id) < tuple_(integer("after_time"), text("after_id")),
        or_(text("agent") == literal_column("''"), _c.agent_id == text("agent")),
    )
    .order_by(_c.created.desc(), _c.schedule_id.desc())
    .limit(count("limit"))
)
PAUSE = update(schedules).where(_in_tenant, _is_schedule).values(paused=true(), next_time=null())
RESUME = (
    update(schedules)
    .where(_in_tenant, _is_schedule, _c.paused == true())
    .values(paused=false(), next_time=given(_c.next_time))
)
DELETE = delete(schedules).where(_in_tenant, _is_schedule).returning(_c.schedule_id)
DUE = (
    select(_c.tenant, now(), *SCHEDULE)
    .where(IS_SCHEDULED, _c.next_time <= now())
    .order_by(_c.next_time)
    .limit(count("limit"))
)
ADVANCE = (
    update(schedules)
    .where(_is_schedule, _c.next_time == integer("due"))
    .values(
        next_time=integer("following"),
        last_time=integer("due"),
        last_run_id=given(_c.last_run_id),
        last_refusal=given(_c.last_refusal),
    )
    .returning(_c.schedule_id)
)
POINT = update(schedules).where(_is_schedule).values(last_run_id=given(_c.last_run_id))


class SqlSchedules:
    """Implements `ports.ScheduleStore`; the contract of each method stands there."""

    def __init__(self, database: Database, *, request_lifetime: float) -> None:
        self._database = database
        self._lifetime = request_lifetime

    async def now(self) -> int:
        return await self._database.read(lambda tx: int(tx.one(NOW)[0]))

    async def create(
        self, tenant: str, schedule: Schedule, *, next_time: int | None, request: RequestKey | None
    ) -> Schedule:
        return await self._database.write(
            lambda tx: _create(tx, tenant, schedule, next_time=next_time, request=request, lifetime=self._lifetime)
        )

    async def get(self, tenant: str, schedule_id: str) -> Schedule | None:
        return await self._database.read(lambda tx: _get(tx, tenant, schedule_id))

    async def page(self, tenant: str, *, agent_id: str, page: Page) -> Sequence[Schedule]:
        return await self._database.read(lambda tx: _page(tx, tenant, agent_id, page))

    async def pause(self, tenant: str, schedule_id: str) -> None:
        await self._database.write(lambda tx: tx.do(PAUSE, tenant=tenant, schedule=schedule_id))

    async def resume(self, tenant: str, schedule_id: str, *, next_time: int | None) -> None:
        await self._database.write(lambda tx: tx.do(RESUME, tenant=tenant, schedule=schedule_id, next_time=next_time))

    async def delete(self, tenant: str, schedule_id: str) -> bool:
        return await self._database.write(lambda tx: tx.row(DELETE, tenant=tenant, schedule=schedule_id) is not None)

    async def due(self, *, limit: int) -> Sequence[DueSchedule]:
        return await self._database.read(lambda tx: [_to_due(row) for row in tx.rows(DUE, limit=limit)])

    async def refuse(self, due: DueTime, refusal: str) -> bool:
        return await self._database.write(lambda tx: _advance(tx, due, run_id=None, refusal=refusal))


def claim(transaction: Transaction, due: DueTime | None, run_id: str) -> None:
    """Let a run be the one that its due time makes, and go on to the next time. Raises DueTimePassed."""
    if due is not None and not _advance(transaction, due, run_id=run_id, refusal=""):
        raise DueTimePassed(f"{due.schedule_id} is not due at {due.time} any more")


def point(transaction: Transaction, due: DueTime | None, run_id: str) -> None:
    """Let a due time that was claimed in this transaction be one whose messages went to another run."""
    if due is not None:
        transaction.do(POINT, schedule=due.schedule_id, last_run_id=run_id)


def _advance(transaction: Transaction, due: DueTime, *, run_id: str | None, refusal: str) -> bool:
    row = transaction.row(
        ADVANCE,
        schedule=due.schedule_id,
        due=due.time,
        following=due.following,
        last_run_id=run_id,
        last_refusal=refusal,
    )
    return row is not None


def _create(
    transaction: Transaction,
    tenant: str,
    schedule: Schedule,
    *,
    next_time: int | None,
    request: RequestKey | None,
    lifetime: float,
) -> Schedule:
    check_text("agent_id", schedule.agent_id)
    known = requests.claim(transaction, tenant, request, schedule.id, lifetime=lifetime)
    if known is None:
        transaction.do(
            INSERT,
            schedule_id=schedule.id,
            tenant=tenant,
            agent_id=schedule.agent_id,
            body=schedule.SerializeToString(deterministic=True),
            next_time=next_time,
            created=micros(schedule.create_time),
        )
    found = _get(transaction, tenant, known or schedule.id)
    if found is None:
        raise ScheduleNotFound("The schedule that this request made was deleted.", schedule_id=known or schedule.id)
    return found


def _get(transaction: Transaction, tenant: str, schedule_id: str) -> Schedule | None:
    row = transaction.row(GET, tenant=tenant, schedule=schedule_id)
    return _to_schedule(row) if row is not None else None


def _page(transaction: Transaction, tenant: str, agent_id: str, page: Page) -> list[Schedule]:
    after_time, after_id = page.after or (END_OF_TIME, "")
    rows = transaction.rows(
        PAGE, tenant=tenant, agent=agent_id, after_time=after_time, after_id=after_id, limit=page.size
    )
    return [_to_schedule(row) for row in rows]


def _to_due(row: Row) -> DueSchedule:
    tenant, found, *columns = row
    _, _, next_time, *_ = columns
    return DueSchedule(tenant, _to_schedule(tuple(columns)), next_time, found)


def _to_schedule(row: Row) -> Schedule:
    body, paused, next_time, last_time, last_run_id, last_refusal = row
    schedule = Schedule.FromString(body)
    schedule.paused = bool(paused)
    schedule.last_run_id = last_run_id or ""
    schedule.last_refusal = last_refusal
    set_instant(schedule.next_time, next_time)
    set_instant(schedule.last_time, last_time)
    return schedule
