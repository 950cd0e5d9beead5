"""No statement reads a whole table that grows: seen in SQLite's plans, on an empty database without statistics."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from types import ModuleType

import pytest
from sqlalchemy import Delete, Select, Update
from sqlalchemy.dialects.sqlite.pysqlite import dialect

from core_service.adapters.sql import (
    agents,
    create,
    dispatch,
    log,
    messages,
    ownership,
    requests,
    runs,
    schedules,
    threads,
)
from core_service.adapters.sql.migrate import migrate_sqlite
from core_service.adapters.sql.statements import Statement, Statements

MODULES = (agents, create, dispatch, log, messages, ownership, requests, runs, schedules, threads)

BOUNDED = {"runs_holder", "runs_waiting_turn", "runs_to_claim", "runs_to_claim_by_age"}
"""Partial indexes: they have active runs only, and may be read from end to end."""

POSTGRES_ONLY = {"log.LOCK_THREADS"}
FEW_ROWS = {"cores", "json_each", "CONSTANT"}


def statements(module: ModuleType) -> dict[str, Statement]:
    prefix = module.__name__.rsplit(".", 1)[1]
    found = {f"{prefix}.{name}": value for name, value in vars(module).items() if name.isupper()}
    return {
        name: value
        for name, value in found.items()
        if isinstance(value, Select | Update | Delete) and name not in POSTGRES_ONLY
    }


ALL = {name: one for module in MODULES for name, one in statements(module).items()}
ALL |= {f"runs.PAGES{key}": page for key, page in runs.PAGES.items()}


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> sqlite3.Connection:
    path: Path = tmp_path_factory.mktemp("plans") / "penstock.db"
    migrate_sqlite(path)
    connection = sqlite3.connect(path)
    connection.create_function("now_micros", 0, lambda: 0)
    return connection


@pytest.mark.parametrize("name", ALL)
def test_no_statement_scans_a_table_that_grows(migrated: sqlite3.Connection, name: str) -> None:
    sql, constants = Statements(dialect(paramstyle="named")).text(ALL[name])
    parameters = {parameter: constants.get(parameter, 0) for parameter in re.findall(r":(\w+)", sql)}
    plan = [row[3] for row in migrated.execute(f"EXPLAIN QUERY PLAN {sql}", parameters | {"ids": "[]"})]
    for step in plan:
        match = re.match(r"SCAN (\w+)(?: USING (?:COVERING )?INDEX (\w+))?", step)
        assert match is None or match[1] in FEW_ROWS or match[2] in BOUNDED, plan


def test_the_plans_of_all_areas_are_looked_at() -> None:
    assert len(ALL) > 30
