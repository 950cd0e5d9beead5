"""Runs as clients see them: get, list, cancel. Creating one is `create.py`, what happens to it `log.py`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from sqlalchemy import LargeBinary, Select, bindparam, exists, func, literal_column, select, tuple_, update

from core_service.adapters.sql import log, requests
from core_service.adapters.sql.labels import label
from core_service.adapters.sql.rows import RUN, select_runs, to_run
from core_service.adapters.sql.schema import IS_OPEN, heads, inputs, run_labels, runs, state_is
from core_service.adapters.sql.statements import Value, count, given, integer, is_one_of, now, text
from core_service.adapters.sql.transaction import Row, Transaction
from core_service.domain.runs import ACTIVE, RUNNING, WAITING
from core_service.ports import Head, Page, RequestKey, RunFilter
from penstock.v1.run_pb2 import EndReason, Run

END_OF_TIME = (1 << 63) - 1

_in_tenant = runs.c.tenant == text("tenant")
_is_run = runs.c.run_id == text("run")
GET = select_runs().where(_in_tenant, _is_run)

_in_states = literal_column("1").bitwise_lshift(runs.c.state).bitwise_and(integer("states")) != literal_column("0")
_PAGE = (
    select_runs()
    .where(
        _in_tenant,
        tuple_(runs.c.created, runs.c.run_id) < tuple_(integer("after_time"), text("after_id")),
        runs.c.created >= integer("since"),
        runs.c.created < integer("before"),
        _in_states,
    )
    .order_by(runs.c.created.desc(), runs.c.run_id.desc())
    .limit(count("limit"))
)
# Runs with labels are found by the first of them; its rows are in the order of the list.
_first = run_labels.alias("first")
_LABELLED = (
    select(*RUN)
    .select_from(_first.join(runs, runs.c.run_id == _first.c.run_id).join(heads, heads.c.run_id == runs.c.run_id))
    .where(
        _first.c.tenant == text("tenant"),
        _first.c.label == bindparam("label_0", type_=LargeBinary()),
        tuple_(_first.c.created, _first.c.run_id) < tuple_(integer("after_time"), text("after_id")),
        _first.c.created >= integer("since"),
        _first.c.created < integer("before"),
        _in_states,
        runs.c.thread_id == func.coalesce(text("thread"), runs.c.thread_id),
        runs.c.agent_id == func.coalesce(text("agent"), runs.c.agent_id),
    )
    .order_by(_first.c.created.desc(), _first.c.run_id.desc())
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

OPEN_QUESTIONS = (
    select(inputs.c.run_id, inputs.c.request)
    .where(is_one_of(inputs.c.run_id, "ids"), IS_OPEN)
    .order_by(inputs.c.run_id, inputs.c.asked_seq)
)

NOTE_CANCEL = (
    update(runs)
    .where(_in_tenant, _is_run, runs.c.cancel_time.is_(None), state_is(*sorted(ACTIVE)))
    .values(cancel_reason=given(runs.c.cancel_reason), cancel_time=now())
)


def get_run(transaction: Transaction, tenant: str, run_id: str) -> Run | None:
    """Carry out `Store.get_run`."""
    rows = transaction.rows(GET, tenant=tenant, run=run_id)
    return next(iter(_with_questions(transaction, rows)), None)


def list_runs(transaction: Transaction, tenant: str, which: RunFilter, page: Page) -> list[Run]:
    """Carry out `Store.list_runs`."""
    after_time, after_id = page.after or (END_OF_TIME, "")
    rows = transaction.rows(
        _page(which),
        **_given(which),
        tenant=tenant,
        after_time=after_time,
        after_id=after_id,
        since=which.created_since or 0,
        before=END_OF_TIME if which.created_before is None else which.created_before,
        states=sum(1 << state for state in set(which.states)) if which.states else -1,
        limit=page.size,
    )
    return _with_questions(transaction, rows)


def _page(which: RunFilter) -> Select[tuple[object, ...]]:
    if which.labels:
        return labelled_page(len(which.labels))
    return PAGES[which.thread_id is not None, which.agent_id is not None]


def _given(which: RunFilter) -> dict[str, Value]:
    scope: dict[str, Value] = {"thread": which.thread_id, "agent": which.agent_id}
    if not which.labels:
        return {name: value for name, value in scope.items() if value is not None}
    return scope | {f"label_{number}": label(*entry) for number, entry in enumerate(which.labels)}


@cache
def labelled_page(labels: int) -> Select[tuple[object, ...]]:
    """Return the query for runs that have all of this many labels."""
    others = [run_labels.alias(f"other_{number}") for number in range(1, labels)]
    has_others = [
        exists().where(
            other.c.tenant == _first.c.tenant,
            other.c.label == bindparam(f"label_{number}", type_=LargeBinary()),
            other.c.created == _first.c.created,
            other.c.run_id == _first.c.run_id,
        )
        for number, other in enumerate(others, 1)
    ]
    return _LABELLED.where(*has_others)


def _with_questions(transaction: Transaction, rows: Sequence[Row]) -> list[Run]:
    """Make runs of rows, each with its open questions."""
    found = [to_run(row) for row in rows]
    asking = {run.id: run for run in found if run.state in (RUNNING, WAITING)}
    if asking:
        for run_id, request in transaction.rows(OPEN_QUESTIONS, ids=transaction.list(list(asking))):
            asking[run_id].inputs.add().MergeFromString(request)
    return found


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
