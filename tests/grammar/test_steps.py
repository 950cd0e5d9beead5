"""Steps, what a retry keeps of them, and the other reports (rules 9, 14, 17 and 18)."""

from __future__ import annotations

import pytest

from core_service.domain.errors import InvalidOutput
from penstock.v1.message_pb2 import Completion
from penstock.v1.run_pb2 import Usage
from penstock.v1.worker_service_pb2 import Output, StateOutput, StepEndedOutput
from tests.grammar.outputs import (
    ask,
    child,
    custom,
    end,
    patch,
    snapshot,
    step,
    step_done,
    step_failed,
    text,
    turn,
    turn_done,
    usage,
    wait,
)
from tests.grammar.script import Script


def retracted(*outputs: Output) -> list[int]:
    script = Script().begin().say(*outputs)
    assert script.twin().grammar.retracts() == script.grammar.retracts()
    return script.grammar.retracts()


def test_a_step_ends_the_message_of_its_lane_at_both_borders() -> None:
    assert Script().begin().say(text("a"), step("s#1"), text("b"), step_done("s#1")).lines()[2:] == [
        "text 1 'a'",
        "part- 1 text 'a'",
        "message- msg_1",
        "step+ 1 s#1",
        "message+ msg_2 assistant",
        "part+ 2 text",
        "text 2 'b'",
        "part- 2 text 'b'",
        "message- msg_2",
        "step- 1 durable",
    ]


def test_the_end_of_a_loop_step_means_the_newest_of_its_lane() -> None:
    script = Script().begin().say(turn(1), turn(1, lane="side"), turn_done(), turn_done(), turn_done("side"))

    assert script.lines() == ["step+ 1", "step+ 2 lane=side", "step- 1", "step- 2"]
    assert script.grammar.dropped == 1


def test_steps_stay_open_over_a_pause_and_are_closed_at_the_end() -> None:
    script = Script().begin().say(step("s#1"), ask("s#1/q"), wait()).answer().say(end())

    assert script.lines() == [
        "step+ 1 s#1",
        "asked inp_1",
        "waiting inp_1",
        "settled inp_1 answered",
        "resumed 1",
        "step- 1",
        "ended completed",
    ]


def test_without_steps_a_retry_takes_everything_back() -> None:
    assert retracted(text("a"), text("b", "side")) == [1, 2]


def test_what_lies_before_and_inside_a_completed_step_is_kept() -> None:
    outputs = [text("a"), step("s#1"), text("b"), step_done("s#1"), text("c")]

    assert retracted(*outputs) == [3]


def test_what_lies_inside_an_unfinished_step_is_taken_back() -> None:
    assert retracted(text("a"), step("s#1"), text("b")) == [1, 2]
    assert retracted(text("a"), step("s#1"), text("b"), step_failed("s#1"), text("c")) == [1, 2, 3]


def test_a_completed_step_anchors_those_around_it() -> None:
    outputs = [
        text("handler"),
        step("s#1"),
        text("in s"),
        step("s#1/t#1", parent="s#1"),
        text("in t"),
        step_done("s#1/t#1"),
        text("in s again"),
    ]

    assert retracted(*outputs) == [4]


def test_a_question_keeps_what_was_said_before_it_in_its_step() -> None:
    assert retracted(text("a"), step("s#1"), text("b"), ask("s#1/q"), text("c")) == [3]
    assert retracted(text("a"), step("s#1"), text("b"), ask("q"), text("c")) == [2, 3]


def test_a_step_that_spoke_in_its_own_lane_keeps_what_it_said() -> None:
    outputs = [
        step("s#1", lane="one"),
        step("s#2", lane="two"),
        text("in 1", "one"),
        text("in 2", "two"),
        step_done("s#1", lane="one"),
    ]

    assert retracted(*outputs) == [2]


def test_a_child_run_speaks_in_the_scope_of_its_caller() -> None:
    assert retracted(step("s#1"), child("run_c"), text("a", "run_c")) == [1]
    assert retracted(step("s#1"), child("run_c"), text("a", "run_c"), step_done("s#1")) == []


def test_an_anchored_step_stays_open_over_a_retry_and_is_attached_to_again() -> None:
    script = Script().begin().say(turn(1), step("s#1"), step("s#1/t#1", parent="s#1"), step_done("s#1/t#1"))
    script = script.retry().start().twin().say(step("s#1"), text("b"), step_done("s#1"))

    assert script.lines()[4:] == [
        "step- 1 (cut off)",
        "retrying 1 without []",
        "started 2",
        "message+ msg_1 assistant",
        "part+ 1 text",
        "text 1 'b'",
        "part- 1 text 'b'",
        "message- msg_1",
        "step- 2 durable",
    ]


def test_a_step_that_is_not_anchored_is_closed_at_a_retry_and_starts_again() -> None:
    script = Script().begin().say(step("s#1"), text("a")).retry().start().say(step("s#1"), text("b"), step_done("s#1"))

    assert [line for line in script.lines() if line.startswith(("step", "retrying"))] == [
        "step+ 1 s#1",
        "step- 1 (cut off)",
        "retrying 1 without [1]",
        "step+ 2 s#1",
        "step- 2 durable",
    ]
    assert script.grammar.retracts() == []


def test_the_engine_can_read_what_it_has_to_store_of_a_step() -> None:
    script = Script().begin().say(step("s#1"), step("s#1/t#1", parent="s#1"), step_done("s#1/t#1"))

    inner, outer = script.grammar.step("s#1/t#1"), script.grammar.step("s#1")
    assert inner is not None
    assert outer is not None
    assert (inner.parent_key, inner.started_seq, inner.ended_seq, inner.is_completed) == ("s#1", 4, 5, True)
    assert (outer.started_seq, outer.ended_seq) == (3, 0)
    assert {seq: key.key for seq, key in script.grammar.step_keys.items()} == {3: "s#1", 4: "s#1/t#1"}


def test_what_a_completed_step_did_to_the_state_is_kept() -> None:
    add = '[{"op":"add","path":"/n","value":1}]'
    script = Script().begin().say(step("s#1"), patch(add), step_done("s#1"), snapshot("[]")).retry()

    assert script.lines()[-2:] == ["retrying 1 without []", 'state 3 {"n":1}']
    assert script.twin().grammar.state_json == script.grammar.state_json == '{"n":1}'


def test_a_state_that_did_not_change_since_is_not_restored() -> None:
    script = Script().begin().say(step("s#1"), snapshot("[]"), step_done("s#1")).retry()

    assert script.lines()[-1] == "retrying 1 without []"


REFUSED = {
    "end of an unknown step": step_done("unknown"),
    "end of an ended step": step_done("done"),
    "start of a completed step": step("done"),
    "long key": step("x" * 300),
    "bad result": step_done("open", "{"),
    "large result": step_done("open", '"' + "x" * 256 * 1024 + '"'),
    "patch that does not fit": patch('[{"op":"remove","path":"/unknown"}]'),
    "patch that is none": patch("{}"),
    "bad snapshot": snapshot("{"),
    "large snapshot": snapshot('"' + "x" * 600_000 + '"'),
    "less than nothing": usage(-1, 0),
    "no amount": usage(1, 1, cost_usd=float("nan")),
    "negative amount": usage(1, 1, cost_usd=-1.0),
    "custom without name": custom(""),
    "custom with bad JSON": custom("mood", "{"),
    "child without id": child(""),
    "child of a bad call id": child("run_c", call_id="not an id"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_log_cannot_hold_is_refused_and_changes_nothing(name: str) -> None:
    script = Script().begin().say(step("done"), step_done("done"), step("open"), text("a"))
    before = script.log

    with pytest.raises(InvalidOutput):
        script.say(REFUSED[name])

    assert script.keep().log == before
    assert script.say(text("b")).lines()[-1] == "text 1 'b'"


def test_usage_of_more_models_than_an_end_can_hold_is_refused() -> None:
    script = Script().begin().say(*(usage(1, 1, model=f"m{n}") for n in range(100)), usage(1, 1, model="m7"))

    with pytest.raises(InvalidOutput):
        script.say(usage(1, 1, model="one more"))


def test_sums_of_usage_stop_at_the_largest_number() -> None:
    script = Script().begin().say(usage(2**31 - 1, 1), usage(1, 1), end())

    assert script.grammar.usage == [Usage(provider="maker", model="model-1", input_tokens=2**31 - 1, output_tokens=2)]


def test_an_output_of_a_newer_worker_is_dropped_and_counted() -> None:
    script = Script().begin().say(Output(), Output(state=StateOutput()))

    assert script.lines() == []
    assert script.grammar.dropped == 2


def test_a_step_that_says_it_was_cut_off_is_not_recorded() -> None:
    cut_off = StepEndedOutput(key="s#1", durable=True, completion=Completion.COMPLETION_INCOMPLETE)
    script = Script().begin().say(step("s#1"), Output(step_ended=cut_off))

    assert script.lines()[-1] == "step- 1 (cut off)"
