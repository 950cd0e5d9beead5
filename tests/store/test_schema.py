"""The migrations make the tables that the statements are written against."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, create_engine

from core_service.adapters.sql.migrate import migrate_sqlite
from core_service.adapters.sql.schema import metadata
from tests.store.conftest import TEMPLATE, PostgresServer


def differences(engine: Engine) -> list[object]:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, metadata))


def test_migrated_sqlite_has_the_schema(tmp_path: Path) -> None:
    path = tmp_path / "penstock.db"
    migrate_sqlite(path)
    migrate_sqlite(path)
    assert differences(create_engine(f"sqlite:///{path}")) == []


def test_migrated_postgresql_has_the_schema(postgres: PostgresServer) -> None:
    url = postgres.create(template=TEMPLATE).replace("postgresql://", "postgresql+psycopg://", 1)
    engine = create_engine(url)
    assert differences(engine) == []
    engine.dispose()


def test_partial_indexes_have_the_conditions_of_the_schema(tmp_path: Path) -> None:
    """Alembic does not compare these; a query uses an index only when its condition is spelled the same."""
    migrated, made = tmp_path / "migrated.db", tmp_path / "made.db"
    migrate_sqlite(migrated)
    metadata.create_all(create_engine(f"sqlite:///{made}"))
    assert index_texts(migrated) == index_texts(made)


def index_texts(path: Path) -> set[str]:
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
        return {" ".join(text.split()) for (text,) in rows}
