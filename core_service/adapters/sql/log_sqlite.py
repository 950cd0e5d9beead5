"""Appending on SQLite (ENGINE.md, A3). Hot, so plain SQL.

Each step of a statement gives the interpreter lock away and must win it back from a busy event loop, which may take
milliseconds. So a batch is three statements that each take one step, fed from JSON, and not two statements per run. A
run that is alone, as on an idle machine, gets these two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

import msgspec

from core_service.adapters.sql.log import RAW
from core_service.adapters.sql.transaction import Cursor, Transaction
from core_service.ports import Append

_BATCH = """
(SELECT json_extract(value, '$[0]') AS run_id, json_extract(value, '$[1]') AS fence,
        json_extract(value, '$[2]') AS expected, json_extract(value, '$[3]') AS last_seq,
        json_extract(value, '$[4]') AS acked
 FROM json_each(?)) AS batch
"""
_IS_AS_EXPECTED = """
heads.run_id = batch.run_id AND heads.fence = batch.fence AND heads.last_seq = batch.expected
"""
_MAY_MOVE = f"SELECT json_group_array(heads.run_id) FROM {_BATCH} CROSS JOIN heads ON {_IS_AS_EXPECTED}"
_MOVE = f"UPDATE heads SET last_seq = batch.last_seq, acked = batch.acked FROM {_BATCH} WHERE {_IS_AS_EXPECTED}"
_INSERT = """
INSERT INTO segments (tenant, run_id, first_seq, last_seq, codec, data)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
       json_extract(value, '$[3]'), ?, substr(?, json_extract(value, '$[4]') + 1, json_extract(value, '$[5]'))
FROM json_each(?)
"""

_MOVE_ONE = "UPDATE heads SET last_seq = ?, acked = ? WHERE run_id = ? AND fence = ? AND last_seq = ?"
_INSERT_ONE = "INSERT INTO segments (tenant, run_id, first_seq, last_seq, codec, data) VALUES (?, ?, ?, ?, ?, ?)"


def write_log(transaction: Transaction, ordered: Sequence[Append]) -> Callable[[], set[str]]:
    """Implements `log.WriteLog`."""
    cursor = transaction.cursor()
    moved = _write_one(cursor, ordered[0]) if len(ordered) == 1 else _write_all(cursor, ordered)
    return lambda: moved


def _write_one(cursor: Cursor, one: Append) -> set[str]:
    cursor.execute(_MOVE_ONE, (one.last, one.acked, one.run_id, one.fence, one.expected))
    if not cursor.rowcount:
        return set()
    if one.data:
        cursor.execute(_INSERT_ONE, (one.tenant, one.run_id, one.expected + 1, one.last, RAW, one.data))
    return {one.run_id}


def _write_all(cursor: Cursor, ordered: Sequence[Append]) -> set[str]:
    batch = _json([(one.run_id, one.fence, one.expected, one.last, one.acked) for one in ordered])
    cursor.execute(_MAY_MOVE, (batch,))
    moved = set(msgspec.json.decode(cursor.fetchall()[0][0], type=list[str]))
    cursor.execute(_MOVE, (batch,))
    _insert(cursor, [one for one in ordered if one.data and one.run_id in moved])
    return moved


def _insert(cursor: Cursor, ordered: Sequence[Append]) -> None:
    offsets = accumulate((len(one.data) for one in ordered), initial=0)
    rows = [
        (one.tenant, one.run_id, one.expected + 1, one.last, offset, len(one.data))
        for one, offset in zip(ordered, offsets, strict=False)
    ]
    if rows:
        cursor.execute(_INSERT, (RAW, b"".join(one.data for one in ordered), _json(rows)))


def _json(rows: Sequence[tuple[str | int, ...]]) -> str:
    return msgspec.json.encode(rows).decode()
