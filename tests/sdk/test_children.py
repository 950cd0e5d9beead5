"""Runs that call other agents: started once, watched whatever breaks, told of in a lane of their own."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import grpc
import pytest
from google.protobuf.json_format import ParseDict

import penstock
from core_service.domain import segments
from penstock import ChildRun, Run, Step
from penstock.v1.event_pb2 import Event
from penstock.v1.message_pb2 import FilePart, Part, SourcePart, ToolOutcome
from penstock.v1.run_pb2 import EndReason, RunOptions
from penstock.v1.run_service_pb2 import CreateRunRequest, WatchRunRequest
from penstock.v1.worker_service_pb2 import Output, ToolCallOutput, ToolResultOutput
from tests.grammar import outputs
from tests.grammar.script import Script
from tests.sdk.agents import outcome, soon, started
from tests.sdk.conftest import StartWorker
from tests.sdk.lines import lines
from tests.sdk.scripted_core import ScriptedCore, finished, held, scripted_core
from tests.sdk.scripted_runs import Refusal, ScriptedRuns


@pytest.fixture
def runs() -> ScriptedRuns:
    runs = ScriptedRuns()
    runs.ids = ["run_child"]
    return runs


@pytest.fixture
async def core(runs: ScriptedRuns) -> AsyncIterator[ScriptedCore]:
    async with scripted_core(runs=runs) as core:
        yield core


def log(*said: Output) -> list[Event]:
    """The log of a run that said this."""
    return segments.events(Script().begin().say(*said).log)


ANSWERED = log(outputs.text("forty"), outputs.text("-two"), outputs.end())
FAILED = log(
    outputs.text("I "),
    ParseDict(
        {"end": {"reason": "END_REASON_AGENT_ERROR", "error": {"code": "NO_IDEA", "message": "I do not know."}}},
        Output(),
    ),
)


async def test_a_call_starts_a_run_waits_for_its_end_and_records_it(
    core: ScriptedCore, start_worker: StartWorker, runs: ScriptedRuns
) -> None:
    runs.plays = [ANSWERED]
    children: list[ChildRun] = []

    async def handler(run: Run) -> AsyncIterator[str]:
        yield "asking "
        children.append(
            await run.call(
                "oracle",
                {"question": 1},
                thread_id="thr_2",
                call_id="call_1",
                options=RunOptions(priority=3),
                metadata={"a": "b"},
            )
        )
        yield children[0].text

    session, _ = await outcome(core, start_worker, handler)

    create, watch = runs.requests
    assert create == ParseDict(
        {
            "request_id": "run_1/oracle#1",
            "agent_id": "oracle",
            "thread_id": "thr_2",
            "input": [{"role": "ROLE_USER", "parts": [{"data": {"value_json": '{"question":1}'}}]}],
            "options": {"priority": 3},
            "metadata": {"a": "b"},
            "parent_run_id": "run_1",
            "parent_call_id": "call_1",
        },
        CreateRunRequest(),
    )
    assert watch == WatchRunRequest(run_id="run_child")
    assert children == [ChildRun("run_child", "oracle", "succeeded", "COMPLETED", "forty-two")]
    recorded = next(output.step_ended for _, output in session.outputs["run_1"] if output.HasField("step_ended"))
    assert lines(session) == [
        "text 'asking '",
        "message",
        "[run_child] step+ oracle#1",
        "[run_child] child+ run_child",
        "[run_child] child- run_child",
        f"[run_child] step- oracle#1 {recorded.result_json}",
        "text 'forty-two'",
        "end",
    ]
    assert recorded.durable


async def test_a_recorded_call_starts_nothing(
    core: ScriptedCore, start_worker: StartWorker, runs: ScriptedRuns
) -> None:
    record = (
        '{"run_id":"run_child","agent_id":"oracle","state":"succeeded","reason":"COMPLETED","text":"42",'
        '"result_json":"[1]","error_code":"","error_message":""}'
    )

    async def handler(run: Run) -> str:
        child = await run.call("oracle", "?")
        return f"{child.text} {child.result}"

    session, _ = await outcome(core, start_worker, handler, finished("oracle#1", record))

    assert lines(session) == ["text '42 [1]'", "end"]
    assert runs.requests == []


async def test_calls_and_steps_of_one_name_have_different_keys(
    core: ScriptedCore, start_worker: StartWorker, runs: ScriptedRuns
) -> None:
    runs.plays = [ANSWERED]

    async def handler(run: Run) -> None:
        await run.step("oracle", lambda: None)
        await run.call("oracle", "?")

    await outcome(core, start_worker, handler)

    assert isinstance(runs.requests[0], CreateRunRequest)
    assert runs.requests[0].request_id == "run_1/oracle#2"


async def test_a_long_key_makes_a_short_request_id_that_is_always_the_same(
    core: ScriptedCore, start_worker: StartWorker, runs: ScriptedRuns
) -> None:
    runs.plays = [ANSWERED, ANSWERED]

    async def handler(run: Run) -> None:
        async def inner() -> None:
            await run.call("oracle", "?")

        await run.step("n" * 200, inner)
        raise penstock.Fatal("again")

    session = await started(core, start_worker, handler)
    await session.end()
    await session.assign("agent", "", attempt=2)
    await session.until(lambda session: session.kinds().count("end") == 2)

    ids = [request.request_id for request in runs.requests if isinstance(request, CreateRunRequest)]
    assert ids[0] == ids[1]
    assert len(ids[0]) <= 128


async def catches(run: Run) -> AsyncIterator[str]:
    try:
        await run.call("oracle", "?")
    except penstock.RunFailed as failed:
        yield f"{failed.run_id} {failed.reason} {failed} {EndReason.Name(failed.end.reason)}"


async def does_not_check(run: Run) -> AsyncIterator[str]:
    child = await run.call("oracle", "?", check=False)
    yield f"{child.run_id} {child.error_code} {child.error_message} END_REASON_{child.reason}"


def in_a_thread(run: Run) -> Iterator[str]:
    child = run.blocking.call("oracle", "?", check=False)
    yield f"{child.run_id} {child.error_code} {child.error_message} END_REASON_{child.reason}"


@pytest.mark.parametrize("handler", [catches, does_not_check, in_a_thread])
async def test_a_run_that_failed_raises_unless_told_otherwise(
    core: ScriptedCore, start_worker: StartWorker, runs: ScriptedRuns, handler: Callable[[Run], object]
) -> None:
    runs.plays = [FAILED]

    session, _ = await outcome(core, start_worker, handler)

    assert session.text() == "run_child NO_IDEA I do not know. END_REASON_AGENT_ERROR"
    assert session.kinds().count("step_ended") == 1


async def test_a_refused_call_raises_and_is_no_step(
    core: ScriptedCore, start_worker: StartWorker, runs: ScriptedRuns
) -> None:
    runs.refusals = [Refusal(grpc.StatusCode.FAILED_PRECONDITION, "DEPTH_EXCEEDED")]

    async def handler(run: Run) -> AsyncIterator[str]:
        try:
            await run.call("oracle", "?")
        except penstock.errors.NotPossible as refused:
            yield refused.reason

    session, _ = await outcome(core, start_worker, handler)

    assert lines(session) == ["text 'DEPTH_EXCEEDED'", "end"]


async def test_create_and_watch_are_repeated_while_the_core_is_away(
    core: ScriptedCore, start_worker: StartWorker, runs: ScriptedRuns
) -> None:
    runs.refusals = [Refusal(), Refusal(grpc.StatusCode.CANCELLED, "")]
    runs.plays = [[*ANSWERED[:4], Refusal()], ANSWERED]

    async def handler(run: Run) -> str:
        return (await run.call("oracle", "?")).text

    session, _ = await outcome(core, start_worker, handler)

    creates = [request for request in runs.requests if isinstance(request, CreateRunRequest)]
    cursors = [request.after_seq for request in runs.requests if isinstance(request, WatchRunRequest)]
    assert creates == creates[:1] * 3
    assert cursors == [0, 4]
    assert session.text() == "forty-two"


async def test_a_watch_goes_on_when_the_stream_of_the_worker_breaks(
    core: ScriptedCore, start_worker: StartWorker, runs: ScriptedRuns
) -> None:
    runs.plays = [[*ANSWERED[:5], asyncio.Event()], ANSWERED]
    told = asyncio.Event()

    async def handler(run: Run) -> str:
        child = await run.call("oracle", "?", stream=True)
        told.set()
        return child.text

    first = await started(core, start_worker, handler)
    await first.until(lambda session: "text" in session.kinds())
    stored = first.numbers()[-1]
    first.cut()
    second = await core.session()
    await second.welcome(held(accepted=stored))
    await second.end()

    await soon(told)
    assert first.text() + second.text() == "forty-twoforty-two"
    cursors = [request.after_seq for request in runs.requests if isinstance(request, WatchRunRequest)]
    assert cursors == [0, 5]


async def test_a_run_that_waits_for_another_gives_its_credit_back_and_is_not_waiting(
    core: ScriptedCore, start_worker: StartWorker, runs: ScriptedRuns
) -> None:
    end = asyncio.Event()
    runs.plays = [[*ANSWERED[:-1], end, ANSWERED[-1]]]

    async def handler(run: Run) -> None:
        await asyncio.gather(run.call("oracle", "?"), run.ask("Go on?"))

    session = await started(core, start_worker, handler, concurrency=1, max_parked=0)
    await session.until(lambda session: session.credit == 2)
    assert session.kinds()[-1] == "child_started"
    end.set()

    await session.until(lambda session: session.kinds()[-1:] == ["wait"])
    await session.until(lambda session: bool(session.released))


async def test_calls_side_by_side_are_told_of_in_the_lanes_of_their_runs(
    core: ScriptedCore, start_worker: StartWorker, runs: ScriptedRuns
) -> None:
    runs.ids = ["run_a", "run_b"]
    runs.plays = [ANSWERED, ANSWERED]

    async def handler(run: Run) -> str:
        a, b = await asyncio.gather(
            run.call("oracle", "a", stream=True, name="A"), run.call("oracle", "b", stream=True, name="B")
        )
        return a.text + b.text

    session, _ = await outcome(core, start_worker, handler)

    said = [line for line in lines(session) if line.startswith("[run_a]")]
    assert said[:-1] == [
        "[run_a] step+ oracle#1",
        "[run_a] child+ run_a",
        "[run_a] message",
        "[run_a] text 'forty'",
        "[run_a] text '-two'",
        "[run_a] child- run_a",
    ]
    names = [output.child_started.name for _, output in session.outputs["run_1"] if output.HasField("child_started")]
    assert sorted(names) == ["A", "B"]


async def test_a_retry_keeps_what_children_said_in_calls_that_are_recorded(
    core: ScriptedCore, start_worker: StartWorker, runs: ScriptedRuns
) -> None:
    runs.ids = ["run_a", "run_b"]
    runs.plays = [ANSWERED, ANSWERED]

    async def handler(run: Run) -> AsyncIterator[str]:
        yield "asking "
        await asyncio.gather(run.call("oracle", "a", stream=True), run.call("oracle", "b", stream=True))
        yield "taken back "

    session, _ = await outcome(core, start_worker, handler)

    sent = [output for _, output in session.outputs["run_1"] if not output.HasField("end")]
    parent = Script().begin().say(*sent).retry()
    kept = [part.text.text for message in parent.grammar.history() for part in message.parts]
    assert sorted(kept) == ["asking ", "forty-two", "forty-two"]


def call(**fields: object) -> Output:
    return Output(tool_call=ParseDict(fields, ToolCallOutput()))


def result(**fields: object) -> Output:
    return Output(tool_result=ParseDict(fields, ToolResultOutput()))


async def test_what_a_child_says_is_said_again_in_its_lane(
    core: ScriptedCore, start_worker: StartWorker, runs: ScriptedRuns
) -> None:
    """Held against the grammar: the same parts. A result that the child's client owes comes from nobody here."""
    file = Part(file=FilePart(name="a.txt", media_type="text/plain", url="https://example.org/a.txt"))
    source = Part(source=SourcePart(source_id="s", url="https://example.org"))
    child = (
        Script(client_tools=["paint"])
        .begin()
        .say(
            outputs.text("Let me see. "),
            Output(reasoning="hm"),
            call(call_id="c1", tool_name="look", arguments_delta='{"at":', title="Look"),
            call(call_id="c1", arguments_delta='"it"}', done=True),
            result(call_id="c1", delta='{"n":'),
            result(call_id="c1", delta="1}", done=True),
            call(call_id="c2", tool_name="look", arguments_delta="{}", done=True),
            result(call_id="c2", done=True, error_text="no", duration_ms=5),
            call(call_id="c3", tool_name="look", arguments_delta="{}", done=True),
            result(call_id="c3", done=True, output_json="[2]"),
            Output(lane="aside", text="not told"),
            outputs.text("Cited"),
            Output(part=source),
            Output(part=file),
            call(call_id="c4", tool_name="paint", arguments_delta="{}", done=True),
            outputs.end(),
        )
    )
    runs.plays = [child.events()]

    async def handler(run: Run) -> AsyncIterator[object]:
        yield penstock.ToolCall("c1", "ask", {})  # whose id the child uses too
        await run.call("oracle", "?", stream=True)
        yield penstock.ToolResult("c1", True)

    session, _ = await outcome(core, start_worker, handler)

    sent = [output for _, output in session.outputs["run_1"]]
    parent = Script().begin().say(*sent)
    *parts, abandoned = told(parent, "run_child")
    assert parts == told(child, "")
    assert abandoned.tool_result.outcome == ToolOutcome.TOOL_OUTCOME_ABANDONED
    results = [output.tool_result.output_json for output in sent if output.tool_result.done]
    assert results == ["", "", "[2]", "true"], "what was streamed is not sent twice"


def told(script: Script, lane: str) -> list[Part]:
    """The parts of a lane, without what differs: ordinals, call ids, and who runs a call of the client."""
    lanes = {
        event.message_started.message.id: event.message_started.lane
        for event in script.events()
        if event.HasField("message_started")
    }
    parts = []
    for event in script.events():
        if event.HasField("part_ended") and lanes[event.part_ended.message_id] == lane:
            part = event.part_ended.part
            part.ordinal = 0
            match part.WhichOneof("content"):
                case "tool_call":
                    part.tool_call.ClearField("call_id")
                    part.tool_call.ClearField("runner")
                case "tool_result":
                    part.tool_result.ClearField("call_id")
                case "source":
                    part.source.ClearField("cited_ordinal")
            parts.append(part)
    return parts


async def test_a_step_can_call(core: ScriptedCore, start_worker: StartWorker, runs: ScriptedRuns) -> None:
    runs.plays = [ANSWERED]

    async def asks(step: Step) -> str:
        return (await step.call("oracle", "?")).text

    async def handler(run: Run) -> str:
        return await run.step("asks", asks)

    session, _ = await outcome(core, start_worker, handler)

    assert [line for line in lines(session) if "step+" in line] == [
        "step+ asks#1",
        "[run_child] step+ asks#1/oracle#1",
    ]
    assert session.text() == "forty-two"


async def test_a_call_with_another_input_than_before_ends_the_run(
    core: ScriptedCore, start_worker: StartWorker, runs: ScriptedRuns
) -> None:
    runs.plays = [ANSWERED, ANSWERED]

    async def asks_one(run: Run) -> None:
        await run.call("oracle", "one" if run.attempt == 1 else "two")
        raise RuntimeError

    session = await started(core, start_worker, asks_one)
    await session.end()
    recorded = next(output.step_ended for _, output in session.outputs["run_1"] if output.HasField("step_ended"))
    begun = next(output.step_started for _, output in session.outputs["run_1"] if output.HasField("step_started"))
    await session.assign("agent", "", finished("oracle#1", recorded.result_json, args_hash=begun.args_hash), attempt=2)
    await session.until(lambda session: session.kinds().count("end") == 2)

    assert lines(session)[-1] == "end NON_DETERMINISTIC"
