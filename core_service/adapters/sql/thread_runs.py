"""The runs of a thread in the order of their places, for those who follow a thread."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import and_, false, select

from core_service.adapters.sql.schema import runs, threads
from core_service.adapters.sql.statements import count, integer, is_one_of, text
from core_service.adapters.sql.transaction import Transaction
from core_service.domain.errors import ThreadNotFound
from core_service.ports import RunInThread

NEXT = (
    select(runs.c.run_id, runs.c.queue_pos)
    .select_from(
        threads.outerjoin(
            runs,
            and_(
                runs.c.tenant == threads.c.tenant,
                runs.c.thread_id == threads.c.thread_id,
                runs.c.queue_pos >= integer("place"),
                runs.c.delayed == false(),
            ),
        )
    )
    .where(threads.c.tenant == text("tenant"), threads.c.thread_id == text("thread"))
    .order_by(runs.c.queue_pos)
    .limit(count("limit"))
)
NEWEST = select(threads.c.thread_id, threads.c.queue_seq).where(
    threads.c.tenant == text("tenant"), is_one_of(threads.c.thread_id, "ids")
)


def next_runs(transaction: Transaction, tenant: str, thread_id: str, *, place: int, limit: int) -> list[RunInThread]:
    """Carry out `HistoryStore.next_runs`. A thread without such runs is one row of nulls, no thread is no row."""
    rows = transaction.rows(NEXT, tenant=tenant, thread=thread_id, place=place, limit=limit)
    if not rows:
        raise ThreadNotFound(f"There is no thread {thread_id[:80]!r}.", thread_id=thread_id[:80])
    return [RunInThread(run_id, queue_pos) for run_id, queue_pos in rows if run_id is not None]


def newest_places(transaction: Transaction, tenant: str, thread_ids: Sequence[str]) -> dict[str, int]:
    """Carry out `HistoryStore.newest_places`."""
    return dict(transaction.rows(NEWEST, tenant=tenant, ids=transaction.list(thread_ids)))
