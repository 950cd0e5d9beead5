"""Runs: created, read, cancelled, called by each other, watched."""

from __future__ import annotations

from collections.abc import Sequence

from core_service.adapters.sql import create, families, runs, watching
from core_service.adapters.sql.transaction import Database
from core_service.ports import Created, Head, NewRun, Page, RequestKey, RunFilter
from penstock.v1.run_pb2 import EndReason, Run


class RunRoom:
    """Implements `ports.RunStore`; the contract of each method stands there."""

    _database: Database
    _lifetime: float

    async def create_run(self, new: NewRun) -> Created:
        try:
            return await self._database.write(lambda tx: create.create_run(tx, new, lifetime=self._lifetime))
        except create.Repeated as known:
            return await self._repeated(new.tenant, known.run_id)

    async def _repeated(self, tenant: str, run_id: str) -> Created:
        return await self._database.read(lambda tx: create.repeated(tx, tenant, run_id))

    async def get_run(self, tenant: str, run_id: str) -> Run | None:
        return await self._database.read(lambda tx: runs.get_run(tx, tenant, run_id))

    async def list_runs(self, tenant: str, which: RunFilter, page: Page) -> list[Run]:
        return await self._database.read(lambda tx: runs.list_runs(tx, tenant, which, page))

    async def request_cancel(
        self, tenant: str, run_id: str, reason: EndReason.ValueType, *, request: RequestKey | None
    ) -> Head | None:
        return await self._database.write(
            lambda tx: runs.request_cancel(tx, tenant, run_id, reason, request=request, lifetime=self._lifetime)
        )

    async def children(self, run_id: str) -> list[Head]:
        return await self._database.read(lambda tx: families.children(tx, run_id))

    async def orphans(self, *, limit: int) -> list[Head]:
        return await self._database.read(lambda tx: families.orphans(tx, limit=limit))

    async def keep_watched(self, run_ids: Sequence[str]) -> None:
        await self._database.write(lambda tx: watching.keep_watched(tx, run_ids))

    async def unwatched(self, *, limit: int) -> list[Head]:
        return await self._database.read(lambda tx: watching.unwatched(tx, limit=limit))
