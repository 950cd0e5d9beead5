"""A real edge before a scripted core, and a real HTTP client before both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import aiohttp
import pytest

from edge.app import Edge, running
from edge.config import EdgeSettings
from tests.edge.ag_ui_stage import Stage
from tests.edge.scripted_core import ScriptedCore

StartEdge = Callable[..., Awaitable[Edge]]

QUICK = {"port": 0, "settle": 0, "drain": 0, "request_grace": 0.2, "repeat_for": 5, "call_timeout": 2}
"""Settings of tests: nothing waits longer than it must."""


@pytest.fixture
async def core() -> AsyncIterator[ScriptedCore]:
    scripted = ScriptedCore()
    await scripted.start()
    yield scripted
    await scripted.stop()


@pytest.fixture
async def start_edge(core: ScriptedCore) -> AsyncIterator[StartEdge]:
    """Starts edges with settings of their own; they stop with the test."""
    async with AsyncExitStack() as stack:

        async def start(**settings: object) -> Edge:
            loaded = EdgeSettings.load(**(QUICK | {"core": core.address} | settings))
            return await stack.enter_async_context(running(loaded))

        yield start


@pytest.fixture
async def edge(start_edge: StartEdge) -> Edge:
    return await start_edge()


@pytest.fixture
async def http(edge: Edge) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of `edge`; paths are enough."""
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(f"http://{edge.address}", timeout=timeout) as session:
        yield session


@pytest.fixture
async def stage(core: ScriptedCore, start_edge: StartEdge) -> AsyncIterator[Stage]:
    """Where AG-UI is tried, on threads that have no messages yet."""
    edge = await start_edge(reattach_for=0)
    core.said = []
    core.threads.messages = []
    async with aiohttp.ClientSession(f"http://{edge.address}") as http:
        yield Stage(core, http)
