"""What a yield does: pieces, refusals, and waiting at the bound."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

import penstock
from penstock import App, InvalidOutput, Run
from penstock.v1.worker_service_pb2 import EndOutput
from tests.sdk.agents import outcome
from tests.sdk.conftest import StartWorker
from tests.sdk.scripted_core import ScriptedCore


async def yields_too_much(run: Run) -> AsyncIterator[object]:
    try:
        yield penstock.Data("d", "x" * 300_000)
    except InvalidOutput as refused:
        yield f"refused: {refused}"


def yields_too_much_in_a_thread(run: Run) -> Iterator[object]:
    try:
        yield penstock.Data("d", "x" * 300_000)
    except InvalidOutput as refused:
        yield f"refused: {refused}"


@pytest.mark.parametrize("handler", [yields_too_much, yields_too_much_in_a_thread])
async def test_what_is_too_big_is_refused_at_the_yield(
    core: ScriptedCore, start_worker: StartWorker, handler: Callable[[Run], object]
) -> None:
    session, end = await outcome(core, start_worker, handler)

    assert session.kinds() == ["text", "end"]
    assert "an output may have 262,144" in session.text()
    assert end == EndOutput()


async def yields_nothing_a_million_times(run: Run) -> AsyncIterator[str]:
    for _ in range(1_000_000):
        yield ""
    yield "x"


async def test_a_million_empty_strings_are_no_output_and_stop_nobody(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    turns = 0

    async def other_work() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(other_work())
    session, _ = await outcome(core, start_worker, yields_nothing_a_million_times)
    other.cancel()

    assert session.kinds() == ["text", "end"]
    assert turns > 100


async def yields_five_mebibytes(run: Run) -> AsyncIterator[str]:
    yield "0123456789abcdef" * (5 << 16)


async def test_a_text_of_five_mebibytes_arrives_in_pieces(core: ScriptedCore, start_worker: StartWorker) -> None:
    session, _ = await outcome(core, start_worker, yields_five_mebibytes)

    assert session.text() == "0123456789abcdef" * (5 << 16)
    assert all(request.ByteSize() <= 1 << 20 for request in session.requests)
    assert session.numbers() == list(range(1, len(session.numbers()) + 1))


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "thread"])
async def test_a_handler_waits_at_the_bound_until_its_outputs_are_stored(
    core: ScriptedCore, start_worker: StartWorker, *, is_async: bool
) -> None:
    made = 0

    async def in_loop(run: Run) -> AsyncIterator[str]:
        for word in in_thread(run):
            yield word

    def in_thread(run: Run) -> Iterator[str]:
        nonlocal made
        for number in range(10_000):
            made = number + 1
            yield f"{number} "

    app = App("test")
    app.agent("agent")(in_loop if is_async else in_thread)
    start_worker(app)
    session = await core.session()
    session.acks = False
    await session.welcome()
    await session.assign("agent")

    await session.until(lambda session: len(session.numbers()) == 4_000)
    assert made <= 4_001
    assert len(session.numbers()) == 4_000
    session.acks = True
    await session.ack(4_000)

    await session.end()
    assert session.text() == "".join(f"{number} " for number in range(10_000))
    assert session.numbers() == list(range(1, 10_002))
