"""How a worker leaves."""

import pytest

from penstock import App
from tests.sdk.agents import Gate, echo_app, has_text
from tests.sdk.conftest import StartWorker
from tests.sdk.scripted_core import ScriptedCore, scripted_core


async def test_a_draining_worker_takes_no_runs_ends_those_it_has_and_leaves(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    gate = Gate()
    worker = start_worker(gate.app, concurrency=2)
    session = await core.welcomed()
    await session.assign("gate", run_id="run_1")
    await has_text(session, "one ")

    worker.drain()
    await session.until(lambda session: session.draining)
    await session.assign("gate", run_id="run_2")
    await session.until(lambda session: bool(session.declined))
    gate.go.set()
    await worker.has_left()

    assert session.declined[0].reason == "DRAINING"
    assert session.text("run_1") == "one two "
    assert session.kinds("run_1")[-1] == "end"


async def test_a_draining_worker_returns_what_does_not_end_in_time(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    gate = Gate()
    worker = start_worker(gate.app, run_grace=0.05)
    session = await core.welcomed()
    await session.assign("gate")
    await has_text(session, "one ")

    worker.drain()

    await worker.has_left()
    assert gate.cancelled.is_set()
    assert [(decline.run_id, decline.reason) for decline in session.declined] == [("run_1", "DRAINING")]
    assert session.text() == "one "


async def test_an_app_without_agents_serves_nobody(start_worker: StartWorker) -> None:
    with pytest.raises(ValueError, match="has no agents"):
        start_worker(App("empty"))


async def test_an_idle_worker_that_finds_no_core_leaves_at_once(start_worker: StartWorker) -> None:
    async with scripted_core() as core:
        address = core.address
    worker = start_worker(echo_app(), core=address)

    worker.drain()

    await worker.has_left()
