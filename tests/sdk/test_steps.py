"""Durable steps as an author writes them, and what the worker sends of them."""

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

import penstock
from penstock import Run, Step
from penstock.steps import Work, takes_step
from penstock.v1.run_pb2 import EndReason
from penstock.v1.worker_service_pb2 import Record, StepRecord
from tests.sdk.agents import outcome, started
from tests.sdk.conftest import StartWorker
from tests.sdk.lines import lines
from tests.sdk.scripted_core import ScriptedCore, finished


def args_hash(*args: object, **kwargs: object) -> bytes:
    return Work(print, args, kwargs).args_hash


async def double(number: int) -> int:
    return 2 * number


def sync_double(number: int) -> int:
    assert threading.current_thread() is not threading.main_thread()
    return 2 * number


@pytest.mark.parametrize("function", [double, sync_double, functools.partial(double), lambda number: double(number)])
async def test_a_step_runs_its_function_and_records_what_it_returns(
    core: ScriptedCore, start_worker: StartWorker, function: Callable[[int], object]
) -> None:
    async def handler(run: Run) -> AsyncIterator[str]:
        yield "before "
        yield f"got {await run.step('double', function, 21)} "

    session, _ = await outcome(core, start_worker, handler)

    assert lines(session) == ["text 'before '", "step+ double#1", "step- double#1 42", "text 'got 42 '", "end"]
    step = session.outputs["run_1"][1][1].step_started
    assert (step.name, step.parent_key, step.args_hash) == ("double", "", args_hash(21))


async def test_a_recorded_step_returns_its_record_and_says_nothing(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    async def handler(run: Run) -> AsyncIterator[str]:
        yield "before "
        yield f"got {await run.step('double', double, 21)} "

    session, _ = await outcome(core, start_worker, handler, finished("double#1", "7"))

    assert lines(session) == ["text 'got 7 '", "end"]


async def test_keys_count_each_name_in_its_scope(core: ScriptedCore, start_worker: StartWorker) -> None:
    async def outer(step: Step) -> None:
        await step.step("a", double, 1)
        await step.step("a", double, 2)

    async def handler(run: Run) -> None:
        await run.step("a", double, 3)
        await run.step("b", outer)
        await run.step("a", double, 4)

    session, _ = await outcome(core, start_worker, handler)

    assert [line for line in lines(session) if "step+" in line] == [
        "step+ a#1",
        "step+ b#1",
        "step+ b#1/a#1",
        "step+ b#1/a#2",
        "step+ a#2",
    ]
    parents = [output.step_started for _, output in session.outputs["run_1"] if output.HasField("step_started")]
    assert [started.parent_key for started in parents] == ["", "", "b#1", "b#1", ""]


async def test_a_step_of_the_run_that_is_called_inside_a_step_is_one_of_that_step(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    async def handler(run: Run) -> None:
        async def outer() -> None:
            await run.step("inner", double, 1)
            await asyncio.gather(run.step("inner", double, 2), asyncio.to_thread(run.blocking.step, "inner", double, 3))

        await run.step("outer", outer)

    session, _ = await outcome(core, start_worker, handler)

    assert {line.rpartition("step+ ")[2] for line in lines(session) if "step+" in line} == {
        "outer#1",
        "outer#1/inner#1",
        "outer#1/inner#2",
        "outer#1/inner#3",
    }


async def test_an_awaited_step_speaks_in_the_lane_of_its_caller(core: ScriptedCore, start_worker: StartWorker) -> None:
    async def says(step: Step, word: str) -> None:
        await step.say(word)
        await step.say(penstock.Reasoning("hm"))

    async def handler(run: Run) -> None:
        await run.step("says", says, "hello")

    session, _ = await outcome(core, start_worker, handler)

    assert lines(session) == ["step+ says#1", "text 'hello'", "reasoning 'hm'", "step- says#1 null", "end"]


async def test_steps_side_by_side_have_lanes_of_their_own_and_end_what_is_open_beside_them(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    async def says(step: Step, word: str) -> None:
        await step.say(word)

    async def handler(run: Run) -> AsyncIterator[str | penstock.Text]:
        yield "open "
        yield penstock.Text("aside", lane="other")
        await asyncio.gather(run.step("a", says, "one"), run.step("b", says, "two"))
        yield "after"

    session, _ = await outcome(core, start_worker, handler)

    assert lines(session) == [
        "text 'open '",
        "[other] text 'aside'",
        "[other] message",
        "message",
        "[a#1] step+ a#1",
        "[a#1] text 'one'",
        "[a#1] step- a#1 null",
        "[b#1] step+ b#1",
        "[b#1] text 'two'",
        "[b#1] step- b#1 null",
        "text 'after'",
        "end",
    ]


async def test_a_step_goes_on_only_after_its_record_is_stored(core: ScriptedCore, start_worker: StartWorker) -> None:
    async def handler(run: Run) -> AsyncIterator[str]:
        await run.step("double", double, 1)
        yield "after"

    session = await started(core, start_worker, handler)
    session.acks = False
    await session.until(lambda session: session.kinds()[-1:] == ["step_ended"])
    assert session.text() == ""

    session.acks = True
    await session.ack(2)
    await session.end()

    assert session.text() == "after"


async def test_output_of_a_scope_beside_its_own_step_is_refused(core: ScriptedCore, start_worker: StartWorker) -> None:
    async def handler(run: Run) -> AsyncIterator[str]:
        step = run.step("double", double, 1)
        try:
            yield "beside "
        except penstock.OutputDuringStep as refused:
            await step
            yield str(refused)

    session, _ = await outcome(core, start_worker, handler)

    assert lines(session)[:2] == ["step+ double#1", "step- double#1 2"]
    assert session.text() == "the handler says something while its step 'double#1' is not over"


async def test_a_step_that_was_cancelled_before_it_began_leaves_its_caller_free_to_speak(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    async def handler(run: Run) -> AsyncIterator[str]:
        task = asyncio.create_task(run.step("double", double, 1))
        task.cancel()
        await asyncio.wait([task])
        yield "free"

    session, _ = await outcome(core, start_worker, handler)

    assert lines(session) == ["text 'free'", "end"]


async def test_a_handler_that_returns_before_its_step_fails(core: ScriptedCore, start_worker: StartWorker) -> None:
    left_behind: list[object] = []

    async def handler(run: Run) -> None:
        left_behind.append(asyncio.create_task(run.step("double", double, 1)))

    _, end = await outcome(core, start_worker, handler)

    assert end.error.message == "The agent raised an error: RuntimeError."


async def test_a_step_that_raises_is_not_recorded_and_its_caller_may_go_on(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    async def fails(step: Step) -> None:
        await step.say("trying ")
        raise ValueError("no")

    async def handler(run: Run) -> AsyncIterator[str]:
        try:
            await run.step("fails", fails)
        except ValueError as error:
            yield f"caught {error}"

    session, _ = await outcome(core, start_worker, handler)

    assert lines(session) == ["step+ fails#1", "text 'trying '", "step- fails#1 failed", "text 'caught no'", "end"]


async def test_a_step_that_runs_out_of_time_is_over(core: ScriptedCore, start_worker: StartWorker) -> None:
    async def handler(run: Run) -> AsyncIterator[str]:
        try:
            async with asyncio.timeout(0.01):
                await run.step("hangs", asyncio.Event().wait)
        except TimeoutError:
            yield "late"

    session, _ = await outcome(core, start_worker, handler)

    assert lines(session) == ["step+ hangs#1", "step- hangs#1 failed", "text 'late'", "end"]


async def test_what_a_step_returns_is_what_json_makes_of_it_also_the_first_time(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    @dataclass
    class Receipt:
        items: tuple[int, ...]

    async def charge() -> Receipt:
        return Receipt((1, 2))

    async def handler(run: Run) -> object:
        return await run.step("charge", charge)

    _, end = await outcome(core, start_worker, handler)

    assert end.result_json == '{"items":[1,2]}'


RESULTS = [(object(), "cannot be written as JSON"), ("x" * (256 << 10), "262,146 bytes as JSON; it may have 262,144")]


@pytest.mark.parametrize(("result", "complaint"), RESULTS, ids=["object", "size"])
async def test_a_result_that_cannot_be_recorded_is_refused_by_the_name_of_its_step(
    core: ScriptedCore, start_worker: StartWorker, result: object, complaint: str
) -> None:
    async def handler(run: Run) -> AsyncIterator[str]:
        try:
            await run.step("bad", lambda: result)
        except penstock.InvalidOutput as refused:
            yield str(refused)

    session, _ = await outcome(core, start_worker, handler)

    assert lines(session)[:2] == ["step+ bad#1", "step- bad#1 failed"]
    assert session.text().startswith("the result of the step 'bad#1' ")
    assert complaint in session.text()


async def test_a_result_of_just_the_right_size_is_recorded(core: ScriptedCore, start_worker: StartWorker) -> None:
    result = "x" * ((256 << 10) - 2)

    async def handler(run: Run) -> bool:
        return await run.step("n" * 250, lambda: result) == result

    _, end = await outcome(core, start_worker, handler)

    assert end.result_json == "true"


async def test_the_results_of_a_run_have_a_bound_that_counts_those_of_earlier_attempts(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    async def handler(run: Run) -> AsyncIterator[str]:
        for number in range(20):
            try:
                await run.step("big", lambda: "x" * 250_000)
            except penstock.InvalidOutput as refused:
                yield f"{number}: {refused}"
                return

    records = [finished(f"big#{number}", f'"{"x" * 250_000}"') for number in (1, 2)]
    session, _ = await outcome(core, start_worker, handler, *records)

    assert session.text() == "16: with the result of the step 'big#17' those of the run have more than 4,194,304 bytes"


async def test_generators_are_no_steps(core: ScriptedCore, start_worker: StartWorker) -> None:
    def generator() -> Iterator[str]:
        yield ""

    async def handler(run: Run) -> str:
        with pytest.raises(TypeError, match="is a generator"):
            _ = run.step("x", generator)
        return "refused"

    session, _ = await outcome(core, start_worker, handler)

    assert session.text() == "refused"


@pytest.mark.parametrize("name", ["", "a/b", "n" * 255])
async def test_a_name_that_cannot_be_part_of_a_key_is_refused(
    core: ScriptedCore, start_worker: StartWorker, name: str
) -> None:
    async def handler(run: Run) -> str:
        with pytest.raises(ValueError, match="name"):
            _ = run.step(name, double, 1)
        return "refused"

    session, _ = await outcome(core, start_worker, handler)

    assert lines(session) == ["text 'refused'", "end"]


async def test_the_key_of_a_step_is_the_same_in_each_attempt(core: ScriptedCore, start_worker: StartWorker) -> None:
    keys: list[str] = []

    async def charge(step: "penstock.Step") -> None:
        keys.append(step.key)
        await step.step("inner", inner)
        raise penstock.Fatal("enough")

    def inner(step: Step) -> None:
        keys.append(step.key)

    async def handler(run: Run) -> None:
        await run.step("charge", charge)

    session = await started(core, start_worker, handler)
    await session.end()
    await session.assign("agent", attempt=2)
    await session.until(lambda session: session.kinds().count("end") == 2)

    assert keys == ["run_1/charge#1", "run_1/charge#1/inner#1"] * 2


if TYPE_CHECKING:
    from penstock.v1.agent_pb2 import Skill as Something


def with_a_type_of_the_checker(step: "Step", value: "Something") -> str:
    return step.key


def without(value: int) -> None: ...


def of_another_kind(step: "int") -> None: ...


@pytest.mark.parametrize(
    ("function", "takes"),
    [(with_a_type_of_the_checker, True), (without, False), (of_another_kind, False), (int, False), (lambda: 1, False)],
)
def test_a_function_takes_a_step_when_its_first_parameter_says_so(
    function: Callable[..., object],
    takes: bool,  # noqa: FBT001
) -> None:
    assert takes_step(function, Step) is takes


# ── replay ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_was_said_before_a_recorded_step_is_not_said_again(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    replaying: list[bool] = []

    async def handler(run: Run) -> AsyncIterator[object]:
        yield "one "
        yield penstock.State({"a": 1})
        yield penstock.Usage(1, 2)
        yield penstock.Custom("c")
        replaying.append(run.replaying)
        await run.step("a", double, 1)
        yield "two "
        await run.step("b", double, 2)
        replaying.append(run.replaying)
        yield "three "

    session, _ = await outcome(core, start_worker, handler, finished("a#1"), finished("b#1"))

    assert lines(session) == ["text 'three '", "end"]
    assert replaying == [True, False]


async def test_a_step_that_was_not_recorded_is_run_while_later_ones_are_on_record(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    async def says(step: Step, word: str) -> None:
        await step.say(word)

    async def handler(run: Run) -> AsyncIterator[str]:
        yield "one "
        await asyncio.gather(run.step("a", says, "a "), run.step("b", says, "b "))
        yield "two "

    session, _ = await outcome(core, start_worker, handler, finished("b#1"))

    assert lines(session) == [
        "message",
        "[a#1] step+ a#1",
        "[a#1] text 'a '",
        "[a#1] step- a#1 null",
        "text 'two '",
        "end",
    ]


async def test_a_step_around_a_recorded_one_is_run_again_and_says_what_comes_behind_it(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    async def outer(step: Step) -> None:
        await step.say("before ")
        await step.step("inner", double, 1)
        await step.say("behind ")

    async def handler(run: Run) -> AsyncIterator[str]:
        yield "one "
        await run.step("outer", outer)
        yield "two "

    around = Record(key="outer#1", step=StepRecord())
    session, _ = await outcome(core, start_worker, handler, around, finished("outer#1/inner#1"))

    assert lines(session) == ["step+ outer#1", "text 'behind '", "step- outer#1 null", "text 'two '", "end"]


async def test_what_lies_inside_a_recorded_step_is_not_waited_for(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    async def handler(run: Run) -> AsyncIterator[str]:
        await run.step("outer", double, 1)
        yield f"{run.replaying}"

    session, _ = await outcome(core, start_worker, handler, finished("outer#1/inner#1"), finished("outer#1"))

    assert session.text() == "False"


async def test_a_step_that_fails_before_its_recorded_inner_one_does_not_stop_the_replay_from_ending(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    async def fails() -> None:
        raise ValueError

    async def handler(run: Run) -> AsyncIterator[str]:
        try:
            await run.step("outer", fails)
        except ValueError:
            yield f"{run.replaying}"

    session, _ = await outcome(core, start_worker, handler, finished("outer#1/inner#1"))

    assert session.text() == "False"


async def skips(run: Run) -> AsyncIterator[str]:
    yield "said again"


async def skips_in_a_step(run: Run) -> AsyncIterator[str]:
    await run.step("outer", double, 1)
    yield "said again"


async def changes_arguments(run: Run) -> AsyncIterator[str]:
    await run.step("a", double, 2)
    yield "said again"


async def goes_on_regardless(run: Run) -> AsyncIterator[str]:
    try:
        await run.step("a", double, 2)
    except penstock.NonDeterministic:
        yield "said again"


def changes_arguments_in_a_thread(run: Run) -> Iterator[str]:
    run.blocking.step("a", double, 2)
    yield "said again"


A = finished("a#1", args_hash=args_hash(1))


@pytest.mark.parametrize(
    ("handler", "record", "message", "said"),
    [
        (skips, A, "the handler was started again and did not ask for 'a#1', which it had asked for before.", []),
        (
            skips_in_a_step,
            finished("outer#1/a#1"),
            "the step 'outer#1' was started again and did not ask for 'outer#1/a#1', which it had asked for before.",
            ["step+ outer#1"],
        ),
        (changes_arguments, A, "step 'a#1' was finished before with other arguments.", []),
        (goes_on_regardless, A, "step 'a#1' was finished before with other arguments.", []),
        (changes_arguments_in_a_thread, A, "step 'a#1' was finished before with other arguments.", []),
    ],
    ids=["skipped", "skipped-inside", "arguments", "caught", "thread"],
)
async def test_a_handler_that_does_not_repeat_itself_ends_the_run_and_says_nothing(
    core: ScriptedCore,
    start_worker: StartWorker,
    handler: Callable[[Run], object],
    record: Record,
    message: str,
    said: list[str],
) -> None:
    session, end = await outcome(core, start_worker, handler, record)

    assert lines(session) == [*said, "end NON_DETERMINISTIC"]
    assert end.reason == EndReason.END_REASON_NON_DETERMINISTIC
    assert (end.error.code, end.error.message, end.error.retryable) == ("NON_DETERMINISTIC", message, False)


def test_equal_arguments_have_one_hash_and_others_another() -> None:
    class Client:
        pass

    assert args_hash({"b": 1, "a": {2, 1}}, x=1.5) == args_hash({"a": {1, 2}, "b": 1}, x=1.5)
    assert args_hash(Client(), 1) == args_hash(Client(), 1)
    assert args_hash({(1, 2): "keys that JSON does not know"}) == args_hash({(1, 3): "the same"})
    assert len({args_hash(), args_hash(1), args_hash("1"), args_hash(1, 2), args_hash(a=1), args_hash(Client())}) == 6


# ── in threads ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_sync_code_takes_steps_by_blocking(core: ScriptedCore, start_worker: StartWorker) -> None:
    def inner(step: Step) -> str:
        step.blocking.say("inside ")
        return step.blocking.step("double", double, 4) * "x"

    def handler(run: Run) -> Iterator[str]:
        yield "before "
        yield run.blocking.step("inner", inner)

    session, _ = await outcome(core, start_worker, handler)

    assert lines(session) == [
        "text 'before '",
        "step+ inner#1",
        "text 'inside '",
        "step+ inner#1/double#1",
        "step- inner#1/double#1 8",
        "step- inner#1 " + '"xxxxxxxx"',
        "text 'xxxxxxxx'",
        "end",
    ]


async def test_blocking_is_refused_in_the_event_loop(core: ScriptedCore, start_worker: StartWorker) -> None:
    async def handler(run: Run) -> str:
        with pytest.raises(RuntimeError, match="for sync code in threads"):
            run.blocking.step("x", double, 1)
        return "refused"

    session, _ = await outcome(core, start_worker, handler)

    assert session.text() == "refused"


async def test_a_handler_that_returns_can_say_things_before(core: ScriptedCore, start_worker: StartWorker) -> None:
    async def handler(run: Run) -> str:
        await run.say("one ")
        await run.say({"type": "reasoning", "text": "hm"})
        return "two"

    session, _ = await outcome(core, start_worker, handler)

    assert lines(session) == ["text 'one '", "reasoning 'hm'", "text 'two'", "end"]


async def test_a_lane_of_its_own_is_refused_inside_a_step(core: ScriptedCore, start_worker: StartWorker) -> None:
    async def says(step: Step) -> None:
        await step.say(penstock.Text("x", lane="mine"))

    async def handler(run: Run) -> AsyncIterator[str]:
        try:
            await run.step("says", says)
        except penstock.InvalidOutput as refused:
            yield str(refused)

    session, _ = await outcome(core, start_worker, handler)

    assert "inside a step there is only its own" in session.text()
