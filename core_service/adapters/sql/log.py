"""The log: appends of many runs in one transaction (ENGINE.md, A1–A6), reading, folding.

What an append does to `heads` and `segments` is the one place where the databases have SQL of their own
(`log_sqlite.py`, `log_postgres.py`): each a function from appends to the runs that took theirs.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import TypeAlias

from sqlalchemy import and_, delete, false, insert, null, select, true, update

from core_service.adapters.sql import messages
from core_service.adapters.sql.rows import select_heads, to_head
from core_service.adapters.sql.schema import IS_OPEN, IS_TO_FOLD, heads, inputs, runs, segments, threads
from core_service.adapters.sql.statements import (
    Value,
    all_given,
    count,
    given,
    integer,
    is_one_of,
    now,
    text,
    unless_null,
)
from core_service.adapters.sql.transaction import Transaction, check_text
from core_service.domain import segments as records
from core_service.domain.errors import LogDamaged
from core_service.domain.runs import ENDED
from core_service.ports import Append, AppendOutcome, Head, RunChange, Segment
from penstock.v1.run_pb2 import InputOutcome

WriteLog: TypeAlias = Callable[[Transaction, Sequence[Append]], set[str]]
"""Moves the heads and stores the segments of these appends; returns the runs whose fence and seq were as expected."""

RAW = 0
ZLIB = 1

INSERT_SEGMENT = insert(segments).inline().values(all_given(*(column for column in segments.c if column.name != "id")))
SEGMENTS = (
    select(segments.c.first_seq, segments.c.last_seq, segments.c.codec, segments.c.data)
    .where(segments.c.run_id == text("run"), segments.c.last_seq > integer("after"))
    .order_by(segments.c.last_seq)
    .limit(count("limit"))
)
ENDS_OF_LOGS = select(heads.c.run_id, heads.c.fence, heads.c.last_seq).where(is_one_of(heads.c.run_id, "ids"))
HEAD = select_heads().where(heads.c.run_id == text("run"))
HEADS = select_heads().where(is_one_of(heads.c.run_id, "ids"))

_is_run = runs.c.run_id == text("run")
CHANGE = (
    update(runs)
    .where(_is_run)
    .values(
        {"state": given(runs.c.state)}
        | {
            name: unless_null(runs.c[name])
            for name in ("reason", "leg", "failures", "lost_workers", "available_time", "start_by", "end_body")
        }
    )
)
END = CHANGE.values(holds_thread=false(), ended=now())
RELEASE = update(heads).where(heads.c.run_id == text("run")).values(owner=null(), session=null(), grace_until=null())
WITHDRAW = update(inputs).where(inputs.c.run_id == text("run"), IS_OPEN).values(outcome=given(inputs.c.outcome))
LOCK_THREADS = (
    select(threads.c.thread_id)
    .select_from(threads.join(runs, and_(runs.c.tenant == threads.c.tenant, runs.c.thread_id == threads.c.thread_id)))
    .where(is_one_of(runs.c.run_id, "ids"))
    .order_by(threads.c.tenant, threads.c.thread_id)
    .with_for_update(of=threads)
)
_is_its_thread = select(runs.c.thread_id).where(_is_run).scalar_subquery()
SET_STATE = (
    update(threads)
    .where(threads.c.tenant == text("tenant_is"), threads.c.thread_id == _is_its_thread)
    .values(state=given(threads.c.state), state_version=integer("version"))
)

TO_FOLD = (
    select(runs.c.run_id)
    .where(IS_TO_FOLD, runs.c.ended < integer("before"))
    .order_by(runs.c.ended)
    .limit(count("limit"))
)
MARK_FOLDED = update(runs).where(_is_run, IS_TO_FOLD).values(folded=true()).returning(runs.c.run_id)
EXTENT = select(heads.c.tenant, heads.c.oldest_seq, heads.c.last_seq).where(heads.c.run_id == text("run"))
DELETE_SEGMENTS = delete(segments).where(segments.c.run_id == text("run"))


def agent_version(started: bytes) -> str:
    """Return the version of the agent code that a record of RunStarted names."""
    return records.events(started)[0].run_started.agent_version


# ── appending ─────────────────────────────────────────────────────────────────────────────────────────────


def append(transaction: Transaction, batch: Sequence[Append], write_log: WriteLog) -> list[AppendOutcome]:
    """Carry out `Store.append`. Locks threads, then heads by run id, then runs (ENGINE.md, lock order)."""
    ordered = sorted(batch, key=lambda one: one.run_id)
    speaking = [one.run_id for one in ordered if one.change is not None and _touches_thread(one.change)]
    if speaking and transaction.dialect == "postgresql":  # SQLite has one writer
        transaction.do(LOCK_THREADS, ids=transaction.list(speaking))
    moved = write_log(transaction, ordered)
    _change(transaction, [one for one in ordered if one.change is not None and one.run_id in moved])
    written = moved | _written_before(transaction, [one for one in ordered if one.run_id not in moved])
    return [AppendOutcome.WRITTEN if one.run_id in written else AppendOutcome.REFUSED for one in batch]


def _touches_thread(change: RunChange) -> bool:
    return bool(change.messages) or change.state_json is not None


def _written_before(transaction: Transaction, refused: Sequence[Append]) -> set[str]:
    """Return the runs whose log already ends where the append would end it, by the same fence (ENGINE.md, A6)."""
    if not refused:
        return set()
    rows = transaction.rows(ENDS_OF_LOGS, ids=transaction.list([one.run_id for one in refused]))
    ends = {run_id: (fence, last_seq) for run_id, fence, last_seq in rows}
    return {one.run_id for one in refused if ends.get(one.run_id) == (one.fence, one.last)}


def _change(transaction: Transaction, changed: Sequence[Append]) -> None:
    """Apply the changes of accepted appends."""
    changes = [(one, one.change) for one in changed if one.change is not None]
    withdrawing = [one.run_id for one, change in changes if change.withdraw]
    transaction.do_many(RELEASE, [{"run": one.run_id} for one, change in changes if change.release])
    transaction.do_many(CHANGE, [_columns(one, change) for one, change in changes if change.state not in ENDED])
    transaction.do_many(END, [_columns(one, change) for one, change in changes if change.state in ENDED])
    withdrawn = int(InputOutcome.INPUT_OUTCOME_WITHDRAWN)
    transaction.do_many(WITHDRAW, [{"run": run_id, "outcome": withdrawn} for run_id in withdrawing])
    messages.insert_own(transaction, {one.run_id: change.messages for one, change in changes if change.messages})
    transaction.do_many(
        SET_STATE,
        [
            {
                "run": one.run_id,
                "tenant_is": one.tenant,
                "state": _checked(change.state_json),
                "version": change.state_version,
            }
            for one, change in changes
            if change.state_json is not None
        ],
    )


def _columns(one: Append, change: RunChange) -> dict[str, Value]:
    return {
        "run": one.run_id,
        "state": change.state,
        "reason": change.reason,
        "leg": change.leg,
        "failures": change.failures,
        "lost_workers": change.lost_workers,
        "available_time": change.available_time,
        "start_by": change.start_by,
        "end_body": change.ended,
    }


def _checked(state_json: str) -> str:
    check_text("state_json", state_json)
    return state_json


# ── reading ───────────────────────────────────────────────────────────────────────────────────────────────


def read_segments(transaction: Transaction, run_id: str, *, after_seq: int, limit: int) -> list[Segment]:
    """Carry out `Store.read_segments`."""
    rows = transaction.rows(SEGMENTS, run=run_id, after=after_seq, limit=limit)
    return [
        Segment(first, last, zlib.decompress(data) if codec == ZLIB else bytes(data))
        for first, last, codec, data in rows
    ]


def head(transaction: Transaction, run_id: str) -> Head | None:
    """Carry out `Store.head`."""
    row = transaction.row(HEAD, run=run_id)
    return to_head(row) if row is not None else None


def heads_of(transaction: Transaction, run_ids: Sequence[str]) -> list[Head]:
    """Carry out `Store.heads`."""
    return [to_head(row) for row in transaction.rows(HEADS, ids=transaction.list(run_ids))]


# ── folding ───────────────────────────────────────────────────────────────────────────────────────────────


def foldable(transaction: Transaction, *, ended_before: int, limit: int) -> list[str]:
    """Carry out `Store.foldable`."""
    return [run_id for (run_id,) in transaction.rows(TO_FOLD, before=ended_before, limit=limit)]


def packed(chunks: Sequence[Segment]) -> list[Segment]:
    """Return the chunks compressed: 10–30 ms per MiB, so not where a transaction is open."""
    return [Segment(chunk.first_seq, chunk.last_seq, zlib.compress(chunk.data)) for chunk in chunks]


def fold(transaction: Transaction, run_id: str, chunks: Sequence[Segment]) -> None:
    """Carry out `Store.fold` with `packed` chunks; of two cores that fold the same run one does nothing."""
    if transaction.row(MARK_FOLDED, run=run_id) is None:
        return
    tenant, oldest, last = transaction.one(EXTENT, run=run_id)
    if not _tile(chunks, oldest, last):
        raise LogDamaged(f"The chunks of {run_id} are not its events {oldest} to {last}.", run_id=run_id)
    transaction.do(DELETE_SEGMENTS, run=run_id)
    transaction.do_many(
        INSERT_SEGMENT,
        [
            {
                "tenant": tenant,
                "run_id": run_id,
                "first_seq": chunk.first_seq,
                "last_seq": chunk.last_seq,
                "codec": ZLIB,
                "data": chunk.data,
            }
            for chunk in chunks
        ],
    )


def _tile(chunks: Sequence[Segment], oldest: int, last: int) -> bool:
    expected = oldest
    for chunk in chunks:
        if chunk.first_seq != expected:
            return False
        expected = chunk.last_seq + 1
    return expected == last + 1
