"""The log: appends of many runs in one transaction (ENGINE.md, A1–A6), and reading.

What an append does to `heads` and `segments` is the one place where the databases have SQL of their own
(`log_sqlite.py`, `log_postgres.py`): each writes appends, and tells once it is asked which runs took theirs.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import TypeAlias

from sqlalchemy import insert, select

from core_service.adapters.sql import changes, endings, messages, notes
from core_service.adapters.sql.rows import select_heads, to_head
from core_service.adapters.sql.schema import heads, segments
from core_service.adapters.sql.statements import all_given, count, integer, is_one_of, text
from core_service.adapters.sql.transaction import Transaction
from core_service.domain import segments as records
from core_service.domain.runs import ENDED
from core_service.ports import Append, Head, Segment

WriteLog: TypeAlias = Callable[[Transaction, Sequence[Append]], Callable[[], set[str]]]
"""Moves the heads and stores the segments of these appends. What it returns tells, once, and also after the commit, the
runs whose fence and seq were as expected."""

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
LOCK_HEAD = select(heads.c.run_id).where(heads.c.run_id == text("run")).with_for_update()
LOCK_HEADS = select(heads.c.run_id).where(is_one_of(heads.c.run_id, "ids")).order_by(heads.c.run_id).with_for_update()


def agent_version(started: bytes) -> str:
    """Return the version of the agent code that a record of RunStarted names."""
    return records.events(started)[0].run_started.agent_version


# ── appending ─────────────────────────────────────────────────────────────────────────────────────────────


def append(transaction: Transaction, batch: Sequence[Append], write_log: WriteLog) -> Callable[[], set[str]]:
    """Append what fence and seq allow. What is returned tells, after the commit, which runs that were.

    Locks threads, then heads by run id, then runs (ENGINE.md, lock order). What changes more than logs has to know
    first which runs may: then all that it needs is asked at once. What does not is not waited for.
    """
    ordered = sorted(batch, key=lambda one: one.run_id)
    speaking = [one.run_id for one in ordered if one.change is not None and changes.touches_thread(one.change)]
    places = messages.lock_places(transaction, speaking)
    moving = write_log(transaction, ordered)
    if all(one.change is None and one.noted is None for one in ordered):
        return moving
    unsettled = endings.ask_unsettled(
        transaction, [one.run_id for one in ordered if one.change and one.change.state in ENDED]
    )
    moved = moving()
    accepted = [one for one in ordered if one.run_id in moved]
    notes.write(transaction, [(one, one.noted) for one in accepted if one.noted is not None])
    changed = [(one, one.change) for one in accepted if one.change is not None]
    changes.apply(transaction, changed, places())
    endings.settle(transaction, [(one, change) for one, change in changed if change.state in ENDED], unsettled())
    return lambda: moved


def written_before(transaction: Transaction, refused: Sequence[Append]) -> Callable[[], set[str]]:
    """Look which logs already end where the append would end them, by the same fence (ENGINE.md, A6)."""
    rows = transaction.ask(ENDS_OF_LOGS, ids=transaction.list([one.run_id for one in refused]))

    def written() -> set[str]:
        ends = {run_id: (fence, last_seq) for run_id, fence, last_seq in rows()}
        return {one.run_id for one in refused if ends.get(one.run_id) == (one.fence, one.last)}

    return written


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


def locked_head(transaction: Transaction, run_id: str) -> Head | None:
    """Lock the head of a run, which is the run's mutex, and return it as it is then: nothing ends the run before the
    transaction does.
    """
    transaction.do(LOCK_HEAD, run=run_id)
    return head(transaction, run_id)  # a statement of its own: on PostgreSQL it sees what was waited for


def locked_heads(transaction: Transaction, run_ids: Sequence[str]) -> dict[str, Head]:
    """Lock the heads of many runs in the order of their ids, and return them as they are then."""
    transaction.do(LOCK_HEADS, ids=transaction.list(run_ids))
    return {found.run_id: found for found in heads_of(transaction, run_ids)}
