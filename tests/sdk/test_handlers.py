"""All forms of handlers, and what each way to end becomes; over a real stream."""

import asyncio
import functools
import json
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator

import pytest
from structlog.contextvars import get_contextvars
from structlog.testing import capture_logs

import penstock
from penstock import Run
from penstock.v1.run_pb2 import EndReason
from penstock.v1.worker_service_pb2 import EndOutput
from tests.sdk.agents import outcome
from tests.sdk.conftest import StartWorker
from tests.sdk.scripted_core import ScriptedCore


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

    [line] = [line for line in lines if line["event"] == "handler_raised"]
    assert (line["log_level"], line["code"]) == ("error", "AGENT_ERROR")
    assert str(line["exc_info"]) == "the password is swordfish"
    assert line["exc_info"].__traceback__ is not None


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "thread"])
async def test_whatever_is_logged_during_a_run_names_it(
    core: ScriptedCore, start_worker: StartWorker, *, is_async: bool
) -> None:
    async def in_loop(run: Run) -> object:
        return get_contextvars()

    def in_thread(run: Run) -> object:
        return get_contextvars()

    _, end = await outcome(core, start_worker, in_loop if is_async else in_thread)

    assert json.loads(end.result_json) == {"run_id": "run_1", "agent_id": "agent", "attempt": 1}


def test_the_code_of_an_error_is_upper_snake_case() -> None:
    with pytest.raises(ValueError, match="upper snake case"):
        penstock.AgentError("oops!", "x")
