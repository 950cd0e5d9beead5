"""Run by Alembic, on the connection and in the transaction that `sql/migrate.py` gives it."""

from __future__ import annotations

from alembic import context

from core_service.adapters.sql.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
)
context.run_migrations()
