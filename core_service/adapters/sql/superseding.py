"""The policies INTERRUPT and ROLLBACK: what is active on a thread makes room for a new run (ENGINE.md, G4)."""

from __future__ import annotations

from sqlalchemy import and_, false, select, true, union_all, update

from core_service.adapters.sql import log
from core_service.adapters.sql.schema import IS_ACTIVE, IS_HOLDER, IS_WAITING_TURN, runs
from core_service.adapters.sql.statements import given, is_one_of, now, text
from core_service.adapters.sql.transaction import Transaction
from core_service.domain.threads import Turn
from core_service.ports import Head, NewRun
from penstock.v1.run_pb2 import EndReason

_in_thread = and_(runs.c.tenant == text("tenant"), runs.c.thread_id == text("thread"), runs.c.cancel_time.is_(None))
ACTIVE = union_all(
    select(runs.c.run_id, true().label("holds"), runs.c.queue_pos).where(_in_thread, IS_HOLDER),
    select(runs.c.run_id, false(), runs.c.queue_pos).where(_in_thread, IS_WAITING_TURN),
)
NOTE = (
    update(runs)
    .where(is_one_of(runs.c.run_id, "ids"), IS_ACTIVE, runs.c.cancel_time.is_(None))
    .values(cancel_reason=given(runs.c.cancel_reason), cancel_time=now())
    .returning(runs.c.run_id)
)

REASONS = {
    Turn.INTERRUPT: EndReason.END_REASON_SUPERSEDED,
    Turn.ROLLBACK: EndReason.END_REASON_ROLLED_BACK,
}


def supersede(transaction: Transaction, new: NewRun, turn: Turn) -> tuple[Head, ...]:
    """Note a cancel for the holder of the locked thread and all that wait, unless one was noted before.

    Returns their heads: the holder, then the others in their order. Delayed runs are not there yet, and stay.
    """
    reason = REASONS.get(turn)
    if reason is None:
        return ()
    rows = transaction.rows(ACTIVE, tenant=new.tenant, thread=new.run.thread_id)
    ids = [run_id for run_id, _, _ in sorted(rows, key=lambda row: (not row[1], row[2]))]
    if not ids:
        return ()
    listed = transaction.list(ids)
    transaction.do(log.LOCK_HEADS, ids=listed)
    noted = {run_id for (run_id,) in transaction.rows(NOTE, ids=listed, cancel_reason=reason)}
    found = {head.run_id: head for head in log.heads_of(transaction, sorted(noted))}
    return tuple(found[run_id] for run_id in ids if run_id in noted)
