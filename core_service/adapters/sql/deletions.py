"""Deleting runs and threads: what is deleted is gone at once; what it leaves behind goes in pieces of bounded size.

A row of `deletions` names what still has remains, so that a crash leaves nothing behind for good. As long as a thread
has such a row, nothing is created under its id: whoever inserts a thread looks here afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Delete, delete, literal_column, select
from sqlalchemy.dialects.postgresql import insert

from core_service.adapters.sql import requests
from core_service.adapters.sql.schema import (
    IS_ACTIVE,
    IS_RUN_DELETION,
    IS_THREAD_DELETION,
    IS_TO_FOLLOW_UP,
    deletions,
    heads,
    inbox,
    inputs,
    messages,
    run_labels,
    runs,
    segments,
    steps,
    threads,
    webhooks,
)
from core_service.adapters.sql.statements import all_given, count, is_one_of, text
from core_service.adapters.sql.transaction import Transaction
from core_service.domain.errors import RunActive, RunNotFound, ThreadBusy, ThreadNotFound
from core_service.domain.runs import ACTIVE
from core_service.ports import Cleared, Remains, RequestKey

THREAD, RUN = 1, 2

RUNS_PER_PIECE = 50
MESSAGES_PER_PIECE = 500
SEGMENTS_PER_PIECE = 200

_is_thread = (threads.c.tenant == text("tenant"), threads.c.thread_id == text("thread"))
_of_thread = (runs.c.tenant == text("tenant"), runs.c.thread_id == text("thread"))
_said_in_thread = (messages.c.tenant == text("tenant"), messages.c.thread_id == text("thread"))

LOCK_HEAD = (
    select(heads.c.run_id).where(heads.c.run_id == text("run"), heads.c.tenant == text("tenant")).with_for_update()
)
STATE = select(runs.c.state).where(runs.c.run_id == text("run"))
LOCK_THREAD = select(threads.c.thread_id).where(*_is_thread).with_for_update()
ACTIVE_RUN = (
    select(runs.c.run_id)
    .where(*_of_thread, IS_ACTIVE)
    .order_by(runs.c.holds_thread.desc(), runs.c.queue_pos)
    .limit(literal_column("1"))
)
# Messages that nobody read become a run of their own: until then the run that they came to is not over.
IS_FOLLOWED = select(inbox.c.run_id).where(inbox.c.run_id == text("run"), IS_TO_FOLLOW_UP).limit(literal_column("1"))
FOLLOWED_RUN = (
    select(runs.c.run_id)
    .select_from(inbox.join(runs, runs.c.run_id == inbox.c.run_id))
    .where(IS_TO_FOLLOW_UP, *_of_thread)
    .limit(literal_column("1"))
)
DELETE_THREAD = delete(threads).where(*_is_thread)
DELETE_RUNS = delete(runs).where(is_one_of(runs.c.run_id, "ids"))
DELETE_HEADS = delete(heads).where(is_one_of(heads.c.run_id, "ids"))
NOTE = insert(deletions).values(all_given(*deletions.c)).on_conflict_do_nothing()

_row = (deletions.c.tenant == text("tenant"), deletions.c.resource_id == text("id"))
PENDING = {
    THREAD: select(deletions.c.kind).where(IS_THREAD_DELETION, *_row).with_for_update(),
    RUN: select(deletions.c.kind).where(IS_RUN_DELETION, *_row).with_for_update(),
}
DONE = {
    THREAD: delete(deletions).where(IS_THREAD_DELETION, *_row),
    RUN: delete(deletions).where(IS_RUN_DELETION, *_row),
}
ALL = (
    select(deletions.c.kind, deletions.c.tenant, deletions.c.resource_id)
    .order_by(deletions.c.kind, deletions.c.tenant, deletions.c.resource_id)
    .limit(count("limit"))
)

SOME_RUNS = select(runs.c.run_id).where(*_of_thread).order_by(runs.c.created, runs.c.run_id).limit(count("limit"))
_SOME_POSITIONS = select(messages.c.pos).where(*_said_in_thread).order_by(messages.c.pos).limit(count("limit"))
SOME_MESSAGES = delete(messages).where(*_said_in_thread, messages.c.pos.in_(_SOME_POSITIONS)).returning(messages.c.pos)
_SOME_ROWS = (
    select(segments.c.id).where(segments.c.run_id == text("run")).order_by(segments.c.last_seq).limit(count("limit"))
)
SOME_SEGMENTS = delete(segments).where(segments.c.id.in_(_SOME_ROWS)).returning(segments.c.last_seq)
RECORDS: dict[str, Delete] = {
    table.name: delete(table).where(table.c.run_id == text("run"))
    for table in (steps, inputs, inbox, run_labels, webhooks)
}
"""Beside the log; of one run they are few and small (ENGINE.md, E9)."""


# ── deleting ──────────────────────────────────────────────────────────────────────────────────────────────


def delete_run(
    transaction: Transaction, tenant: str, run_id: str, *, request: RequestKey | None, lifetime: float
) -> None:
    """Carry out `DeletionStore.delete_run`. The lock on the head decides against an append."""
    if requests.claim(transaction, tenant, request, run_id, lifetime=lifetime) is not None:
        return
    if transaction.row(LOCK_HEAD, tenant=tenant, run=run_id) is None:
        raise RunNotFound(f"There is no run {run_id[:80]!r}.", run_id=run_id[:80])
    (state,) = transaction.one(STATE, run=run_id)
    if state in ACTIVE or transaction.row(IS_FOLLOWED, run=run_id) is not None:
        raise RunActive("The run has not ended. Cancel it first, or ask for that.", run_id=run_id)
    delete_runs(transaction, tenant, [run_id])


def delete_thread(
    transaction: Transaction, tenant: str, thread_id: str, *, request: RequestKey | None, lifetime: float
) -> None:
    """Carry out `DeletionStore.delete_thread`. The lock on the thread decides against a create."""
    if requests.claim(transaction, tenant, request, thread_id, lifetime=lifetime) is not None:
        return
    if transaction.row(LOCK_THREAD, tenant=tenant, thread=thread_id) is None:
        raise ThreadNotFound(f"There is no thread {thread_id[:80]!r}.", thread_id=thread_id[:80])
    where = {"tenant": tenant, "thread": thread_id}
    active = transaction.row(ACTIVE_RUN, **where) or transaction.row(FOLLOWED_RUN, **where)
    if active is not None:
        raise ThreadBusy("The thread has an active run. Cancel it first, or ask for that.", run_id=active[0])
    transaction.do(DELETE_THREAD, tenant=tenant, thread=thread_id)
    transaction.do(NOTE, kind=THREAD, tenant=tenant, resource_id=thread_id)


def delete_runs(transaction: Transaction, tenant: str, run_ids: Sequence[str]) -> None:
    """Delete ended runs, whose heads are locked, and note what they leave behind."""
    ids = transaction.list(run_ids)
    transaction.do(DELETE_HEADS, ids=ids)
    transaction.do(DELETE_RUNS, ids=ids)
    transaction.do_many(NOTE, [{"kind": RUN, "tenant": tenant, "resource_id": run_id} for run_id in run_ids])


# ── remains ───────────────────────────────────────────────────────────────────────────────────────────────


def remains(transaction: Transaction, *, limit: int) -> list[Remains]:
    """Carry out `DeletionStore.remains`."""
    rows = transaction.rows(ALL, limit=limit)
    return [Remains(tenant, resource_id, is_thread=kind == THREAD) for kind, tenant, resource_id in rows]


def clear(transaction: Transaction, what: Remains) -> Cleared:
    """Carry out `DeletionStore.clear_remains`. Without its row there are no remains: the id may be in use again."""
    kind = THREAD if what.is_thread else RUN
    if transaction.row(PENDING[kind], tenant=what.tenant, id=what.resource_id) is None:
        return Cleared(is_done=True)
    cleared = _clear_thread(transaction, what) if what.is_thread else _clear_run(transaction, what.resource_id)
    if cleared.is_done:
        transaction.do(DONE[kind], tenant=what.tenant, id=what.resource_id)
    return cleared


def _clear_thread(transaction: Transaction, what: Remains) -> Cleared:
    where = {"tenant": what.tenant, "thread": what.resource_id}
    run_ids = tuple(run_id for (run_id,) in transaction.rows(SOME_RUNS, **where, limit=RUNS_PER_PIECE))
    delete_runs(transaction, what.tenant, run_ids)
    if len(run_ids) == RUNS_PER_PIECE:
        return Cleared(is_done=False, run_ids=run_ids)
    said = transaction.rows(SOME_MESSAGES, **where, limit=MESSAGES_PER_PIECE)
    return Cleared(is_done=len(said) < MESSAGES_PER_PIECE, run_ids=run_ids)


def _clear_run(transaction: Transaction, run_id: str) -> Cleared:
    if len(transaction.rows(SOME_SEGMENTS, run=run_id, limit=SEGMENTS_PER_PIECE)) == SEGMENTS_PER_PIECE:
        return Cleared(is_done=False)
    for statement in RECORDS.values():
        transaction.do(statement, run=run_id)
    return Cleared(is_done=True)
