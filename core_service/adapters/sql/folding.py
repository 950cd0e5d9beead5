"""Folding: the segments of an ended run become a few compressed ones (ENGINE.md, A13)."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from sqlalchemy import delete, select, true, update

from core_service.adapters.sql.log import INSERT_SEGMENT, ZLIB
from core_service.adapters.sql.schema import IS_TO_FOLD, heads, runs, segments
from core_service.adapters.sql.statements import count, integer, text
from core_service.adapters.sql.transaction import Transaction
from core_service.domain.errors import LogDamaged
from core_service.ports import Segment

_is_run = runs.c.run_id == text("run")
TO_FOLD = (
    select(runs.c.run_id)
    .where(IS_TO_FOLD, runs.c.ended < integer("before"))
    .order_by(runs.c.ended)
    .limit(count("limit"))
)
MARK_FOLDED = update(runs).where(_is_run, IS_TO_FOLD).values(folded=true()).returning(runs.c.run_id)
EXTENT = select(heads.c.tenant, heads.c.oldest_seq, heads.c.last_seq).where(heads.c.run_id == text("run"))
DELETE_SEGMENTS = delete(segments).where(segments.c.run_id == text("run"))


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
