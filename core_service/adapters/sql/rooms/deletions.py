"""Deleting runs and threads."""

from __future__ import annotations

from core_service.adapters.sql import deletions
from core_service.adapters.sql.transaction import Database
from core_service.ports import Cleared, Remains, RequestKey


class DeletionRoom:
    """Implements `ports.DeletionStore`; the contract of each method stands there."""

    _database: Database
    _lifetime: float

    async def delete_run(self, tenant: str, run_id: str, *, request: RequestKey | None) -> None:
        await self._database.write(
            lambda tx: deletions.delete_run(tx, tenant, run_id, request=request, lifetime=self._lifetime)
        )

    async def delete_thread(self, tenant: str, thread_id: str, *, request: RequestKey | None) -> None:
        await self._database.write(
            lambda tx: deletions.delete_thread(tx, tenant, thread_id, request=request, lifetime=self._lifetime)
        )

    async def remains(self, *, limit: int) -> list[Remains]:
        return await self._database.read(lambda tx: deletions.remains(tx, limit=limit))

    async def clear_remains(self, what: Remains) -> Cleared:
        return await self._database.write(lambda tx: deletions.clear(tx, what))
