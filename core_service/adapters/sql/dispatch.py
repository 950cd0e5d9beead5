"""Queued heads of threads: claiming them for a worker (ENGINE.md, I1, I2), counting them, finding the overdue."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import and_, case, func, literal_column, null, select, union_all, update

from core_service.adapters.sql.log import INSERT_SEGMENT, RAW, agent_version
from core_service.adapters.sql.messages import with_messages
from core_service.adapters.sql.rows import OWNED, select_heads, select_owned, to_head
from core_service.adapters.sql.schema import IS_QUEUED_HEAD, IS_TO_CANCEL, heads, runs, state_is, threads
from core_service.adapters.sql.statements import count, given, now, text
from core_service.adapters.sql.transaction import Row, Transaction
from core_service.domain.runs import QUEUED, RUNNING
from core_service.ports import Head, Owned

_of_agent = runs.c.agent_id == text("agent")
_claimable = (
    select_owned()
    .where(
        _of_agent,
        runs.c.tenant == text("tenant"),
        IS_QUEUED_HEAD,
        runs.c.available_time <= now(),
        runs.c.cancel_reason.is_(None),
    )
    .limit(count("limit"))
    # Both rows: a claim that committed in between shows in both, a cancel only in the second.
    .with_for_update(of=[heads, runs], skip_locked=True)
)
BY_PRIORITY = _claimable.order_by(runs.c.priority.desc(), runs.c.created, runs.c.run_id)
BY_AGE = _claimable.order_by(runs.c.created, runs.c.run_id)

_its_thread = and_(threads.c.tenant == runs.c.tenant, threads.c.thread_id == runs.c.thread_id)
_thread_state = select(threads.c.state).where(_its_thread).scalar_subquery()
_thread_version = select(threads.c.state_version).where(_its_thread).scalar_subquery()
_is_first = runs.c.attempt == literal_column("0")
RUN_STARTS = (
    update(runs)
    .where(runs.c.run_id == text("run"))
    .values(
        state=literal_column(str(int(RUNNING))),
        attempt=given(runs.c.attempt),
        agent_version=given(runs.c.agent_version),
        started=func.coalesce(runs.c.started, now()),
        state_before=case((_is_first, _thread_state), else_=runs.c.state_before),
        state_before_version=case((_is_first, _thread_version), else_=runs.c.state_before_version),
        deadline=now() + runs.c.run_left,
        run_left=null(),
    )
)
HEAD_STARTS = (
    update(heads)
    .where(heads.c.run_id == text("run"))
    .values(
        fence=heads.c.fence + literal_column("1"),
        last_seq=given(heads.c.last_seq),
        acked=literal_column("0"),
        owner=given(heads.c.owner),
        session=given(heads.c.session),
        grace_until=null(),
    )
)
STARTED = select_owned().where(runs.c.run_id == text("run"))

NEXT_TENANT = (
    select(runs.c.tenant)
    .where(_of_agent, runs.c.tenant > text("after"), IS_QUEUED_HEAD)
    .order_by(runs.c.tenant)
    .limit(literal_column("1"))
)
_overdue = union_all(
    select(runs.c.run_id).where(IS_QUEUED_HEAD, runs.c.start_by <= now()),
    select(runs.c.run_id).where(IS_TO_CANCEL, state_is(QUEUED)),
)
OVERDUE = (
    select_heads()
    .where(runs.c.run_id.in_(_overdue))
    .order_by(func.coalesce(runs.c.cancel_time, runs.c.start_by))
    .limit(count("limit"))
)
QUEUED_COUNT = select(func.count()).where(IS_QUEUED_HEAD)

_RUN_ID = OWNED.index(runs.c.run_id)
_ATTEMPT = OWNED.index(runs.c.attempt)
_LAST_SEQ = OWNED.index(heads.c.last_seq)


def claim(
    transaction: Transaction,
    tenant: str,
    agent_id: str,
    *,
    owner: str,
    session: str,
    limit: int,
    by_age: bool,
    started: Callable[[int, int], bytes],
) -> list[Owned]:
    """Carry out `Store.claim`; `by_age` leaves priorities out, so that nobody waits for ever."""
    candidates = transaction.rows(BY_AGE if by_age else BY_PRIORITY, tenant=tenant, agent=agent_id, limit=limit)
    for row in candidates:
        _start(transaction, tenant, row, owner=owner, session=session, started=started)
    return [with_messages(transaction, transaction.one(STARTED, run=row[_RUN_ID])) for row in candidates]


def _start(
    transaction: Transaction,
    tenant: str,
    row: Row,
    *,
    owner: str,
    session: str,
    started: Callable[[int, int], bytes],
) -> None:
    run_id, attempt, seq = row[_RUN_ID], row[_ATTEMPT] + 1, row[_LAST_SEQ] + 1
    record = started(seq, attempt)
    transaction.do(HEAD_STARTS, run=run_id, last_seq=seq, owner=owner, session=session)
    transaction.do(RUN_STARTS, run=run_id, attempt=attempt, agent_version=agent_version(record))
    transaction.do(INSERT_SEGMENT, tenant=tenant, run_id=run_id, first_seq=seq, last_seq=seq, codec=RAW, data=record)


def waiting_tenants(transaction: Transaction, agent_id: str, *, after: str, limit: int) -> list[str]:
    """Carry out `Store.waiting_tenants`: one step in the index per tenant, however many runs each has."""
    found: list[str] = []
    while len(found) < limit:
        row = transaction.row(NEXT_TENANT, agent=agent_id, after=found[-1] if found else after)
        if row is None:
            break
        found.append(row[0])
    return found


def overdue_queued(transaction: Transaction, *, limit: int) -> list[Head]:
    """Carry out `Store.overdue_queued`."""
    return [to_head(row) for row in transaction.rows(OVERDUE, limit=limit)]


def queued_count(transaction: Transaction) -> int:
    """Carry out `Store.queued_count`."""
    return int(transaction.one(QUEUED_COUNT)[0])
