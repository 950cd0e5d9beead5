"""Questions as an author asks them, and what the worker sends of them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta

import pytest
from google.protobuf.json_format import ParseDict

import penstock
from penstock import Answer, Run, Step
from penstock.questions import Kind
from penstock.v1.run_pb2 import EndReason, InputOutcome
from penstock.v1.worker_service_pb2 import AskOutput, CancelRequested, CoreMessage
from tests.sdk.agents import outcome, started
from tests.sdk.conftest import StartWorker
from tests.sdk.lines import lines
from tests.sdk.scripted_core import ScriptedCore, Session, answered, asked, finished

APPROVED = '{"approved":true}'


async def waits(session: Session) -> None:
    await session.until(lambda session: session.kinds()[-1:] == ["wait"])


async def test_a_question_is_asked_then_the_run_waits_then_the_handler_goes_on_with_the_answer(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    async def handler(run: Run) -> AsyncIterator[str]:
        yield "Hello. "
        answer = await run.ask("Which size?")
        yield f"{answer.text}, {answer.value}, {answer.outcome}, {bool(answer)}, {answer.input_id}"

    session = await started(core, start_worker, handler)
    await waits(session)
    await session.answer("ask#1", '{"answer":"large"}')
    await session.end()

    assert lines(session) == [
        "text 'Hello. '",
        "ask ask#1",
        "wait",
        "text \"large, {'answer': 'large'}, answered, True, inp_ask#1\"",
        "end",
    ]


async def test_a_question_says_all_that_is_known_of_it(core: ScriptedCore, start_worker: StartWorker) -> None:
    async def handler(run: Run) -> None:
        await asyncio.gather(
            run.ask(
                "Sign in\ud800",
                schema={"type": "object"},
                kind="auth",
                call_id="call_1",
                expires_in=timedelta(minutes=2),
                on_expiry="continue",
                metadata={"url": "https://example.org"},
                key="sign-in",
            ),
            run.ask("Which size?", expires_in=1.5),
        )

    session = await started(core, start_worker, handler)
    await waits(session)

    assert [output.ask for _, output in session.outputs["run_1"][:2]] == [
        ParseDict(
            {
                "key": "sign-in",
                "kind": "INPUT_KIND_AUTH",
                "message": "Sign in\ufffd",
                "schema_json": '{"type":"object"}',
                "expire_in": "120s",
                "call_id": "call_1",
                "metadata_json": '{"url":"https://example.org"}',
                "on_expiry": "EXPIRY_ACTION_CONTINUE",
            },
            AskOutput(),
        ),
        ParseDict(
            {
                "key": "ask#1",
                "kind": "INPUT_KIND_QUESTION",
                "message": "Which size?",
                "expire_in": "1.5s",
                "on_expiry": "EXPIRY_ACTION_FAIL",
            },
            AskOutput(),
        ),
    ]


async def test_a_question_ends_what_is_open_in_other_lanes(core: ScriptedCore, start_worker: StartWorker) -> None:
    async def handler(run: Run) -> AsyncIterator[object]:
        yield penstock.Text("aside", lane="other")
        await run.ask("Which size?")

    session = await started(core, start_worker, handler)
    await waits(session)

    assert lines(session) == ["[other] text 'aside'", "[other] message", "ask ask#1", "wait"]


async def test_several_questions_are_open_at_once_and_answered_in_any_order(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    async def handler(run: Run) -> str:
        one, two = await asyncio.gather(run.ask("One?"), run.ask("Two?"))
        return f"{one.text} {two.text}"

    session = await started(core, start_worker, handler)
    await waits(session)
    await session.answer("ask#2", '{"answer":"b"}')
    await session.answer("ask#1", '{"answer":"a"}')
    await session.end()

    assert lines(session) == ["ask ask#1", "ask ask#2", "wait", "text 'a b'", "end"]


async def test_a_handler_that_does_something_beside_a_question_does_not_wait_before_it_is_done(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    go = asyncio.Event()

    async def work(step: Step) -> None:
        await go.wait()
        await step.say("done ")

    async def handler(run: Run) -> None:
        await asyncio.gather(run.ask("Go on?"), run.step("work", work))

    session = await started(core, start_worker, handler)
    await session.until(lambda session: "step_started" in session.kinds())
    go.set()
    await waits(session)

    assert lines(session) == [
        "ask ask#1",
        "message",
        "[work#1] step+ work#1",
        "[work#1] text 'done '",
        "[work#1] step- work#1 null",
        "wait",
    ]


async def test_a_handler_that_speaks_while_a_question_is_open_waits_again(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    go = asyncio.Event()

    async def handler(run: Run) -> AsyncIterator[str]:
        question = asyncio.create_task(run.ask("Which size?"))
        await go.wait()
        yield "Take your time. "
        yield f"{(await question).text}."

    session = await started(core, start_worker, handler)
    await waits(session)
    go.set()
    await session.until(lambda session: session.kinds().count("wait") == 2)
    await session.answer("ask#1", '{"answer":"large"}')
    await session.end()

    assert lines(session) == ["ask ask#1", "wait", "text 'Take your time. '", "wait", "text 'large.'", "end"]


async def test_a_question_inside_a_step_has_the_key_and_the_lane_of_the_step(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    async def asks(step: Step) -> str:
        return (await step.ask("Which size?")).text

    async def handler(run: Run) -> None:
        await asyncio.gather(run.step("a", asks), run.step("b", asks))

    session = await started(core, start_worker, handler)
    await waits(session)
    await session.answer("a#1/ask#1", '{"answer":"1"}')
    await session.answer("b#1/ask#1", '{"answer":"2"}')
    await session.end()

    assert [line for line in lines(session) if "ask" in line] == ["[a#1] ask a#1/ask#1", "[b#1] ask b#1/ask#1"]
    assert session.kinds().count("wait") == 1


async def test_an_answer_of_an_earlier_attempt_is_returned_at_once(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    async def handler(run: Run) -> AsyncIterator[str]:
        yield "said before "
        yield (await run.ask("Which size?")).text

    session, _ = await outcome(core, start_worker, handler, answered("ask#1", '{"answer":"large"}'))

    assert lines(session) == ["text 'large'", "end"]


async def test_a_question_that_is_open_since_an_earlier_attempt_is_attached_to(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    async def handler(run: Run) -> AsyncIterator[str]:
        yield "said before "
        yield (await run.ask("Which size?")).text

    session = await started(core, start_worker, handler, asked("ask#1"))
    await waits(session)
    await session.answer("ask#1", '{"answer":"large"}')
    await session.end()

    assert lines(session) == ["ask ask#1", "wait", "text 'large'", "end"]


async def test_an_answer_that_comes_before_its_question_is_asked_again_is_kept(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    go = asyncio.Event()

    async def handler(run: Run) -> str:
        await go.wait()
        return (await run.ask("Which size?")).text

    session = await started(core, start_worker, handler, asked("ask#1"))
    await session.answer("ask#1", '{"answer":"large"}')
    await session.assign("agent")
    await session.until(lambda session: len(session.accepted) == 2)  # so the answer has arrived
    go.set()
    await session.end()

    assert lines(session) == ["text 'large'", "end"]


async def test_a_question_that_is_not_asked_again_ends_the_run(core: ScriptedCore, start_worker: StartWorker) -> None:
    async def handler(run: Run) -> AsyncIterator[str]:
        yield "said again"

    session, end = await outcome(core, start_worker, handler, asked("ask#1"))

    assert lines(session) == ["end NON_DETERMINISTIC"]
    assert "'ask#1'" in end.error.message


async def test_a_question_of_the_same_key_has_the_same_answer(core: ScriptedCore, start_worker: StartWorker) -> None:
    async def handler(run: Run) -> str:
        one, two = await asyncio.gather(run.ask("One?", key="k"), run.ask("Two?", key="k"))
        three = await run.ask("Three?", key="k")
        return f"{one.text}{two.text}{three.text}"

    session = await started(core, start_worker, handler)
    await waits(session)
    await session.answer("k", '{"answer":"a"}')
    await session.end()

    assert session.text() == "aaa"


async def test_approve_asks_about_a_call(core: ScriptedCore, start_worker: StartWorker) -> None:
    call = penstock.ToolCall("call_1", "book", {"people": 2})

    async def handler(run: Run) -> AsyncIterator[object]:
        yield call
        yield "booked" if await run.approve(call) else "not booked"

    session = await started(core, start_worker, handler)
    await waits(session)
    asked = session.outputs["run_1"][1][1].ask
    await session.answer("ask#1", APPROVED)
    await session.end()

    assert (asked.call_id, asked.message, asked.schema_json) == ("call_1", "May book be called?", "")
    assert session.text() == "booked"


@pytest.mark.parametrize(
    ("kind", "outcome", "answer_json", "expected"),
    [
        ("approval", "ANSWERED", APPROVED, (True, True, False, False)),
        ("approval", "ANSWERED", '{"approved":false}', (False, False, False, False)),
        ("approval", "DECLINED", "", (False, False, True, False)),
        ("question", "ANSWERED", '{"answer":"x"}', (True, False, False, False)),
        ("question", "DECLINED", "", (False, False, True, False)),
        ("question", "EXPIRED", "", (False, False, False, True)),
        ("question", "WITHDRAWN", "", (False, False, False, False)),
    ],
)
async def test_an_answer_says_how_the_question_was_settled(
    core: ScriptedCore,
    start_worker: StartWorker,
    kind: Kind,
    outcome: str,
    answer_json: str,
    expected: tuple[bool, bool, bool, bool],
) -> None:
    answers: list[Answer] = []

    async def handler(run: Run) -> None:
        answers.append(await run.ask("?", kind=kind))

    record = answered("ask#1", answer_json, outcome=InputOutcome.Value(f"INPUT_OUTCOME_{outcome}"))
    session = await started(core, start_worker, handler, record)
    await session.end()

    [answer] = answers
    assert (bool(answer), answer.approved, answer.declined, answer.expired) == expected
    assert answer.outcome == outcome.lower()


async def test_a_question_that_cannot_be_asked_is_refused(core: ScriptedCore, start_worker: StartWorker) -> None:
    async def handler(run: Run) -> str:
        with pytest.raises(penstock.InvalidOutput, match="schema"):
            _ = run.ask("?", schema={"x": object()})
        with pytest.raises(penstock.InvalidOutput, match="the output ask has"):
            _ = run.ask("x" * 300_000)
        with pytest.raises(ValueError, match="has a `/`"):
            _ = run.ask("?", key="a/b")
        return "refused"

    session, _ = await outcome(core, start_worker, handler)

    assert lines(session) == ["text 'refused'", "end"]


async def test_sync_code_asks_by_blocking(core: ScriptedCore, start_worker: StartWorker) -> None:
    def handler(run: Run) -> str:
        return run.blocking.ask("Which size?").text + " " + str(run.blocking.approve(penstock.ToolCall("c", "t", {})))

    session = await started(core, start_worker, handler)
    await waits(session)
    await session.answer("ask#1", '{"answer":"large"}')
    await session.until(lambda session: session.kinds().count("wait") == 2)
    await session.answer("ask#2", APPROVED)
    await session.end()

    assert lines(session)[:4] == ["ask ask#1", "wait", "ask ask#2", "wait"]
    assert session.text().startswith("large Answer(kind='approval', outcome='answered', value={'approved': True}")


async def test_a_step_behind_an_answer_is_recorded_as_any_other(core: ScriptedCore, start_worker: StartWorker) -> None:
    asked = asyncio.Event()

    async def handler(run: Run) -> AsyncIterator[str]:
        await run.step("a", asked.set)
        if await run.ask("Go on?"):
            await run.step("b", asked.is_set)
        yield "done"

    session = await started(core, start_worker, handler, finished("a#1"))
    await waits(session)
    await session.answer("ask#1")
    await session.end()

    assert lines(session) == ["ask ask#1", "wait", "step+ b#1", "step- b#1 false", "text 'done'", "end"]


async def asks(run: Run) -> AsyncIterator[str]:
    try:
        await run.ask("Which size?")
    except asyncio.CancelledError:
        yield f"stopped by {run.cancelled.reason}"
        raise


def asks_in_a_thread(run: Run) -> Iterator[str]:
    try:
        run.blocking.ask("Which size?")
    except asyncio.CancelledError:
        yield f"stopped by {run.cancelled.reason}"
        raise


async def asks_in_a_step_in_a_thread(run: Run) -> AsyncIterator[str]:
    over = asyncio.Event()
    loop = asyncio.get_running_loop()

    def in_thread(step: Step) -> None:
        try:
            step.blocking.ask("Which size?")
        finally:
            loop.call_soon_threadsafe(over.set)

    try:
        await run.step("asks", in_thread)
    except asyncio.CancelledError:
        await over.wait()
        yield f"stopped by {run.cancelled.reason}"
        raise


@pytest.mark.parametrize("handler", [asks, asks_in_a_thread, asks_in_a_step_in_a_thread])
async def test_a_cancel_reaches_a_handler_that_waits(
    core: ScriptedCore, start_worker: StartWorker, handler: Callable[[Run], object]
) -> None:
    session = await started(core, start_worker, handler)
    await waits(session)
    cancel = CancelRequested(run_id="run_1", reason=EndReason.END_REASON_USER)
    await session.say(CoreMessage(cancel_requested=cancel))

    assert not (await session.end()).HasField("error")
    assert session.text() == "stopped by USER"
