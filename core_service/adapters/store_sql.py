"""The store on SQLite and on PostgreSQL: `ports.Store`, one method for one operation of `sql/`, and how to open it.

Nothing is decided here. What an operation does stands in `sql/`, where and when it runs in `sql/sqlite.py` and
`sql/postgres.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

from sqlalchemy import select, true

from core_service.adapters.sql import (
    agents,
    create,
    dispatch,
    log,
    log_postgres,
    log_sqlite,
    messages,
    ownership,
    requests,
    runs,
    threads,
)
from core_service.adapters.sql.file_lock import exclusive
from core_service.adapters.sql.migrate import migrate_postgres, migrate_sqlite
from core_service.adapters.sql.schedules import SqlSchedules
from core_service.adapters.sql.sqlite import Sqlite
from core_service.adapters.sql.transaction import Database, Transaction
from core_service.domain.errors import Refusal
from core_service.ports import (
    Append,
    AppendOutcome,
    Clock,
    Created,
    Head,
    NewRun,
    Owned,
    Page,
    RequestKey,
    RunFilter,
    Segment,
)
from penstock.settings import SettingsError
from penstock.v1.agent_pb2 import Agent
from penstock.v1.message_pb2 import Message
from penstock.v1.run_pb2 import EndReason, Run
from penstock.v1.thread_pb2 import Thread

PING = select(true())

REQUEST_LIFETIME = 24 * 3600.0
"""Seconds for which a repeated request is known (ENGINE.md, H4)."""

FAIR_TURN = 8
"""Every so many claims go by age alone, so that low priorities get on (ENGINE.md, I2)."""

POOL_SIZE = 8
"""Connections to PostgreSQL for creates, claims and reads."""

SWEPT_REQUESTS = 10_000
"""Expired request ids that are deleted when the store is opened."""


class SqlStore:
    """Implements `ports.Store`; the contract of each method stands there."""

    def __init__(self, database: Database, write_log: log.WriteLog, *, request_lifetime: float) -> None:
        self.name = database.name
        self._database = database
        self._write_log = write_log
        self._lifetime = request_lifetime
        self._claims = count(1)
        self.schedules = SqlSchedules(database, request_lifetime=request_lifetime)

    # ── the log ────────────────────────────────────────────────────────────────────────────────────────────

    async def append(self, batch: Sequence[Append]) -> list[AppendOutcome]:
        return await self._database.append(lambda tx: log.append(tx, batch, self._write_log))

    async def read_segments(self, run_id: str, *, after_seq: int, limit: int) -> list[Segment]:
        return await self._database.read(lambda tx: log.read_segments(tx, run_id, after_seq=after_seq, limit=limit))

    async def head(self, run_id: str) -> Head | None:
        return await self._database.read(lambda tx: log.head(tx, run_id))

    async def heads(self, run_ids: Sequence[str]) -> list[Head]:
        return await self._database.read(lambda tx: log.heads_of(tx, run_ids))

    async def foldable(self, *, ended_before: int, limit: int) -> list[str]:
        return await self._database.read(lambda tx: log.foldable(tx, ended_before=ended_before, limit=limit))

    async def fold(self, run_id: str, chunks: Sequence[Segment]) -> None:
        packed = await asyncio.to_thread(log.packed, chunks)
        await self._database.write(lambda tx: log.fold(tx, run_id, packed))

    # ── runs and threads ───────────────────────────────────────────────────────────────────────────────────

    async def create_run(self, new: NewRun) -> Created:
        return await self._database.write(lambda tx: create.create_run(tx, new, lifetime=self._lifetime))

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

    async def create_thread(self, tenant: str, thread: Thread, *, request: RequestKey | None) -> Thread:
        return await self._database.write(
            lambda tx: threads.create_thread(tx, tenant, thread, request=request, lifetime=self._lifetime)
        )

    async def get_thread(self, tenant: str, thread_id: str) -> Thread | None:
        return await self._database.read(lambda tx: threads.get_thread(tx, tenant, thread_id))

    async def list_threads(self, tenant: str, page: Page) -> list[Thread]:
        return await self._database.read(lambda tx: threads.list_threads(tx, tenant, page))

    async def list_messages(
        self, tenant: str, thread_id: str, *, after_pos: int, limit: int
    ) -> list[tuple[int, Message]]:
        return await self._database.read(
            lambda tx: messages.page(tx, tenant, thread_id, after_pos=after_pos, limit=limit)
        )

    async def promote(self, threads_: Sequence[tuple[str, str]]) -> set[str]:
        return await self._database.write(lambda tx: threads.promote(tx, threads_))

    async def stuck_threads(self, *, limit: int) -> list[tuple[str, str]]:
        return await self._database.read(lambda tx: threads.stuck_threads(tx, limit=limit))

    # ── agents ─────────────────────────────────────────────────────────────────────────────────────────────

    async def declare_agents(self, tenant: str, agents_: Sequence[Agent]) -> None:
        await self._database.write(lambda tx: agents.declare_agents(tx, tenant, agents_))

    async def get_agent(self, tenant: str, agent_id: str) -> Agent | None:
        return await self._database.read(lambda tx: agents.get_agent(tx, tenant, agent_id))

    async def list_agents(self, tenant: str, *, after_id: str, limit: int) -> list[Agent]:
        return await self._database.read(lambda tx: agents.list_agents(tx, tenant, after_id=after_id, limit=limit))

    # ── ownership and dispatch ─────────────────────────────────────────────────────────────────────────────

    async def renew_core(self, core_id: str, *, address: str, lease: float) -> None:
        await self._database.renew(lambda tx: ownership.renew_core(tx, core_id, address=address, lease=lease))

    async def remove_core(self, core_id: str, *, grace: float) -> None:
        await self._database.write(lambda tx: ownership.remove_core(tx, core_id, grace=grace))

    async def disown_all(self, *, core_id: str, grace: float) -> int:
        if self.name != "sqlite":
            return 0
        return await self._database.write(lambda tx: ownership.disown_all(tx, core_id=core_id, grace=grace))

    async def claim(
        self,
        tenant: str,
        agent_id: str,
        *,
        owner: str,
        session: str,
        limit: int,
        started: Callable[[int, int], bytes],
    ) -> list[Owned]:
        by_age = next(self._claims) % FAIR_TURN == 0
        return await self._database.write(
            lambda tx: dispatch.claim(
                tx, tenant, agent_id, owner=owner, session=session, limit=limit, by_age=by_age, started=started
            )
        )

    async def waiting_tenants(self, agent_id: str, *, after: str, limit: int) -> list[str]:
        return await self._database.read(lambda tx: dispatch.waiting_tenants(tx, agent_id, after=after, limit=limit))

    async def adopt(self, run_id: str, *, attempt: int, owner: str, session: str) -> Owned | None:
        return await self._database.write(
            lambda tx: ownership.adopt(tx, run_id, attempt=attempt, owner=owner, session=session)
        )

    async def held_by(self, session: str) -> list[tuple[str, int]]:
        return await self._database.read(lambda tx: ownership.held_by(tx, session))

    async def session_lost(self, session: str, *, owner: str, grace: float) -> int:
        return await self._database.write(lambda tx: ownership.session_lost(tx, session, owner=owner, grace=grace))

    async def lost_runs(self, *, margin: float, limit: int) -> list[Head]:
        return await self._database.read(lambda tx: ownership.lost_runs(tx, margin=margin, limit=limit))

    async def take(self, run_id: str, *, fence: int, owner: str) -> Owned | None:
        return await self._database.write(lambda tx: ownership.take(tx, run_id, fence=fence, owner=owner))

    async def overdue_queued(self, *, limit: int) -> list[Head]:
        return await self._database.read(lambda tx: dispatch.overdue_queued(tx, limit=limit))

    async def queued_count(self) -> int:
        return await self._database.read(dispatch.queued_count)

    async def is_available(self) -> bool:
        try:
            await self._database.read(_ping)
        except Refusal:
            return False
        return True

    # ── housekeeping ───────────────────────────────────────────────────────────────────────────────────────

    async def forget_requests(self, *, limit: int) -> None:
        """Delete about `limit` expired request ids, oldest first. They count as absent whether deleted or not."""
        await self._database.write(lambda tx: requests.sweep(tx, limit=limit))


def _ping(transaction: Transaction) -> None:
    transaction.one(PING)


@asynccontextmanager
async def open_sqlite(
    path: Path,
    *,
    clock: Clock,
    holder: str,
    synchronous: str = "FULL",
    request_lifetime: float = REQUEST_LIFETIME,
) -> AsyncIterator[SqlStore]:
    """Open the database file, made or migrated as needed, for this process alone.

    `holder` is how a second core's refusal names this one. `synchronous` NORMAL survives any kill, and may lose the
    last seconds at a power cut. Raises DatabaseInUse.
    """
    await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
    with exclusive(path, holder=holder):
        await asyncio.to_thread(migrate_sqlite, path)
        database = Sqlite(path, now=clock.now, synchronous=synchronous)
        try:
            store = SqlStore(database, log_sqlite.write_log, request_lifetime=request_lifetime)
            await store.forget_requests(limit=SWEPT_REQUESTS)
            yield store
        finally:
            await asyncio.to_thread(database.close)


@asynccontextmanager
async def open_postgres(
    url: str, *, pool_size: int = POOL_SIZE, request_lifetime: float = REQUEST_LIFETIME
) -> AsyncIterator[SqlStore]:
    """Open the database at `postgresql://…`, migrated as needed, for any number of cores.

    Appends and the lease have a connection each, on top of the pool.
    """
    try:
        from core_service.adapters.sql.postgres import Postgres  # its driver is an extra
    except ImportError as missing:
        raise SettingsError("PostgreSQL needs its driver: pip install 'penstock[postgres]'.") from missing
    await asyncio.to_thread(migrate_postgres, url)
    database = Postgres(url, pool_size=pool_size)
    try:
        store = SqlStore(database, log_postgres.write_log, request_lifetime=request_lifetime)
        await store.forget_requests(limit=SWEPT_REQUESTS)
        yield store
    finally:
        await asyncio.to_thread(database.close)
