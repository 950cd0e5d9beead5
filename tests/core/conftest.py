"""Cores for tests: on SQLite, on both databases, or with a clock that the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.core.hand_clock import HandClock
from tests.core.places import Place
from tests.core.running_core import RunningCore
from tests.store.conftest import TEMPLATE, PostgresServer, postgres

__all__ = ["postgres"]


@pytest.fixture
def sqlite_place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture(params=["sqlite", "postgresql"])
def any_place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """For what depends on the database: the test runs on each."""
    if request.param == "sqlite":
        return Place(tmp_path)
    server: PostgresServer = request.getfixturevalue("postgres")
    return Place(tmp_path, server.create(template=TEMPLATE))


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def core(sqlite_place: Place) -> AsyncIterator[RunningCore]:
    """A core on SQLite."""
    async with RunningCore(sqlite_place) as running:
        yield running


@pytest.fixture
async def any_core(any_place: Place) -> AsyncIterator[RunningCore]:
    """A core on SQLite, and one on PostgreSQL."""
    async with RunningCore(any_place) as running:
        yield running


@pytest.fixture
async def timed_core(sqlite_place: Place, clock: HandClock) -> AsyncIterator[RunningCore]:
    """A core on SQLite that lives by the test's clock."""
    async with RunningCore(sqlite_place, clock=clock) as running:
        yield running
