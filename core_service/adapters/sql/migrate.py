"""Brings a database to the newest schema when it is opened. The migrations themselves are in `migrations/`."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import NullPool

SCRIPTS = Path(__file__).parent / "migrations"

ADVISORY_LOCK = 0x70656E73746F636B
"""`penstock` in ASCII: two cores that start together migrate one after the other."""


def config(connection: Connection) -> Config:
    """Return what Alembic needs to work on this connection."""
    settings = Config()
    settings.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    settings.attributes["connection"] = connection
    return settings


def migrate_sqlite(path: Path) -> None:
    """Migrate a file in one transaction. The caller holds its lock."""
    engine = create_engine(
        "sqlite+pysqlite://", creator=lambda: sqlite3.connect(path, isolation_level=None), poolclass=NullPool
    )
    with engine.begin() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        command.upgrade(config(connection), "head")


def migrate_postgres(url: str) -> None:
    """Migrate a database in one transaction, under a lock that all cores share."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1), poolclass=NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})")
        command.upgrade(config(connection), "head")
