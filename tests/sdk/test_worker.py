"""What a worker says and does on its stream, held against a core that follows a script."""

import asyncio
from collections.abc import AsyncIterator

from penstock import App, Run
from penstock.v1.run_pb2 import EndReason
from penstock.v1.worker_service_pb2 import CancelRequested, CoreMessage, Draining, Revoked
from tests.sdk.conftest import StartWorker
from tests.sdk.scripted_core import PATIENCE, ScriptedCore, Session, assignment, held, scripted_core


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


async def test_hello_declares_the_agents_and_credit_follows_the_welcome(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    start_worker(echo_app(concurrency=3), concurrency=5)
    session = await core.session()

    assert [(agent.id, agent.version, agent.concurrency) for agent in session.hello.agents] == [("echo", "7", 3)]
    assert not session.hello.held
    assert session.credit == 0
    await session.welcome()
    await session.until(lambda session: session.credit == 5)


async def test_a_run_is_accepted_numbered_from_one_and_ended(core: ScriptedCore, start_worker: StartWorker) -> None:
    start_worker(echo_app(), concurrency=1)
    session = await core.welcomed()

    await session.assign("echo", "a b c")

    end = await session.end()
    assert end.reason == EndReason.END_REASON_UNSPECIFIED
    assert [(accepted.run_id, accepted.attempt) for accepted in session.accepted] == [("run_1", 1)]
    assert session.numbers() == [1, 2, 3, 4]
    assert session.text() == "a b c "
    await session.until(lambda session: session.credit == 2)


async def test_a_short_run_is_one_message(core: ScriptedCore, start_worker: StartWorker) -> None:
    start_worker(echo_app(), concurrency=1)
    session = await core.welcomed()
    await session.until(lambda session: session.credit == 1)
    before = len(session.requests)

    await session.assign("echo", "a b c")
    await session.end()

    assert [message.WhichOneof("message") for message in session.requests[before].messages] == [
        "accepted",
        "credit",
        "outputs",
    ]


async def test_an_assignment_that_is_held_already_is_confirmed_and_not_started_again(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    gate = Gate()
    start_worker(gate.app)
    session = await core.welcomed()

    await session.assign("gate")
    await has_text(session, "one ")
    await session.assign("gate")
    await session.until(lambda session: len(session.accepted) == 2)
    gate.go.set()
    await session.end()

    assert gate.starts == 1
    assert session.numbers() == [1, 2, 3]


async def test_a_higher_attempt_replaces_the_one_that_is_held(core: ScriptedCore, start_worker: StartWorker) -> None:
    gate = Gate()
    start_worker(gate.app)
    session = await core.welcomed()
    await session.assign("gate", run_id="run_1")
    await has_text(session, "one ")

    await session.assign("gate", run_id="run_1", attempt=2)

    await soon(gate.cancelled)
    await has_text(session, "one one ")
    gate.go.set()
    await session.end()
    assert session.numbers() == [1, 1, 2, 3]
    assert session.text() == "one one two "


async def test_records_that_come_in_pages_start_the_handler_after_the_last(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    start_worker(echo_app())
    session = await core.welcomed()
    first, last = assignment("echo", "whole"), assignment("echo")
    first.more = True
    del last.messages[:]

    await session.say(CoreMessage(assignment=first))
    await session.say(CoreMessage(assignment=last))

    await session.end()
    assert session.text() == "whole "
    assert len(session.accepted) == 1


async def test_an_unknown_agent_is_declined_and_its_credit_comes_back(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    start_worker(echo_app(), concurrency=1)
    session = await core.welcomed()

    await session.assign("nobody")

    await session.until(lambda session: bool(session.declined) and session.credit == 2)
    assert [(decline.run_id, decline.reason) for decline in session.declined] == [("run_1", "UNKNOWN_AGENT")]
    assert not session.accepted


async def test_an_agent_runs_no_more_than_it_declared(core: ScriptedCore, start_worker: StartWorker) -> None:
    gate = Gate()
    gate.app.agents["gate"].declaration.concurrency = 1
    start_worker(gate.app)
    session = await core.welcomed()

    await session.assign("gate", run_id="run_1")
    await has_text(session, "one ", "run_1")
    await session.assign("gate", run_id="run_2")
    await session.until(lambda session: bool(session.declined))
    gate.go.set()
    await session.end("run_1")
    await session.assign("gate", run_id="run_3")
    await session.end("run_3")

    assert [(decline.run_id, decline.reason) for decline in session.declined] == [("run_2", "AGENT_BUSY")]


async def test_a_cancel_is_raised_in_the_handler_and_what_it_says_then_is_sent(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    gate = Gate()
    start_worker(gate.app)
    session = await core.welcomed()
    await session.assign("gate")
    await has_text(session, "one ")
    cancel = CancelRequested(run_id="run_1", reason=EndReason.END_REASON_USER)

    await session.say(CoreMessage(cancel_requested=cancel), CoreMessage(cancel_requested=cancel))

    end = await session.end()
    assert session.text() == "one cleaned up after USER "
    assert not end.HasField("error")


async def test_a_cancel_that_comes_with_the_assignment_ends_the_run_without_starting_it(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    gate = Gate()
    start_worker(gate.app)
    session = await core.welcomed()

    await session.say(
        CoreMessage(assignment=assignment("gate")),
        CoreMessage(cancel_requested=CancelRequested(run_id="run_1")),
    )

    await session.end()
    assert gate.starts == 0


async def test_a_handler_that_is_cancelled_while_it_waits_for_room_hears_of_it(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    app = App("test")
    heard: list[str] = []

    @app.agent("flood")
    async def flood(run: Run) -> AsyncIterator[str]:
        try:
            while True:
                yield "x"
        except asyncio.CancelledError:
            heard.append(run.cancelled.reason)
            yield "bye"

    start_worker(app)
    session = await core.session()
    session.acks = False
    await session.welcome(outputs=100)
    await session.assign("flood")
    await session.until(lambda session: len(session.numbers()) == 100)

    await session.say(CoreMessage(cancel_requested=CancelRequested(run_id="run_1", reason=EndReason.END_REASON_USER)))
    session.acks = True
    await session.ack(100)

    await session.end()
    assert heard == ["USER"]
    assert session.text().endswith("xbye")


async def test_a_revoked_run_is_stopped_and_says_nothing_more(core: ScriptedCore, start_worker: StartWorker) -> None:
    gate = Gate()
    start_worker(gate.app, concurrency=1)
    session = await core.welcomed()
    await session.assign("gate")
    await has_text(session, "one ")

    await session.say(CoreMessage(revoked=Revoked(run_id="run_1", attempt=1)))

    await soon(gate.cancelled)
    await session.until(lambda session: session.credit == 2)
    assert session.text() == "one "


async def test_a_revocation_of_an_earlier_attempt_is_ignored(core: ScriptedCore, start_worker: StartWorker) -> None:
    gate = Gate()
    start_worker(gate.app)
    session = await core.welcomed()
    await session.assign("gate", attempt=2)
    await has_text(session, "one ")

    await session.say(CoreMessage(revoked=Revoked(run_id="run_1", attempt=1)))
    gate.go.set()

    await session.end()
    assert session.text() == "one two "


async def test_after_a_break_the_worker_goes_on_behind_what_the_core_has(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    gate = Gate()
    start_worker(gate.app)
    first = await core.session()
    first.acks = False
    await first.welcome()
    await first.assign("gate")
    await has_text(first, "one ")
    first.cut()
    gate.go.set()

    second = await core.session()
    assert [(one.run_id, one.attempt, one.last_output) for one in second.hello.held] == [("run_1", 1, 3)]
    await second.welcome(held(accepted=1))

    await second.end()
    assert second.numbers() == [2, 3]
    assert second.text() == "two "
    assert second.hello.worker_id == first.hello.worker_id
    assert gate.starts == 1


async def test_a_break_in_the_middle_of_a_burst_loses_and_repeats_nothing(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    start_worker(echo_app())
    text = " ".join(map(str, range(5_000)))
    session = await core.welcomed()
    session.acks = False
    await session.assign("echo", text)
    said = ""
    stored = 0
    while stored < 5_001:
        await session.until(lambda session: bool(session.outputs["run_1"]))
        part = session.outputs["run_1"][:700]
        assert part[0][0] == stored + 1
        said += "".join(output.text for _, output in part)
        stored = part[-1][0]
        if stored == 5_001:
            break
        session.cut()
        session = await core.session()
        session.acks = False
        await session.welcome(held(accepted=stored))

    assert said.split() == text.split()


async def test_a_run_that_a_welcome_revokes_or_does_not_name_is_stopped(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    gate = Gate()
    start_worker(gate.app, concurrency=2)
    first = await core.welcomed()
    await first.assign("gate", run_id="run_1")
    await first.assign("gate", run_id="run_2")
    await has_text(first, "one ", "run_1")
    await has_text(first, "one ", "run_2")
    first.cut()

    second = await core.session()
    await second.welcome(held("run_1", accepted=1, revoked=True))

    await second.until(lambda session: session.credit == 2)
    assert not second.outputs


async def test_an_end_that_was_not_acknowledged_is_kept_and_resent(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    start_worker(echo_app())
    first = await core.session()
    first.acks = False
    await first.welcome()
    await first.assign("echo", "hi")
    await first.end()
    first.cut()

    second = await core.session()
    assert [one.last_output for one in second.hello.held] == [2]
    await second.welcome(held(accepted=1))
    await second.end()
    assert second.kinds() == ["end"]
    second.cut()

    third = await core.session()
    assert not third.hello.held


async def test_a_count_that_cannot_be_gives_the_run_up(core: ScriptedCore, start_worker: StartWorker) -> None:
    gate = Gate()
    start_worker(gate.app)
    first = await core.welcomed()
    await first.assign("gate")
    await has_text(first, "one ")
    first.cut()

    second = await core.session()
    await second.welcome(held(accepted=7))

    await soon(gate.cancelled)


async def test_a_handler_goes_on_without_a_connection_until_the_lease_is_over(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    gate = Gate()
    start_worker(gate.app)
    first = await core.welcomed(lease=0.2)
    await first.assign("gate")
    await has_text(first, "one ")
    first.cut()
    second = await core.session()  # which is not answered: there is no contact

    await soon(gate.cancelled)
    await second.welcome(held(accepted=1))

    await second.until(lambda session: bool(session.declined))
    assert [(decline.run_id, decline.reason) for decline in second.declined] == [("run_1", "NOT_HELD")]
    assert not second.outputs


async def test_a_core_that_drains_gets_what_there_is_and_the_worker_finds_the_next(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    gate = Gate()
    async with scripted_core() as other:
        start_worker(gate.app, core=f"{core.address}, {other.address}")
        first = await core.welcomed()
        await first.assign("gate")
        await has_text(first, "one ")

        await first.say(CoreMessage(draining=Draining()))
        await soon(first.ended)
        second = await other.session()
        await second.welcome(held(accepted=1))
        gate.go.set()

        await second.end()
        assert second.numbers() == [2, 3]
        assert gate.starts == 1


async def test_a_core_that_is_gone_is_dialled_again_until_it_is_back(start_worker: StartWorker) -> None:
    gate = Gate()
    async with scripted_core() as core:
        start_worker(gate.app, core=core.address)
        first = await core.welcomed()
        await first.assign("gate")
        await has_text(first, "one ")
    gate.go.set()

    async with scripted_core(int(core.address.rpartition(":")[2])) as core:
        second = await core.session()
        await second.welcome(held(accepted=1))
        await second.end()
        assert second.numbers() == [2, 3]


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
    worker = start_worker(gate.app, drain_timeout=0.05)
    session = await core.welcomed()
    await session.assign("gate")
    await has_text(session, "one ")

    worker.drain()

    await worker.has_left()
    assert gate.cancelled.is_set()
    assert [(decline.run_id, decline.reason) for decline in session.declined] == [("run_1", "DRAINING")]
    assert session.text() == "one "


async def test_an_idle_worker_that_finds_no_core_leaves_at_once(start_worker: StartWorker) -> None:
    async with scripted_core() as core:
        address = core.address
    worker = start_worker(echo_app(), core=address)

    worker.drain()

    await worker.has_left()
