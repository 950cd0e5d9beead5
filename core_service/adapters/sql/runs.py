"""Runs as clients see them: get, list, cancel. Creating one is `create.py`, what happens to it `log.py`."""

from __future__ import annotations

from sqlalchemy import literal_column, tuple_, update

from core_service.adapters.sql import log, requests
from core_service.adapters.sql.rows import select_runs, to_run
from core_service.adapters.sql.schema import runs, state_is
from core_service.adapters.sql.statements import count, given, integer, now, text
from core_service.adapters.sql.transaction import Transaction
from core_service.domain.runs import ACTIVE
from core_service.ports import Head, Page, RequestKey, RunFilter
from penstock.v1.run_pb2 import EndReason, Run

END_OF_TIME = (1 << 63) - 1

_in_tenant = runs.c.tenant == text("tenant")
_is_run = runs.c.run_id == text("run")
GET = select_runs().where(_in_tenant, _is_run)

_PAGE = (
    select_runs()
    .where(
        _in_tenant,
        tuple_(runs.c.created, runs.c.run_id) < tuple_(integer("after_time"), text("after_id")),
        runs.c.created >= integer("since"),
        runs.c.created < integer("before"),
        literal_column("1").bitwise_lshift(runs.c.state).bitwise_and(integer("states")) != literal_column("0"),
    )
    .order_by(runs.c.created.desc(), runs.c.run_id.desc())
    .limit(count("limit"))
)
_of_thread = runs.c.thread_id == text("thread")
_of_agent = runs.c.agent_id == text("agent")
# By (a thread is given, an agent is given): each has an index that delivers the order. SQLite has to be told: it takes
# the tenant for selective.
PAGES = {
    (False, False): _PAGE,
    (True, False): _PAGE.where(_of_thread).with_hint(runs, "INDEXED BY runs_of_thread", "sqlite"),
    (False, True): _PAGE.where(_of_agent).with_hint(runs, "INDEXED BY runs_of_agent", "sqlite"),
    (True, True): _PAGE.where(_of_thread, _of_agent).with_hint(runs, "INDEXED BY runs_of_thread", "sqlite"),
}

NOTE_CANCEL = (
    update(runs)
    .where(_in_tenant, _is_run, runs.c.cancel_time.is_(None), state_is(*sorted(ACTIVE)))
    .values(cancel_reason=given(runs.c.cancel_reason), cancel_time=now())
)


def get_run(transaction: Transaction, tenant: str, run_id: str) -> Run | None:
    """Carry out `Store.get_run`."""
    row = transaction.row(GET, tenant=tenant, run=run_id)
    return to_run(row) if row is not None else None


def list_runs(transaction: Transaction, tenant: str, which: RunFilter, page: Page) -> list[Run]:
    """Carry out `Store.list_runs`."""
    after_time, after_id = page.after or (END_OF_TIME, "")
    parameters = {"thread": which.thread_id, "agent": which.agent_id}
    rows = transaction.rows(
        PAGES[which.thread_id is not None, which.agent_id is not None],
        **{name: value for name, value in parameters.items() if value is not None},
        tenant=tenant,
        after_time=after_time,
        after_id=after_id,
        since=which.created_since or 0,
        before=END_OF_TIME if which.created_before is None else which.created_before,
        states=sum(1 << state for state in set(which.states)) if which.states else -1,
        limit=page.size,
    )
    return [to_run(row) for row in rows]


def request_cancel(
    transaction: Transaction,
    tenant: str,
    run_id: str,
    reason: EndReason.ValueType,
    *,
    request: RequestKey | None,
    lifetime: float,
) -> Head | None:
    """Carry out `Store.request_cancel`. `lifetime` is that of the request id, in seconds."""
    head = log.head(transaction, run_id)
    if head is None or head.tenant != tenant:
        return None
    if requests.claim(transaction, tenant, request, run_id, lifetime=lifetime) is None:
        transaction.do(NOTE_CANCEL, tenant=tenant, run=run_id, cancel_reason=reason)
    return log.head(transaction, run_id)
