"""Threads: create, get, list, and who of the waiting runs is next (ENGINE.md, G5)."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import case, exists, literal_column, select, true, tuple_, update
from sqlalchemy.dialects.postgresql import insert

from core_service.adapters.sql import requests
from core_service.adapters.sql.rows import THREAD, micros, thread_body, to_thread
from core_service.adapters.sql.runs import END_OF_TIME
from core_service.adapters.sql.schema import IS_NEXT, IS_THREAD_DELETION, deletions, runs, threads
from core_service.adapters.sql.statements import all_given, count, integer, now, text
from core_service.adapters.sql.transaction import Transaction, check_text
from core_service.domain.errors import ThreadExists, ThreadNotFound
from core_service.ports import Page, RequestKey
from penstock.v1.thread_pb2 import Thread

_in_tenant = threads.c.tenant == text("tenant")
_is_thread = (_in_tenant, threads.c.thread_id == text("thread"))

INSERT = (
    insert(threads)
    .values(
        all_given(*(column for column in threads.c if column.name not in ("queue_seq", "message_count", "updated")))
        | {name: literal_column("0") for name in ("queue_seq", "message_count")}
        | {"updated": integer("created")}
    )
    .on_conflict_do_nothing()
    .returning(threads.c.thread_id)
)
BEING_DELETED = select(deletions.c.resource_id).where(
    IS_THREAD_DELETION, deletions.c.tenant == text("tenant"), deletions.c.resource_id == text("thread")
)
GET = select(*THREAD).where(*_is_thread)
PAGE = (
    select(*THREAD)
    .where(_in_tenant, tuple_(threads.c.created, threads.c.thread_id) < tuple_(integer("after_time"), text("after_id")))
    .order_by(threads.c.created.desc(), threads.c.thread_id.desc())
    .limit(count("limit"))
)

LOCK = select(threads.c.thread_id).where(*_is_thread).with_for_update()
_same_thread = (runs.c.tenant == text("tenant"), runs.c.thread_id == text("thread"))
_first = (
    select(runs.c.run_id)
    .where(*_same_thread, IS_NEXT)
    .order_by(runs.c.queue_pos)
    .limit(literal_column("1"))
    .scalar_subquery()
)
_holder = runs.alias("holder")
_is_held = exists().where(
    _holder.c.tenant == text("tenant"), _holder.c.thread_id == text("thread"), _holder.c.holds_thread == true()
)
# The queue timeout counts only at the head of a thread (ENGINE.md, D6): it moves by the time that was spent behind.
_counted_from = case((runs.c.available_time > runs.c.created, runs.c.available_time), else_=runs.c.created)
_behind = case((now() > _counted_from, now() - _counted_from), else_=literal_column("0"))
PROMOTE = (
    update(runs)
    .where(runs.c.run_id == _first, ~_is_held)
    .values(holds_thread=true(), start_by=runs.c.start_by + _behind)
    .returning(runs.c.agent_id)
)
_head = runs.alias("head")
STUCK = (
    select(runs.c.tenant, runs.c.thread_id)
    .where(
        IS_NEXT,
        ~exists().where(
            _head.c.tenant == runs.c.tenant, _head.c.thread_id == runs.c.thread_id, _head.c.holds_thread == true()
        ),
    )
    .distinct()
    .limit(count("limit"))
)


def create_thread(
    transaction: Transaction, tenant: str, thread: Thread, *, request: RequestKey | None, lifetime: float
) -> Thread:
    """Carry out `Store.create_thread`. `lifetime` is that of the request id, in seconds."""
    for field, value in (("id", thread.id), ("state_json", thread.state_json)):
        check_text(field, value)
    known = requests.claim(transaction, tenant, request, thread.id, lifetime=lifetime)
    if known is None and not _insert(transaction, tenant, thread):
        raise ThreadExists("A thread with this id exists. Use it, or choose another id.", thread_id=thread.id)
    if known is None:
        refuse_while_deleted(transaction, tenant, thread.id)
    found = get_thread(transaction, tenant, known or thread.id)
    if found is None:
        raise ThreadNotFound("The thread that this request made is not kept any more.", thread_id=known or thread.id)
    return found


def _insert(transaction: Transaction, tenant: str, thread: Thread) -> bool:
    row = transaction.row(
        INSERT,
        tenant=tenant,
        thread_id=thread.id,
        body=thread_body(thread),
        state=thread.state_json,
        state_version=1 if thread.state_json else 0,
        created=micros(thread.create_time),
    )
    return row is not None


def refuse_while_deleted(transaction: Transaction, tenant: str, thread_id: str) -> None:
    """Refuse a thread that was just inserted while an earlier one of its id still has remains."""
    if transaction.row(BEING_DELETED, tenant=tenant, thread=thread_id) is not None:
        raise ThreadExists(
            "A thread of this id is being deleted. Repeat in a moment, or choose another id.", thread_id=thread_id
        )


def get_thread(transaction: Transaction, tenant: str, thread_id: str) -> Thread | None:
    """Carry out `Store.get_thread`."""
    row = transaction.row(GET, tenant=tenant, thread=thread_id)
    return to_thread(row) if row is not None else None


def list_threads(transaction: Transaction, tenant: str, page: Page) -> list[Thread]:
    """Carry out `Store.list_threads`."""
    after_time, after_id = page.after or (END_OF_TIME, "")
    rows = transaction.rows(PAGE, tenant=tenant, after_time=after_time, after_id=after_id, limit=page.size)
    return [to_thread(row) for row in rows]


def promote(transaction: Transaction, which: Sequence[tuple[str, str]]) -> set[str]:
    """Carry out `Store.promote`. The lock makes a concurrent create wait, so that none is missed."""
    agents: set[str] = set()
    for tenant, thread_id in sorted(which):
        transaction.do(LOCK, tenant=tenant, thread=thread_id)
        agents.update(agent for (agent,) in transaction.rows(PROMOTE, tenant=tenant, thread=thread_id))
    return agents


def stuck_threads(transaction: Transaction, *, limit: int) -> list[tuple[str, str]]:
    """Carry out `Store.stuck_threads`."""
    return [(tenant, thread_id) for tenant, thread_id in transaction.rows(STUCK, limit=limit)]
