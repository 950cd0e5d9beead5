"""Delayed runs: once due they join the end of their thread's queue, messages and all (ENGINE.md, G6)."""

from __future__ import annotations

from sqlalchemy import and_, false, literal_column, select, update

from core_service.adapters.sql import log, messages
from core_service.adapters.sql import threads as turns
from core_service.adapters.sql.schema import IS_DELAYED, runs, threads
from core_service.adapters.sql.statements import count, given, now, text
from core_service.adapters.sql.transaction import Transaction

DUE = (
    select(runs.c.tenant, runs.c.thread_id, runs.c.run_id)
    .where(IS_DELAYED, runs.c.available_time <= now(), runs.c.cancel_time.is_(None))
    .order_by(runs.c.available_time, runs.c.queue_pos)
    .limit(count("limit"))
)
STILL_DELAYED = select(runs.c.queue_pos).where(runs.c.run_id == text("run"), IS_DELAYED, runs.c.cancel_time.is_(None))
NEXT_PLACE = (
    update(threads)
    .where(and_(threads.c.tenant == text("tenant_is"), threads.c.thread_id == text("thread_is")))
    .values(queue_seq=threads.c.queue_seq + literal_column("1"))
    .returning(threads.c.queue_seq)
)
JOIN = update(runs).where(runs.c.run_id == text("run")).values(delayed=false(), queue_pos=given(runs.c.queue_pos))


def join_due(transaction: Transaction, *, limit: int) -> list[tuple[str, str]]:
    """Carry out `Store.join_due`; `limit` counts runs. Of those of one thread the earliest joins first."""
    due = transaction.rows(DUE, limit=limit)
    joined = sorted({(tenant, thread_id) for tenant, thread_id, _ in due})
    for tenant, thread_id in joined:
        transaction.do(turns.LOCK, tenant=tenant, thread=thread_id)
    if due:
        transaction.do(log.LOCK_HEADS, ids=transaction.list([run_id for _, _, run_id in due]))
    for tenant, thread_id, run_id in due:
        _join(transaction, tenant, thread_id, run_id)
    return joined


def _join(transaction: Transaction, tenant: str, thread_id: str, run_id: str) -> None:
    """Move a run from its old place to the end, unless another core did, or it has been cancelled meanwhile."""
    old = transaction.row(STILL_DELAYED, run=run_id)
    if old is None:
        return
    (place,) = transaction.one(NEXT_PLACE, tenant_is=tenant, thread_is=thread_id)
    transaction.do(JOIN, run=run_id, queue_pos=place)
    messages.show_at(transaction, tenant, thread_id, old[0], place)
