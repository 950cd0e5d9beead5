"""The demo agents: what each says."""

import time

import pytest

from penstock.demo import SLOW_PIECES, app
from penstock.v1.message_pb2 import Message, Part, Role, ToolOutcome, ToolResultPart
from penstock.v1.run_pb2 import ClientTool, EndReason, InputKind
from penstock.v1.worker_service_pb2 import CoreMessage
from tests.sdk.conftest import StartWorker
from tests.sdk.scripted_core import ScriptedCore, Session, assignment

APPROVAL = InputKind.INPUT_KIND_APPROVAL


@pytest.fixture
async def demo(core: ScriptedCore, start_worker: StartWorker) -> Session:
    start_worker(app)
    return await core.welcomed()


def test_the_demo_agents_are_those_of_the_design() -> None:
    assert sorted(app.agents) == [
        *("approve", "count", "ctool", "echo", "error", "slow", "steps", "think", "tool"),
    ]


async def test_echo_repeats_a_word_per_delta(demo: Session) -> None:
    await demo.assign("echo", "to be or\nnot")
    await demo.end()

    assert [output.text for _, output in demo.outputs["run_1"]] == ["to ", "be ", "or ", "not ", ""]


async def test_think_reasons_then_answers(demo: Session) -> None:
    await demo.assign("think", "to be")
    await demo.end()

    kinds = demo.kinds()
    assert kinds == sorted(kinds, key=["reasoning", "text", "end"].index)
    assert "".join(output.reasoning for _, output in demo.outputs["run_1"]) == (
        "Somebody said 2 words. I should say so."
    )
    assert demo.text() == "You said 2 words."


async def test_tool_calls_its_own_tool_between_texts(demo: Session) -> None:
    await demo.assign("tool", "Bern")
    await demo.end()

    assert [kind for kind in demo.kinds() if kind != "text"] == ["tool_call", "tool_result", "end"]
    call = next(output.tool_call for _, output in demo.outputs["run_1"] if output.HasField("tool_call"))
    result = next(output.tool_result for _, output in demo.outputs["run_1"] if output.HasField("tool_result"))
    assert (call.tool_name, call.arguments_delta, call.done) == (
        "get_weather",
        '{"place":"Bern","unit":"celsius"}',
        True,
    )
    assert (result.call_id, result.output_json) == (call.call_id, '{"place":"Bern","temperature":17,"sky":"clear"}')
    assert demo.text() == "Let me look. It is 17 degrees in Bern, and clear."


async def test_slow_says_the_same_twenty_pieces_in_about_three_and_a_half_seconds(demo: Session) -> None:
    start = time.monotonic()
    await demo.assign("slow")
    await demo.end()

    assert [output.text for _, output in demo.outputs["run_1"]][:-1] == list(SLOW_PIECES)
    assert len(SLOW_PIECES) == 20
    assert 3.0 < time.monotonic() - start < 6.0


async def test_error_says_something_then_fails(demo: Session) -> None:
    await demo.assign("error")
    end = await demo.end()

    assert demo.text() == "This will not end well. "
    assert end.reason == EndReason.END_REASON_AGENT_ERROR
    assert end.error.message == "The agent raised an error: RuntimeError."


async def test_ctool_calls_the_first_tool_of_the_client_then_uses_its_result(demo: Session) -> None:
    first = assignment("ctool", "red", run_id="run_1")
    first.run.options.tools.extend([ClientTool(name="paint"), ClientTool(name="look")])
    await demo.say(CoreMessage(assignment=first))
    await demo.end("run_1")
    call = next(output.tool_call for _, output in demo.outputs["run_1"] if output.HasField("tool_call"))
    assert (call.tool_name, call.arguments_delta) == ("paint", '{"text":"red"}')

    second = assignment("ctool", run_id="run_2")
    result = ToolResultPart(call_id=call.call_id, tool_name="paint", output_json='"done"')
    second.messages.append(Message(role=Role.ROLE_TOOL, parts=[Part(tool_result=result)]))
    second.new_messages = 1
    await demo.say(CoreMessage(assignment=second))
    await demo.end("run_2")
    assert demo.text("run_2") == 'Your tool paint said: "done"'


async def test_ctool_declines_when_no_tool_is_offered(demo: Session) -> None:
    await demo.assign("ctool", "red")

    assert (await demo.end()).reason == EndReason.END_REASON_REJECTED


@pytest.mark.parametrize("form", ["data", "text"])
async def test_count_counts_at_full_speed(demo: Session, form: str) -> None:
    order = '{"deltas":100000}'
    counted = assignment("count", data=order) if form == "data" else assignment("count", order)
    await demo.say(CoreMessage(assignment=counted))
    await demo.end()

    assert demo.text() == "".join(f"{number} " for number in range(1, 100_001))
    assert demo.numbers() == list(range(1, 100_002))


async def test_count_keeps_its_rate_and_tells_the_time(demo: Session) -> None:
    asked = time.time_ns()
    await demo.say(CoreMessage(assignment=assignment("count", data='{"deltas":20,"rate":100,"stamp":true}')))
    await demo.end()

    stamps = [int(stamp) for stamp in demo.text().split()]
    assert len(stamps) == 20
    assert stamps == sorted(stamps)
    assert asked < stamps[0]
    assert stamps[-1] - stamps[0] > 0.18e9


@pytest.mark.parametrize("order", ["", "ten", '{"deltas":"ten"}', '{"deltas":1,"colour":"red"}'])
async def test_count_declines_what_it_does_not_understand(demo: Session, order: str) -> None:
    await demo.assign("count", order)
    end = await demo.end()

    assert end.reason == EndReason.END_REASON_REJECTED
    assert end.error.message.startswith('Ask with {"deltas": 100, "rate": 0}')


async def test_runs_of_many_agents_share_one_worker(demo: Session) -> None:
    for number in range(50):
        await demo.assign("echo", f"run {number}", run_id=f"run_{number}")
    for number in range(50):
        await demo.end(f"run_{number}")
        assert demo.text(f"run_{number}") == f"run {number} "


async def test_approve_books_once_somebody_approves(demo: Session) -> None:
    await demo.assign("approve", "Bern")
    await demo.until(lambda session: session.kinds()[-1:] == ["wait"])
    asked = next(output.ask for _, output in demo.outputs["run_1"] if output.HasField("ask"))
    call = next(output.tool_call for _, output in demo.outputs["run_1"] if output.HasField("tool_call"))
    assert (asked.kind, asked.call_id, asked.message) == (APPROVAL, call.call_id, "Book a table in Bern")
    assert demo.text() == "I found a table. "

    await demo.answer("ask#1", '{"approved":true}')
    await demo.end()

    result = next(output.tool_result for _, output in demo.outputs["run_1"] if output.HasField("tool_result"))
    assert (result.call_id, result.output_json[:14]) == (call.call_id, '{"booked":true')
    assert demo.text() == "I found a table. It is approved and booked."


async def test_approve_books_nothing_unless_it_is_approved(demo: Session) -> None:
    await demo.assign("approve", "Bern")
    await demo.until(lambda session: session.kinds()[-1:] == ["wait"])
    await demo.answer("ask#1", '{"approved":false}')
    await demo.end()

    result = next(output.tool_result for _, output in demo.outputs["run_1"] if output.HasField("tool_result"))
    assert result.outcome == ToolOutcome.TOOL_OUTCOME_DENIED
    assert demo.text() == "I found a table. It was not approved: nothing is booked."


async def test_steps_adds_three_numbers_up_in_three_steps(demo: Session) -> None:
    await demo.assign("steps")
    await demo.end()

    assert demo.kinds() == ["step_started", "text", "step_ended"] * 3 + ["text", "end"]
    assert demo.text() == "one two three makes 6."
