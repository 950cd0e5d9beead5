"""The log of every run."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from core_service.adapters.sql import folding, log
from core_service.adapters.sql.transaction import Database
from core_service.ports import Append, AppendOutcome, Head, Segment


class LogRoom:
    """Implements `ports.LogStore`; the contract of each method stands there."""

    _database: Database
    _write_log: log.WriteLog

    async def append(self, batch: Sequence[Append]) -> list[AppendOutcome]:
        written = await self._database.append(lambda tx: log.append(tx, batch, self._write_log))
        if refused := [one for one in batch if one.run_id not in written]:
            written |= await self._database.append(lambda tx: log.written_before(tx, refused))
        return [AppendOutcome.WRITTEN if one.run_id in written else AppendOutcome.REFUSED for one in batch]

    async def read_segments(self, run_id: str, *, after_seq: int, limit: int) -> list[Segment]:
        return await self._database.read(lambda tx: log.read_segments(tx, run_id, after_seq=after_seq, limit=limit))

    async def head(self, run_id: str) -> Head | None:
        return await self._database.read(lambda tx: log.head(tx, run_id))

    async def heads(self, run_ids: Sequence[str]) -> list[Head]:
        return await self._database.read(lambda tx: log.heads_of(tx, run_ids))

    async def foldable(self, *, ended_before: int, limit: int) -> list[str]:
        return await self._database.read(lambda tx: folding.foldable(tx, ended_before=ended_before, limit=limit))

    async def fold(self, run_id: str, chunks: Sequence[Segment]) -> None:
        packed = await asyncio.to_thread(folding.packed, chunks)
        await self._database.write(lambda tx: folding.fold(tx, run_id, packed))
