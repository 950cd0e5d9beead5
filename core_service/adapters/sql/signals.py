"""What waits for whoever appends to a run: rows that its log does not tell of (ENGINE.md, B10)."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select, union

from core_service.adapters.sql.rows import select_heads, to_head
from core_service.adapters.sql.schema import (
    IS_SETTLED_UNSEEN,
    IS_TO_CANCEL,
    IS_UNSEEN,
    heads,
    inbox,
    inputs,
    runs,
    state_is,
)
from core_service.adapters.sql.statements import count, is_one_of
from core_service.adapters.sql.transaction import Transaction
from core_service.domain.runs import WAITING
from core_service.ports import Head

SIGNALLED = union(
    select(inputs.c.run_id).where(is_one_of(inputs.c.run_id, "ids"), IS_SETTLED_UNSEEN),
    select(inbox.c.run_id).where(is_one_of(inbox.c.run_id, "ids"), IS_UNSEEN),
)

_unseen = union(
    select(inputs.c.run_id).where(IS_SETTLED_UNSEEN),
    select(runs.c.run_id).where(IS_TO_CANCEL, state_is(WAITING)),
)
NOBODYS = (
    select_heads()
    .where(heads.c.run_id.in_(_unseen), state_is(WAITING), heads.c.owner.is_(None), heads.c.session.is_(None))
    .order_by(heads.c.run_id)
    .limit(count("limit"))
)


def signalled(transaction: Transaction, run_ids: Sequence[str]) -> list[str]:
    """Carry out `Store.signalled`."""
    return [run_id for (run_id,) in transaction.rows(SIGNALLED, ids=transaction.list(run_ids))]


def nobodys_signals(transaction: Transaction, *, limit: int) -> list[Head]:
    """Carry out `Store.nobodys_signals`."""
    return [to_head(row) for row in transaction.rows(NOBODYS, limit=limit)]
