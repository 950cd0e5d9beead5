"""Agent code that blocks: in the loop, and in threads, where it is told of a cancel."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator

from penstock import App, Run
from penstock.v1.run_pb2 import EndReason
from penstock.v1.worker_service_pb2 import CancelRequested, CoreMessage, EndOutput, Revoked
from tests.sdk.agents import echo_app, outcome
from tests.sdk.conftest import StartWorker
from tests.sdk.scripted_core import PATIENCE, ScriptedCore


async def test_agent_code_that_blocks_the_loop_does_not_break_the_stream(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    async def block(run: Run) -> AsyncIterator[str]:
        yield "before "
        time.sleep(0.3)  # noqa: ASYNC251 - that is what it is for
        yield "after "

    session, end = await outcome(core, start_worker, block)

    assert session.text() == "before after "
    assert end == EndOutput()


async def test_a_thread_that_blocks_lets_other_runs_go_on(core: ScriptedCore, start_worker: StartWorker) -> None:
    release = threading.Event()
    app = echo_app()

    @app.agent("blocks")
    def blocks(run: Run) -> str:
        assert release.wait(PATIENCE)
        return "released"

    start_worker(app)
    session = await core.welcomed()

    await session.assign("blocks", run_id="run_1")
    await session.assign("echo", "hi", run_id="run_2")
    await session.end("run_2")
    assert not session.outputs["run_1"]
    release.set()

    await session.end("run_1")
    assert session.text("run_1") == "released"


async def test_code_in_a_thread_sees_the_cancel_and_may_say_something_about_it(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    def patient(run: Run) -> Iterator[str]:
        assert not run.cancelled
        yield "started "
        assert run.cancelled.wait(PATIENCE)
        yield f"cancelled: {bool(run.cancelled)} {run.cancelled.reason}"

    app = App("test")
    app.agent("agent")(patient)
    start_worker(app)
    session = await core.welcomed()
    await session.assign("agent")
    await session.until(lambda session: session.text() == "started ")
    cancel = CancelRequested(run_id="run_1", reason=EndReason.END_REASON_TIMEOUT)

    await session.say(CoreMessage(cancel_requested=cancel))

    assert await session.end() == EndOutput()
    assert session.text() == "started cancelled: True TIMEOUT"


async def test_async_code_can_wait_for_the_cancel(core: ScriptedCore, start_worker: StartWorker) -> None:
    seen = asyncio.Event()

    async def watch(run: Run) -> None:
        await run.cancelled
        seen.set()

    async def watched(run: Run) -> AsyncIterator[str]:
        watcher = asyncio.create_task(watch(run))
        yield "started"
        try:
            await asyncio.Event().wait()
        finally:
            await watcher

    app = App("test")
    app.agent("agent")(watched)
    start_worker(app)
    session = await core.welcomed()
    await session.assign("agent")
    await session.until(lambda session: session.text() == "started")

    await session.say(CoreMessage(cancel_requested=CancelRequested(run_id="run_1")))

    await session.end()
    assert seen.is_set()


async def test_a_generator_in_a_thread_is_closed_at_its_next_yield_once_the_run_is_lost(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    closed, revoked = threading.Event(), threading.Event()

    def endless(run: Run) -> Iterator[str]:
        try:
            yield "x"
            assert revoked.wait(PATIENCE)
            while True:
                yield "y"
        finally:
            closed.set()

    app = App("test")
    app.agent("agent")(endless)
    start_worker(app, concurrency=1)
    session = await core.welcomed()
    await session.assign("agent")
    await session.until(lambda session: session.text() == "x")

    await session.say(CoreMessage(revoked=Revoked(run_id="run_1", attempt=1)))
    await session.until(lambda session: session.credit == 2)
    revoked.set()

    assert await asyncio.to_thread(closed.wait, PATIENCE)
    assert session.text() == "x"
