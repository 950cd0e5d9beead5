"""Runs that are started again: after a failure, after a loss, while the worker still holds what came before."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from penstock import App, Run
from penstock.v1.worker_service_pb2 import CoreMessage
from tests.sdk.agents import Gate, has_text
from tests.sdk.conftest import StartWorker
from tests.sdk.faithful_core import FaithfulCore, heard
from tests.sdk.scripted_core import ScriptedCore, Session
from tests.sdk.worker_process import worker_process


def failing() -> App:
    app = App("test")

    @app.agent("agent")
    async def agent(run: Run) -> AsyncIterator[str]:
        yield f"attempt {run.attempt} "
        raise ConnectionError

    return app


async def test_a_run_that_failed_is_taken_again(core: ScriptedCore, start_worker: StartWorker) -> None:
    start_worker(failing(), concurrency=1)
    session = await core.welcomed()
    await session.assign("agent")
    assert (await session.end()).error.retryable
    await session.assign("agent", attempt=2)

    await session.until(lambda session: session.kinds().count("end") == 2)

    assert session.text() == "attempt 1 attempt 2 "
    assert session.numbers() == [1, 2, 1, 2]
    await session.until(lambda session: session.credit == 3)


async def test_a_run_is_taken_again_although_its_last_end_was_not_acknowledged(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    start_worker(failing(), concurrency=1)
    session = await core.session()
    session.acks = False
    await session.welcome()
    await session.assign("agent")
    await session.end()

    await session.assign("agent", attempt=2)
    await session.until(lambda session: session.kinds().count("end") == 2)
    await session.ack(2, attempt=1)  # comes late, and is of no account
    session.cut()

    again = await core.session()
    assert [(held.run_id, held.attempt, held.last_output) for held in again.hello.held] == [("run_1", 2, 2)]


async def test_a_run_that_was_lost_and_comes_back_gets_a_handler_of_its_own(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    gate = Gate()
    start_worker(gate.app)
    first = await core.welcomed(lease=0.05)
    await first.assign("gate")
    await has_text(first, "one ")
    first.cut()
    async with asyncio.timeout(10):
        await gate.cancelled.wait()
    second = await core.welcomed()

    await second.assign("gate", attempt=2)
    gate.go.set()

    await second.end()
    assert second.text() == "one two "


async def test_a_worker_that_is_killed_in_its_third_step_has_done_the_first_two_once(
    core: ScriptedCore, tmp_path: Path
) -> None:
    """The core is scripted; what it stores is what the real grammar makes of it."""
    run = FaithfulCore()
    async with worker_process(core.address) as process:
        session = await core.welcomed()
        await session.say(CoreMessage(assignment=run.assignment("errands", str(tmp_path))))
        await session.until(lambda session: session.text().endswith("three: doing "))
        process.kill()
        await process.wait()
    store(run, session)
    run.lose_worker()
    run.start_again()
    (tmp_path / "go").touch()

    async with worker_process(core.address):
        session = await core.welcomed()
        await session.say(CoreMessage(assignment=run.assignment("errands", str(tmp_path))))
        await session.end()
    store(run, session)

    assert (tmp_path / "effects").read_text().split() == ["one", "two", "three"]
    assert "".join(heard(run)) == "one: doing did one two: doing did two three: doing did three done"
    assert run.has_ended


def store(run: FaithfulCore, session: Session) -> None:
    for _, output in session.outputs["run_1"]:
        run.apply(output)
