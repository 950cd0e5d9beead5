"""A scripted core and workers in this process that connect to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

import pytest

from penstock import App
from penstock.worker import Worker, WorkerSettings
from tests.sdk.scripted_core import PATIENCE, ScriptedCore, scripted_core


class RunningWorker:
    """A worker in this process."""

    def __init__(self, worker: Worker) -> None:
        self.drain = worker.drain
        self.task = asyncio.create_task(worker.run())

    async def has_left(self) -> None:
        """Return once it has ended by itself."""
        async with asyncio.timeout(PATIENCE):
            await self.task

    async def stop(self) -> None:
        """End it, whatever it does."""
        self.task.cancel()
        done, _ = await asyncio.wait([self.task], timeout=PATIENCE)
        assert done, "the worker does not stop"
        assert self.task.cancelled() or self.task.exception() is None, self.task.exception()


class StartWorker(Protocol):
    """Starts a worker for an app; it stops with the test."""

    def __call__(self, app: App, **settings: float | str) -> RunningWorker: ...


@pytest.fixture
async def core() -> AsyncIterator[ScriptedCore]:
    async with scripted_core() as core:
        yield core


@pytest.fixture
async def start_worker(core: ScriptedCore) -> AsyncIterator[StartWorker]:
    workers: list[RunningWorker] = []

    def start(app: App, **settings: float | str) -> RunningWorker:
        defaults: dict[str, float | str] = {"core": core.address, "handler_grace": 0.5}
        workers.append(RunningWorker(Worker(app, WorkerSettings.load(**(defaults | settings)))))
        return workers[-1]

    yield start
    for worker in workers:
        await worker.stop()
