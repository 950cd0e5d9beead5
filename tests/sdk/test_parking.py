"""Handlers that wait: what they hold, how long they are kept, and how they are let go."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

import penstock
from penstock import App, Run
from penstock.v1.worker_service_pb2 import CoreMessage
from tests.sdk.agents import has_text, soon, started
from tests.sdk.conftest import StartWorker
from tests.sdk.lines import lines
from tests.sdk.scripted_core import ScriptedCore, Session, answered, assignment, held


class Asker:
    """An agent that asks, and tells what happened to it."""

    def __init__(self) -> None:
        self.app = App("test")
        self.suspended = asyncio.Event()
        self.app.agent("agent")(self.handle)

    async def handle(self, run: Run) -> AsyncIterator[str]:
        yield "before "
        try:
            answer = await run.ask("Which size?")
        except penstock.Suspended:
            self.suspended.set()
            yield "not to be heard"
            raise
        finally:
            yield "at last "
        yield answer.text


def is_released(session: Session) -> bool:
    return [(released.run_id, released.attempt) for released in session.released] == [("run_1", 1)]


async def waits(session: Session, run_id: str = "run_1") -> None:
    await session.until(lambda session: session.kinds(run_id)[-1:] == ["wait"])


async def test_a_handler_that_waits_gives_its_credit_back_and_takes_one_when_it_goes_on(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    start_worker(Asker().app, concurrency=1)
    session = await core.welcomed()
    await session.assign("agent", run_id="run_1")
    await session.until(lambda session: session.credit == 2)
    await session.assign("agent", run_id="run_2")
    await session.until(lambda session: session.credit == 3)

    await session.answer("ask#1", run_id="run_1")
    await session.answer("ask#1", run_id="run_2")
    await session.end("run_1")
    await session.end("run_2")
    await session.assign("agent", run_id="run_3")
    await session.until(lambda session: session.credit == 4)

    assert session.text("run_1") == "before at last yes"


async def test_while_more_go_on_than_there_is_room_for_the_core_gets_no_credit(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    go = asyncio.Event()
    app = App("test")

    @app.agent("agent")
    async def agent(run: Run) -> AsyncIterator[str]:
        if run.id != "run_4":
            await run.ask("Which size?")
            yield "goes on "
            await go.wait()

    start_worker(app, concurrency=1)
    session = await core.welcomed()
    for run_id in ("run_1", "run_2", "run_3"):
        await session.assign("agent", run_id=run_id)
        await waits(session, run_id)
    await session.until(lambda session: session.credit == 4)
    for run_id in ("run_1", "run_2", "run_3"):
        await session.answer("ask#1", run_id=run_id)
        await has_text(session, "goes on ", run_id)

    await session.assign("agent", run_id="run_4")
    await session.end("run_4")
    assert session.credit == 4

    go.set()
    await session.until(lambda session: session.credit == 5)


async def test_a_handler_that_waits_leaves_its_turn_to_others_of_its_agent(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    asker = Asker()
    asker.app.agents["agent"].declaration.concurrency = 1
    start_worker(asker.app)
    session = await core.welcomed()
    await session.assign("agent", run_id="run_1")
    await waits(session, "run_1")

    await session.assign("agent", run_id="run_2")

    await waits(session, "run_2")


async def test_a_handler_that_waits_for_long_is_let_go_and_what_it_says_then_is_dropped(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    asker = Asker()
    start_worker(asker.app, park_seconds=0.05, concurrency=1)
    session = await core.welcomed()
    await session.assign("agent")

    await session.until(is_released)
    await soon(asker.suspended)
    await session.assign("agent", "", answered("ask#1"), attempt=2)
    await session.end()

    assert lines(session) == ["text 'before '", "ask ask#1", "wait", "text 'at last '", "text 'yes'", "end"]
    await session.until(lambda session: session.credit == 3)


async def test_a_run_is_released_only_once_everything_is_stored(core: ScriptedCore, start_worker: StartWorker) -> None:
    asker = Asker()
    start_worker(asker.app, park_seconds=0.01)
    session = await core.session()
    session.acks = False
    await session.welcome()
    await session.assign("agent")
    await soon(asker.suspended)
    await session.assign("agent")  # is confirmed: the run is still held
    await session.until(lambda session: len(session.accepted) == 2)
    assert not session.released

    await session.ack(3)

    await session.until(is_released)


async def test_the_oldest_leaves_first_when_too_many_wait(core: ScriptedCore, start_worker: StartWorker) -> None:
    start_worker(Asker().app, max_parked=2)
    session = await core.welcomed()
    for number in (1, 2, 3):
        await session.assign("agent", run_id=f"run_{number}")
        await waits(session, f"run_{number}")

    await session.until(lambda session: bool(session.released))

    await session.answer("ask#1", run_id="run_2")
    await session.answer("ask#1", run_id="run_3")
    await session.end("run_2")
    await session.end("run_3")
    assert [released.run_id for released in session.released] == ["run_1"]


async def test_one_that_was_answered_in_time_is_not_let_go(core: ScriptedCore, start_worker: StartWorker) -> None:
    go = asyncio.Event()

    async def handler(run: Run) -> AsyncIterator[str]:
        await run.ask("Which size?")
        yield "answered "
        await go.wait()
        yield "done"

    session = await started(core, start_worker, handler, park_seconds=0.2)
    await waits(session)
    await session.answer("ask#1")
    await has_text(session, "answered ")
    await session.assign("agent", run_id="run_2")
    await session.until(lambda session: bool(session.released))  # by then the first one's time would be over
    go.set()
    await session.end("run_1")

    assert [released.run_id for released in session.released] == ["run_2"]


async def test_a_draining_worker_lets_go_who_waits_and_who_comes_to_wait(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    go = asyncio.Event()
    app = App("test")

    @app.agent("agent")
    async def agent(run: Run) -> None:
        if run.id == "run_2":
            await go.wait()
        await run.ask("Which size?")

    worker = start_worker(app)
    session = await core.welcomed()
    await session.assign("agent", run_id="run_1")
    await session.assign("agent", run_id="run_2")
    await waits(session, "run_1")

    worker.drain()
    await session.until(lambda session: [released.run_id for released in session.released] == ["run_1"])
    go.set()
    await worker.has_left()

    assert [released.run_id for released in session.released] == ["run_1", "run_2"]
    assert not session.declined


async def test_an_agent_that_cannot_be_run_again_is_kept_while_it_waits(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    asker = Asker()
    asker.app.agents["agent"].declaration.replayable = False
    worker = start_worker(asker.app, max_parked=0, run_grace=0.05)
    session = await core.welcomed()
    await session.assign("agent", run_id="run_1")
    await session.assign("agent", run_id="run_2")
    await waits(session, "run_1")
    await waits(session, "run_2")

    await session.answer("ask#1", run_id="run_1")
    await session.end("run_1")
    worker.drain()
    await worker.has_left()

    assert not session.released
    assert [(decline.run_id, decline.reason) for decline in session.declined] == [("run_2", "DRAINING")]


def in_a_thread(run: Run) -> Iterator[str]:
    yield "before "
    try:
        run.blocking.ask("Which size?")
    finally:
        yield "not to be heard"


async def in_a_group(run: Run) -> None:
    await run.say("before ")
    async with asyncio.TaskGroup() as group:
        group.create_task(run.ask("Which size?"))
        group.create_task(run.ask("Which colour?"))


async def that_catches_everything(run: Run) -> AsyncIterator[str]:
    yield "before "
    while True:
        try:
            await run.ask("Which size?")
        except BaseException:  # noqa: BLE001 - it is that bad
            yield "not to be heard"
            await asyncio.Event().wait()


@pytest.mark.parametrize("handler", [in_a_thread, in_a_group, that_catches_everything])
async def test_every_form_of_handler_can_be_let_go(
    core: ScriptedCore, start_worker: StartWorker, handler: Callable[[Run], object]
) -> None:
    app = App("test")
    app.agent("agent")(handler)
    worker = start_worker(app, park_seconds=0.01)
    session = await core.welcomed()
    await session.assign("agent")

    await session.until(is_released)

    worker.drain()
    await worker.has_left()
    assert session.text() == "before "


async def test_a_handler_that_goes_on_after_it_was_let_go_is_cancelled(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    stopped = asyncio.Event()

    async def handler(run: Run) -> None:
        try:
            await run.ask("Which size?")
        except penstock.Suspended:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                stopped.set()

    await started(core, start_worker, handler, park_seconds=0.01, handler_grace=0.01)

    await soon(stopped)


async def test_a_release_is_told_again_to_the_core_of_the_next_stream(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    start_worker(Asker().app, park_seconds=0.01)
    first = await core.welcomed()
    await first.assign("agent")
    await first.until(is_released)
    first.cut()

    second = await core.session()
    assert [(held.run_id, held.attempt, held.last_output) for held in second.hello.held] == [("run_1", 1, 3)]
    await second.welcome(held(accepted=3))
    await second.until(is_released)
    second.cut()

    third = await core.session()
    assert [held.run_id for held in third.hello.held] == ["run_1"]
    await third.welcome(held(revoked=True))
    third.cut()

    fourth = await core.session()
    assert not fourth.hello.held
    assert not third.released
    assert not third.declined


async def test_a_run_that_was_let_go_and_comes_back_is_held_as_any_other(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    start_worker(Asker().app, park_seconds=0.01)
    first = await core.welcomed()
    await first.assign("agent")
    await first.until(is_released)
    await first.assign("agent", "", attempt=2)
    await first.until(lambda session: session.text() == "before before ")
    first.cut()

    second = await core.session()
    assert [(held.run_id, held.attempt) for held in second.hello.held] == [("run_1", 2)]


async def test_a_parked_run_outlives_a_break_and_gets_its_answer_on_the_next_stream(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    start_worker(Asker().app, concurrency=1)
    first = await core.welcomed()
    await first.assign("agent")
    await waits(first)
    first.cut()

    second = await core.session()
    await second.welcome(held(accepted=3))
    await second.until(lambda session: session.credit == 1)
    await second.answer("ask#1")

    await second.end()
    assert second.text() == "at last yes"


async def test_an_answer_between_the_pages_of_an_assignment_joins_it(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    start_worker(Asker().app)
    session = await core.welcomed()
    first, last = assignment("agent"), assignment("agent")
    first.more = True
    del last.messages[:]

    await session.say(CoreMessage(assignment=first))
    await session.answer("ask#1")
    await session.say(CoreMessage(assignment=last))

    await session.end()
    assert session.text() == "at last yes"
