"""Runs that live only while somebody watches them (ENGINE.md, D7)."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select, update

from core_service.adapters.sql.rows import select_heads, to_head
from core_service.adapters.sql.schema import IS_ACTIVE, heads, runs
from core_service.adapters.sql.statements import count, is_one_of, now
from core_service.adapters.sql.transaction import Transaction
from core_service.ports import Head

# Heads first and in order, as an append takes them: then neither waits for what the other has.
_in_order = select(heads.c.run_id).where(is_one_of(heads.c.run_id, "ids")).order_by(heads.c.run_id).with_for_update()
KEEP = (
    update(runs)
    .where(runs.c.run_id.in_(_in_order), runs.c.watched_until.is_not(None), IS_ACTIVE)
    .values(watched_until=now() + runs.c.disconnect_grace)
)
UNWATCHED = (
    select_heads()
    .where(runs.c.watched_until <= now(), IS_ACTIVE, runs.c.cancel_time.is_(None))
    .order_by(runs.c.watched_until)
    .limit(count("limit"))
)


def keep_watched(transaction: Transaction, run_ids: Sequence[str]) -> None:
    """Carry out `Store.keep_watched`."""
    transaction.do(KEEP, ids=transaction.list(run_ids))


def unwatched(transaction: Transaction, *, limit: int) -> list[Head]:
    """Carry out `Store.unwatched`."""
    return [to_head(row) for row in transaction.rows(UNWATCHED, limit=limit)]
