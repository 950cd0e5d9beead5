"""Steering: what a handler reads of the messages that come while it runs."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from penstock import Run
from penstock.v1.message_pb2 import Message
from penstock.v1.worker_service_pb2 import CoreMessage, Steered
from tests.sdk.agents import has_text, outcome, started
from tests.sdk.conftest import StartWorker
from tests.sdk.lines import lines
from tests.sdk.scripted_core import ScriptedCore, assignment, finished, steering, took


def texts(messages: tuple[Message, ...]) -> str:
    return "+".join(message.parts[0].text.text for message in messages)


async def reads_between_words(run: Run) -> AsyncIterator[str]:
    for word in ("one", "two", "three"):
        yield f"{word}:{texts(run.inbox.read())} "


async def test_a_read_takes_what_has_come_and_is_recorded_unless_it_found_nothing(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    go = asyncio.Event()

    async def handler(run: Run) -> AsyncIterator[str]:
        yield f"1:{texts(run.inbox.read())} "
        await go.wait()
        yield f"2:{texts(run.inbox.read())} "
        yield f"3:{texts(run.inbox.read())} "

    session = await started(core, start_worker, handler)
    await has_text(session, "1: ")
    await session.steer("a")
    await session.steer("b")
    await session.steer("a")  # told again after a break
    await session.assign("agent")
    await session.until(lambda session: len(session.accepted) == 2)  # so all have arrived
    go.set()
    await session.end()

    assert lines(session) == ["text '1: '", "read 2 a b", "text '2:a+b '", "text '3: '", "end"]


async def test_messages_that_nobody_has_read_come_with_the_assignment(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    session = await started(core, start_worker, reads_between_words)
    await session.end()
    again = assignment("agent", run_id="run_2")
    again.inbox.append(steering("a"))
    await session.say(CoreMessage(assignment=again))
    await session.end("run_2")

    assert session.text("run_2") == "one:a two: three: "


async def test_a_replayed_read_returns_what_it_returned_and_nothing_new_before_the_replay_is_over(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    async def handler(run: Run) -> AsyncIterator[str]:
        got = [texts(run.inbox.read()), texts(run.inbox.read())]
        await run.step("a", lambda: None)
        got += [texts(run.inbox.read()), texts(run.inbox.read())]
        yield "|".join(got)

    again = assignment("agent", attempt=2)
    again.records.extend([finished("a#1"), took(2, "old")])
    again.inbox.append(steering("new"))
    session = await started(core, start_worker, handler)
    await session.end()
    await session.say(CoreMessage(assignment=again))
    await session.until(lambda session: session.kinds().count("end") == 2)

    assert lines(session)[-3:] == ["read 3 new", "text '|old|new|'", "end"]


async def test_next_waits_for_a_message_and_takes_one(core: ScriptedCore, start_worker: StartWorker) -> None:
    async def handler(run: Run) -> AsyncIterator[str]:
        async for message in run.inbox:
            text = texts((message,))
            yield f"got {text} "
            if text == "stop":
                break
        yield texts(run.inbox.read())

    session = await started(core, start_worker, handler)
    await session.steer("a")
    await has_text(session, "got a ")
    await session.say(*(CoreMessage(steered=Steered(run_id="run_1", message=steering(text))) for text in ("stop", "c")))
    await session.end()

    assert [line for line in lines(session) if "read" in line] == ["read 1 a", "read 2 stop", "read 3 c"]
    assert session.text() == "got a got stop c"


async def test_a_replayed_next_returns_what_it_returned(core: ScriptedCore, start_worker: StartWorker) -> None:
    async def handler(run: Run) -> AsyncIterator[str]:
        first = await run.inbox.next()
        await run.step("a", lambda: None)
        yield texts((first,))

    session, _ = await outcome(core, start_worker, handler, took(1, "old"), finished("a#1"))

    assert lines(session) == ["text 'old'", "end"]


async def test_a_next_where_there_was_a_read_of_several_ends_the_run(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    async def handler(run: Run) -> None:
        await run.inbox.next()

    session, end = await outcome(core, start_worker, handler, took(1, "a", "b"))

    assert lines(session) == ["end NON_DETERMINISTIC"]
    assert end.error.message == "read 1 of the inbox took 2 messages before, and takes one now."


async def test_the_inbox_is_not_read_inside_a_step(core: ScriptedCore, start_worker: StartWorker) -> None:
    async def handler(run: Run) -> AsyncIterator[str]:
        async def reads() -> str:
            with pytest.raises(RuntimeError, match="read by the handler, not inside the step 'reads#1'"):
                run.inbox.read()
            return "refused"

        yield await run.step("reads", reads)

    session, _ = await outcome(core, start_worker, handler)

    assert session.text() == "refused"


async def test_sync_code_reads_by_blocking(core: ScriptedCore, start_worker: StartWorker) -> None:
    def handler(run: Run) -> Iterator[str]:
        yield f"1:{texts(run.blocking.read_inbox())} "
        yield f"2:{texts((run.blocking.next_message(),))} "

    session = await started(core, start_worker, handler)
    await has_text(session, "1: ")
    await session.steer("a")
    await session.end()

    assert session.text() == "1: 2:a "


async def test_a_handler_that_waits_for_a_message_beside_a_question_can_be_let_go(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    async def handler(run: Run) -> None:
        await asyncio.gather(run.ask("Go on?"), run.inbox.next())

    session = await started(core, start_worker, handler, park_seconds=0.01)

    await session.until(lambda session: bool(session.released))
