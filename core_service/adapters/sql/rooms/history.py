"""What threads hold: state, forks, runs in order, storage."""

from __future__ import annotations

from collections.abc import Sequence

from core_service.adapters.sql import forks, storage, thread_runs, thread_state
from core_service.adapters.sql.transaction import Database
from core_service.ports import ForkPoint, RequestKey, RunInThread
from penstock.v1.thread_pb2 import Thread, ThreadStorage


class HistoryRoom:
    """Implements `ports.HistoryStore`; the contract of each method stands there."""

    _database: Database
    _lifetime: float

    async def look_at_thread(self, tenant: str, thread_id: str, *, request: RequestKey | None) -> tuple[Thread, bool]:
        return await self._database.read(lambda tx: thread_state.look(tx, tenant, thread_id, request=request))

    async def set_state(
        self, tenant: str, thread_id: str, state_json: str, *, expected_version: int | None, request: RequestKey | None
    ) -> Thread:
        return await self._database.write(
            lambda tx: thread_state.set_state(
                tx,
                tenant,
                thread_id,
                state_json,
                expected_version=expected_version,
                request=request,
                lifetime=self._lifetime,
            )
        )

    async def state_before(self, tenant: str, run_id: str) -> str | None:
        return await self._database.read(lambda tx: thread_state.state_before(tx, tenant, run_id))

    async def fork_thread(
        self, tenant: str, source_id: str, thread: Thread, at: ForkPoint, *, request: RequestKey | None
    ) -> Thread:
        return await self._database.write(
            lambda tx: forks.fork(tx, tenant, source_id, thread, at, request=request, lifetime=self._lifetime)
        )

    async def next_runs(self, tenant: str, thread_id: str, *, place: int, limit: int) -> list[RunInThread]:
        return await self._database.read(
            lambda tx: thread_runs.next_runs(tx, tenant, thread_id, place=place, limit=limit)
        )

    async def newest_places(self, tenant: str, thread_ids: Sequence[str]) -> dict[str, int]:
        return await self._database.read(lambda tx: thread_runs.newest_places(tx, tenant, thread_ids))

    async def storage_of(self, tenant: str, thread_id: str) -> ThreadStorage:
        return await self._database.read(lambda tx: storage.storage(tx, tenant, thread_id))
