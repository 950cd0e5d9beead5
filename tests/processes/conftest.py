"""A whole Penstock per test, with a short lease, for tests that kill its processes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.cli.up import Up, penstock_up
from tests.processes.alone import Alone
from tests.processes.sse import Client

LEASE = 3.0
"""Short, so that a lost worker is soon noticed. What survives a restart of the core needs more: `LONG_LEASE`."""
LONG_LEASE = 20.0
AGENTS = Path(__file__).with_name("agents.py")


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    """Core, worker and edge, started again when they are killed."""
    with penstock_up(tmp_path, f"{AGENTS}:app", f"--lease={LEASE}") as running:
        yield running


@pytest.fixture
def patient_up(tmp_path: Path) -> Iterator[Up]:
    """The same with a lease that outlasts any restart."""
    with penstock_up(tmp_path, f"{AGENTS}:app", f"--lease={LONG_LEASE}") as running:
        yield running


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Alone]:
    """Starts core, worker and edge one by one, each under the test's control."""
    with Alone(tmp_path) as processes:
        yield processes


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """Connections without a bound on their number."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as opened:
        yield opened


@pytest.fixture
async def client(up: Up, session: aiohttp.ClientSession) -> Client:
    """A client of the edge."""
    return Client(session, up.base_url)
