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


async def _running(core: RunningCore) -> AsyncIterator[RunningCore]:
    """Start a core; at the end stop it and read everything back."""
    await core.start()
    try:
        yield core
    finally:
        await core.hang_up()
        await core.stop()
    core.check()


@pytest.fixture
async def core(sqlite_place: Place) -> AsyncIterator[RunningCore]:
    """A core on SQLite."""
    async for running in _running(RunningCore(sqlite_place)):
        yield running


@pytest.fixture
async def any_core(any_place: Place) -> AsyncIterator[RunningCore]:
    """A core on SQLite, and one on PostgreSQL."""
    async for running in _running(RunningCore(any_place)):
        yield running


@pytest.fixture
async def timed_core(sqlite_place: Place, clock: HandClock) -> AsyncIterator[RunningCore]:
    """A core on SQLite that lives by the test's clock."""
    async for running in _running(RunningCore(sqlite_place, clock=clock)):
        yield running
