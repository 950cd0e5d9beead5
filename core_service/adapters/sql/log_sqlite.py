"""Appending on SQLite: a small update per run, then all segments at once (ENGINE.md, A3). Hot, so plain SQL."""

from __future__ import annotations

from collections.abc import Sequence

from core_service.adapters.sql.log import RAW
from core_service.adapters.sql.transaction import Transaction
from core_service.ports import Append

_MOVE = """
UPDATE heads SET last_seq = ?, acked = ? WHERE run_id = ? AND fence = ? AND last_seq = ?
"""
_INSERT = """
INSERT INTO segments (tenant, run_id, first_seq, last_seq, codec, data) VALUES (?, ?, ?, ?, ?, ?)
"""


def write_log(transaction: Transaction, ordered: Sequence[Append]) -> set[str]:
    """Implements `log.WriteLog`."""
    cursor = transaction.cursor()
    moved: list[Append] = []
    for one in ordered:
        cursor.execute(_MOVE, (one.last, one.acked, one.run_id, one.fence, one.expected))
        if cursor.rowcount:
            moved.append(one)
    cursor.executemany(
        _INSERT,
        [(one.tenant, one.run_id, one.expected + 1, one.last, RAW, one.data) for one in moved if one.data],
    )
    return {one.run_id for one in moved}
