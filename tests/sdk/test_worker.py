"""What a worker says and does on its stream, held against a core that follows a script."""

import asyncio
from collections.abc import AsyncIterator

from penstock import App, Run
from penstock.v1.run_pb2 import EndReason
from penstock.v1.worker_service_pb2 import CancelRequested, CoreMessage, Revoked
from tests.sdk.agents import Gate, echo_app, has_text, soon
from tests.sdk.conftest import StartWorker
from tests.sdk.scripted_core import ScriptedCore, assignment


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


async def test_an_agent_runs_no_more_at_a_time_than_it_declared(core: ScriptedCore, start_worker: StartWorker) -> None:
    gate = Gate()
    gate.app.agents["gate"].declaration.concurrency = 1
    start_worker(gate.app)
    session = await core.welcomed()

    await session.assign("gate", run_id="run_1")
    await session.assign("gate", run_id="run_2")
    await session.until(lambda session: len(session.accepted) == 2)
    await has_text(session, "one ", "run_1")
    assert gate.starts == 1
    gate.go.set()

    await session.end("run_2")
    assert list(session.outputs) == ["run_1", "run_2"]
    assert session.kinds("run_1")[-1] == "end"


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
