"""All forms of handlers, what a yield does, and what each way to end becomes; over a real stream."""

import asyncio
import functools
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator

import pytest
from structlog.testing import capture_logs

import penstock
from penstock import App, InvalidOutput, Run
from penstock.v1.run_pb2 import EndReason
from penstock.v1.worker_service_pb2 import CancelRequested, CoreMessage, EndOutput, Revoked
from tests.sdk.conftest import StartWorker
from tests.sdk.scripted_core import PATIENCE, ScriptedCore, Session


async def outcome(
    core: ScriptedCore, start_worker: StartWorker, handler: Callable[[Run], object]
) -> tuple[Session, EndOutput]:
    """Run a handler on `a b` to its end."""
    app = App("test")
    app.agent("agent")(handler)
    start_worker(app)
    session = await core.welcomed()
    await session.assign("agent", "a b")
    return session, await session.end()


async def async_generator(run: Run) -> AsyncIterator[object]:
    for word in run.text.split():
        yield word + " "
    yield penstock.Reasoning("done")


async def async_function(run: Run) -> str:
    await asyncio.sleep(0)
    return run.text + " "


def sync_generator(run: Run) -> Iterator[object]:
    assert threading.current_thread() is not threading.main_thread()
    for word in run.text.split():
        yield {"type": "text", "text": word + " "}


def sync_function(run: Run) -> penstock.Text:
    assert threading.current_thread() is not threading.main_thread()
    return penstock.Text(run.text + " ")


class Callable_:
    async def __call__(self, run: Run) -> AsyncIterator[str]:
        yield run.text + " "


async def with_extra(extra: int, run: Run) -> AsyncIterator[str]:
    yield run.text + " "


@pytest.mark.parametrize(
    ("handler", "kinds"),
    [
        (async_generator, ["text", "text", "reasoning", "end"]),
        (async_function, ["text", "end"]),
        (sync_generator, ["text", "text", "end"]),
        (sync_function, ["text", "end"]),
        (Callable_(), ["text", "end"]),
        (functools.partial(with_extra, 1), ["text", "end"]),
    ],
    ids=["async-generator", "async-function", "sync-generator", "sync-function", "object", "partial"],
)
async def test_every_form_of_handler_says_the_same(
    core: ScriptedCore, start_worker: StartWorker, handler: Callable[[Run], object], kinds: list[str]
) -> None:
    session, end = await outcome(core, start_worker, handler)

    assert session.text() == "a b "
    assert session.kinds() == kinds
    assert end == EndOutput()


async def returns_value(run: Run) -> dict[str, object]:
    return {"answer": 42, "list": [1, None]}


def returns_value_after_yields(run: Run) -> Generator[str, None, dict[str, object]]:
    yield "x"
    return {"answer": 42, "list": [1, None]}


@pytest.mark.parametrize("handler", [returns_value, returns_value_after_yields])
async def test_a_returned_value_is_the_result(
    core: ScriptedCore, start_worker: StartWorker, handler: Callable[[Run], object]
) -> None:
    _, end = await outcome(core, start_worker, handler)

    assert end == EndOutput(result_json='{"answer":42,"list":[1,null]}')


async def fails(run: Run) -> AsyncIterator[str]:
    yield "so far "
    raise ValueError("the password is swordfish")


def fails_in_a_thread(run: Run) -> str:
    raise StopIteration("the password is swordfish")


async def exits(run: Run) -> AsyncIterator[str]:
    yield "so far "
    raise SystemExit("the password is swordfish")


async def cancels_itself(run: Run) -> str:
    raise asyncio.CancelledError("the password is swordfish")


async def says_why(run: Run) -> str:
    raise penstock.AgentError("OUT_OF_STOCK", "There are none left.")


async def gives_up(run: Run) -> str:
    raise penstock.Fatal("This cannot work.")


async def declines(run: Run) -> str:
    raise penstock.Rejected("I do not talk about that.")


def returns_nonsense(run: Run) -> object:
    return object()


def returns_too_much(run: Run) -> object:
    return ["x" * 300_000]


AGENT_ERROR = EndReason.END_REASON_AGENT_ERROR
RAISED = "The agent raised an error: {}."


@pytest.mark.parametrize(
    ("handler", "reason", "code", "message", "retryable"),
    [
        (fails, AGENT_ERROR, "AGENT_ERROR", RAISED.format("ValueError"), True),
        (fails_in_a_thread, AGENT_ERROR, "AGENT_ERROR", RAISED.format("RuntimeError"), True),
        (exits, AGENT_ERROR, "AGENT_ERROR", RAISED.format("SystemExit"), True),
        (cancels_itself, AGENT_ERROR, "AGENT_ERROR", RAISED.format("CancelledError"), True),
        (says_why, AGENT_ERROR, "OUT_OF_STOCK", "There are none left.", True),
        (gives_up, AGENT_ERROR, "AGENT_ERROR", "This cannot work.", False),
        (declines, EndReason.END_REASON_REJECTED, "REJECTED", "I do not talk about that.", False),
        (
            returns_nonsense,
            EndReason.END_REASON_INVALID_OUTPUT,
            "INVALID_OUTPUT",
            "The agent sent something that cannot be stored.",
            False,
        ),
        (
            returns_too_much,
            EndReason.END_REASON_INVALID_OUTPUT,
            "INVALID_OUTPUT",
            "The agent sent something that cannot be stored.",
            False,
        ),
    ],
)
async def test_an_exception_ends_the_run_and_shows_only_what_the_author_wrote_for_strangers(
    core: ScriptedCore,
    start_worker: StartWorker,
    handler: Callable[[Run], object],
    reason: EndReason.ValueType,
    code: str,
    message: str,
    retryable: bool,  # noqa: FBT001
) -> None:
    _, end = await outcome(core, start_worker, handler)

    assert end.reason == reason
    assert (end.error.code, end.error.message, end.error.retryable) == (code, message, retryable)


async def test_the_traceback_of_a_handler_is_in_the_log(core: ScriptedCore, start_worker: StartWorker) -> None:
    with capture_logs() as lines:
        await outcome(core, start_worker, fails)

    [line] = [line for line in lines if line["event"] == "handler raised"]
    assert (line["run_id"], line["agent_id"], line["attempt"], line["log_level"]) == ("run_1", "agent", 1, "error")
    assert str(line["exc_info"]) == "the password is swordfish"
    assert line["exc_info"].__traceback__ is not None


def test_the_code_of_an_error_is_upper_snake_case() -> None:
    with pytest.raises(ValueError, match="upper snake case"):
        penstock.AgentError("oops!", "x")


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
    app = App("test")

    @app.agent("blocks")
    def blocks(run: Run) -> str:
        assert release.wait(PATIENCE)
        return "released"

    app.agent("echo")(async_generator)
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
