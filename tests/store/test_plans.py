"""No statement reads a whole table that grows: seen in SQLite's plans, on an empty database without statistics."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from types import ModuleType

import pytest
from sqlalchemy import CompoundSelect, Delete, Select, Update

from core_service.adapters.sql import (
    agents,
    changes,
    delays,
    deletions,
    dispatch,
    endings,
    expiry,
    families,
    folding,
    forks,
    inbox,
    log,
    messages,
    notes,
    ownership,
    places,
    questions,
    requests,
    retention,
    runs,
    schedules,
    signals,
    storage,
    superseding,
    thread_runs,
    thread_state,
    threads,
    watching,
    webhooks,
)
from core_service.adapters.sql.migrate import migrate_sqlite
from core_service.adapters.sql.statements import Statement, sqlite_statements

MODULES = (
    agents,
    changes,
    delays,
    deletions,
    dispatch,
    endings,
    expiry,
    families,
    folding,
    forks,
    inbox,
    log,
    messages,
    notes,
    ownership,
    places,
    questions,
    requests,
    retention,
    runs,
    schedules,
    signals,
    storage,
    superseding,
    thread_runs,
    thread_state,
    threads,
    watching,
    webhooks,
)

BOUNDED = {
    "runs_holder",
    "runs_waiting_turn",
    "runs_to_claim",
    "runs_to_claim_by_age",
    "runs_of_parent",
    "runs_to_cancel",
    "inputs_unseen",
    "inbox_to_follow_up",
}
"""Partial indexes: they have only what is active or waits for somebody, and may be read from end to end."""

POSTGRES_ONLY = {"expiry.LOCK_THREADS"}
FEW_ROWS = {"cores", "deletions", "json_each", "CONSTANT"}


def statements(module: ModuleType) -> dict[str, Statement]:
    prefix = module.__name__.rsplit(".", 1)[1]
    found = {f"{prefix}.{name}": value for name, value in vars(module).items() if name.isupper()}
    return {
        name: value
        for name, value in found.items()
        if isinstance(value, Select | CompoundSelect | Update | Delete) and name not in POSTGRES_ONLY
    }


ALL = {name: one for module in MODULES for name, one in statements(module).items()}
ALL |= {f"deletions.PENDING[{kind}]": one for kind, one in deletions.PENDING.items()}
ALL |= {f"deletions.DONE[{kind}]": one for kind, one in deletions.DONE.items()}
ALL |= {f"deletions.RECORDS[{name}]": one for name, one in deletions.RECORDS.items()}
ALL |= {f"runs.PAGES{key}": page for key, page in runs.PAGES.items()}
ALL |= {f"questions.PAGES{key}": page for key, page in questions.PAGES.items()}
ALL |= {f"runs.labelled_page({number})": runs.labelled_page(number) for number in (1, 3)}

USED = {
    "dispatch.OVERDUE": {"runs_overdue", "runs_to_cancel"},
    "delays.DUE": {"runs_delayed"},
    "endings.UNSETTLED": {"inputs_of_run", "sqlite_autoindex_inbox_1"},
    "expiry.OVERDUE": {"runs_ended"},
    "expiry.OVERDUE_WHOLE": {"runs_ended", "webhooks_of_run", "inbox_to_follow_up"},
    "expiry.PORTION": {"segments_of_run"},
    "families.CHILDREN": {"runs_of_parent"},
    "deletions.FOLLOWED_RUN": {"inbox_to_follow_up"},
    "deletions.SOME_SEGMENTS": {"segments_of_run"},
    "inbox.TO_FOLLOW": {"inbox_to_follow_up"},
    "places.SITUATION": {"runs_holder", "runs_waiting_turn", "runs_delayed_of_thread"},
    "questions.OVERDUE": {"inputs_to_expire"},
    "questions.PAGES(True, '')": {"inputs_open"},
    "questions.PAGES(None, '')": {"inputs_by_time"},
    "questions.PAGES(None, 'thread')": {"runs_of_thread", "inputs_of_run"},
    "schedules.DUE": {"schedules_due"},
    "schedules.PAGE": {"schedules_by_time"},
    "signals.NOBODYS": {"inputs_unseen", "runs_to_cancel"},
    "storage.LOG": {"runs_of_thread", "segments_of_run"},
    "thread_state.BUSY_WITH": {"runs_holder", "runs_waiting_turn"},
    "superseding.ACTIVE": {"runs_holder", "runs_waiting_turn"},
    "runs.PAGES(False, False)": {"runs_by_time"},
    "runs.PAGES(True, False)": {"runs_of_thread"},
    "runs.PAGES(False, True)": {"runs_of_agent"},
    "runs.PAGES(True, True)": {"runs_of_thread"},
    "webhooks.CLAIM": {"webhooks_due"},
    "watching.UNWATCHED": {"runs_to_be_watched"},
    "runs.labelled_page(3)": {"sqlite_autoindex_run_labels_1"},
}
"""Indexes that were made for a statement."""


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> sqlite3.Connection:
    path: Path = tmp_path_factory.mktemp("plans") / "penstock.db"
    migrate_sqlite(path)
    connection = sqlite3.connect(path)
    connection.create_function("now_micros", 0, lambda: 0)
    return connection


def plan_of(migrated: sqlite3.Connection, name: str) -> list[str]:
    sql, constants = sqlite_statements().text(ALL[name])
    lists = {"ids": "[]", "runs": "[]"}
    parameters = {parameter: constants.get(parameter, 0) for parameter in re.findall(r":(\w+)", sql)}
    return [row[3] for row in migrated.execute(f"EXPLAIN QUERY PLAN {sql}", parameters | lists)]


@pytest.mark.parametrize("name", USED)
def test_statements_use_the_indexes_that_were_made_for_them(migrated: sqlite3.Connection, name: str) -> None:
    plan = plan_of(migrated, name)
    used = set(re.findall(r"USING (?:COVERING )?INDEX (\w+)", "\n".join(plan)))
    assert USED[name] <= used, plan


@pytest.mark.parametrize("name", ["questions.PAGES(True, '')", "questions.PAGES(None, '')", "runs.labelled_page(3)"])
def test_pages_come_in_the_order_of_their_index(migrated: sqlite3.Connection, name: str) -> None:
    plan = plan_of(migrated, name)
    assert not [step for step in plan if "TEMP B-TREE" in step], plan


@pytest.mark.parametrize("name", ALL)
def test_no_statement_scans_a_table_that_grows(migrated: sqlite3.Connection, name: str) -> None:
    plan = plan_of(migrated, name)
    for step in plan:
        match = re.match(r"SCAN (\w+)(?: USING (?:COVERING )?INDEX (\w+))?", step)
        assert match is None or match[1] in FEW_ROWS or match[2] in BOUNDED, plan


def test_the_plans_of_all_areas_are_looked_at() -> None:
    assert len(ALL) > 90
