"""The store on SQLite and on PostgreSQL: `ports.Store`, put together from its rooms (`sql/rooms/`), and how to open it.

Nothing is decided here. What an operation does stands in `sql/`, where and when it runs in `sql/sqlite.py` and
`sql/postgres.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

from sqlalchemy import select, true

from core_service.adapters.sql import log, log_postgres, log_sqlite, requests
from core_service.adapters.sql.file_lock import exclusive
from core_service.adapters.sql.migrate import migrate_postgres, migrate_sqlite
from core_service.adapters.sql.retention import SqlRetention
from core_service.adapters.sql.rooms.agents import AgentRoom
from core_service.adapters.sql.rooms.deletions import DeletionRoom
from core_service.adapters.sql.rooms.history import HistoryRoom
from core_service.adapters.sql.rooms.log import LogRoom
from core_service.adapters.sql.rooms.ownership import OwnershipRoom
from core_service.adapters.sql.rooms.runs import RunRoom
from core_service.adapters.sql.rooms.signals import SignalRoom
from core_service.adapters.sql.rooms.threads import ThreadRoom
from core_service.adapters.sql.schedules import SqlSchedules
from core_service.adapters.sql.sqlite import Sqlite
from core_service.adapters.sql.transaction import Database, Transaction
from core_service.adapters.sql.webhooks import SqlWebhooks
from core_service.domain.errors import Refusal
from core_service.ports import Clock, RequestKey, RetentionStore, ScheduleStore, WebhookStore
from penstock.settings import SettingsError

PING = select(true())

REQUEST_LIFETIME = 24 * 3600.0
"""Seconds for which a repeated request is known (ENGINE.md, H4)."""

POOL_SIZE = 8
"""Connections to PostgreSQL for creates, claims and reads."""

SWEPT_REQUESTS = 10_000
"""Expired request ids that are deleted when the store is opened."""


class SqlStore(LogRoom, RunRoom, SignalRoom, ThreadRoom, HistoryRoom, DeletionRoom, AgentRoom, OwnershipRoom):
    """Implements `ports.Store`; the contract of each method stands there."""

    def __init__(self, database: Database, write_log: log.WriteLog, *, request_lifetime: float) -> None:
        self.name = database.name
        self._database = database
        self._write_log = write_log
        self._lifetime = request_lifetime
        self._claims = count(1)
        self.retention: RetentionStore = SqlRetention(database)
        self.schedules: ScheduleStore = SqlSchedules(database, request_lifetime=request_lifetime)
        self.webhooks: WebhookStore = SqlWebhooks(database)

    async def first_call(self, tenant: str, request: RequestKey, value: str) -> str:
        return await self._database.write(
            lambda tx: requests.claim(tx, tenant, request, value, lifetime=self._lifetime) or value
        )

    async def forget_requests(self, *, limit: int) -> None:
        """Delete about `limit` expired request ids, oldest first. They count as absent whether deleted or not."""
        await self._database.write(lambda tx: requests.sweep(tx, limit=limit))

    async def is_available(self) -> bool:
        try:
            await self._database.read(_ping)
        except Refusal:
            return False
        return True


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
