"""Agents that the tests steer, and what the tests wait for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from penstock import App, Run
from penstock.v1.worker_service_pb2 import EndOutput, Record
from tests.sdk.conftest import StartWorker
from tests.sdk.scripted_core import PATIENCE, ScriptedCore, Session


async def outcome(
    core: ScriptedCore, start_worker: StartWorker, handler: Callable[[Run], object], *records: Record
) -> tuple[Session, EndOutput]:
    """Run a handler on `a b` to its end; with records it was started before."""
    session = await started(core, start_worker, handler, *records)
    return session, await session.end()


async def started(
    core: ScriptedCore,
    start_worker: StartWorker,
    handler: Callable[[Run], object],
    *records: Record,
    **settings: float,
) -> Session:
    """Start a handler on `a b`."""
    app = App("test")
    app.agent("agent")(handler)
    start_worker(app, **settings)
    session = await core.welcomed()
    await session.assign("agent", "a b", *records)
    return session


def echo_app(*, concurrency: int = 0) -> App:
    app = App("test", version="7")

    @app.agent("echo", description="Repeats.", concurrency=concurrency)
    async def echo(run: Run) -> AsyncIterator[str]:
        for word in run.text.split():
            yield word + " "

    return app


class Gate:
    """An agent that says `one `, waits for the test, says `two `, and tells what happened to it."""

    def __init__(self) -> None:
        self.app = App("test")
        self.starts = 0
        self.started = asyncio.Event()
        self.go = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.app.agent("gate")(self.handle)

    async def handle(self, run: Run) -> AsyncIterator[str]:
        self.starts += 1
        self.started.set()
        yield "one "
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            yield f"cleaned up after {run.cancelled.reason} "
            raise
        yield "two "


async def soon(event: asyncio.Event) -> None:
    async with asyncio.timeout(PATIENCE):
        await event.wait()


async def has_text(session: Session, text: str, run_id: str = "run_1") -> None:
    await session.until(lambda session: session.text(run_id) == text)
