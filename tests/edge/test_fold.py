"""The shared fold: what a log adds up to."""

from __future__ import annotations

from edge.fold import Fold
from penstock.v1.event_pb2 import Event
from penstock.v1.message_pb2 import ToolRunner
from penstock.v1.run_pb2 import EndReason, InputRequest, RunState, Usage
from tests.edge.handmade_log import HandmadeLog


def fold_of(events: list[Event]) -> Fold:
    fold = Fold()
    for event in events:
        fold.feed(event)
    return fold


def texts(fold: Fold) -> list[str]:
    return [part.text.text for part in fold.said() if part.HasField("text")]


def test_the_first_event_brings_the_run() -> None:
    fold = fold_of(HandmadeLog().events)

    assert (fold.run.id, fold.run.thread_id, fold.attempt) == ("run_1", "thr_1", 1)
    assert not fold.has_leg_ended


def test_a_part_is_open_until_it_ends_and_whole_after_that() -> None:
    log = HandmadeLog()
    ordinal = log.text("a ", "b")
    started, ended = 4, 7  # seqs of PartStarted and PartEnded

    before = fold_of(log.events[: ended - 1]).parts[ordinal]
    after = fold_of(log.events[:ended]).parts[ordinal]

    assert log.events[started - 1].WhichOneof("payload") == "part_started"
    assert (before.is_open, before.part.text.text) == (True, "")
    assert (after.is_open, after.part.text.text) == (False, "a b")


def test_parts_keep_their_message_with_role_and_lane() -> None:
    log = HandmadeLog()
    child = log.text("inside", lane="run_2")
    result = log.result("call_1", "look", "{}")

    parts = fold_of(log.events).parts

    assert parts[child].message.lane == "run_2"
    assert parts[result].message.message.id != parts[child].message.message.id


def test_what_was_said_is_the_main_lane_without_retracted_parts() -> None:
    log = HandmadeLog()
    taken_back = log.text("no ")
    log.retrying(taken_back)
    log.text("yes ")
    log.text("somebody else", lane="run_2")
    log.text("indeed")
    log.ended()

    fold = fold_of(log.events)

    assert texts(fold) == ["yes ", "indeed"]
    assert fold.retracted == {taken_back}
    assert fold.attempt == 2


def test_parts_know_the_leg_they_were_said_in() -> None:
    log = HandmadeLog()
    first = log.text("Shall I?")
    log.waiting(InputRequest(id="inp_1", message="Sure?"))
    log.resumed()
    second = log.text("Done.")

    fold = fold_of(log.events)

    assert (fold.parts[first].leg, fold.parts[second].leg, fold.leg) == (0, 1, 1)


def test_a_leg_ends_at_a_pause_and_the_next_one_at_the_end() -> None:
    log = HandmadeLog()
    log.waiting(InputRequest(id="inp_1"), InputRequest(id="inp_2"))
    paused = fold_of(log.events)
    log.resumed()
    resumed = fold_of(log.events)
    log.ended()

    assert (paused.is_waiting, paused.has_leg_ended, set(paused.open_inputs)) == (True, True, {"inp_1", "inp_2"})
    assert (resumed.is_waiting, resumed.has_leg_ended, resumed.open_inputs) == (False, False, {})
    assert fold_of(log.events).has_leg_ended


def test_steps_are_open_until_they_end_and_are_counted() -> None:
    log = HandmadeLog()
    log.step(1)
    log.step(2)
    log.step_end(1)

    fold = fold_of(log.events)

    assert (list(fold.open_steps), fold.step_count) == ([2], 2)


def test_usage_is_the_sum_of_what_was_reported_until_the_end_says_it() -> None:
    log = HandmadeLog()
    log.usage(read=10, written=1)
    log.usage(read=20, written=2)
    before = fold_of(log.events).usage
    log.ended(usage=[Usage(model="m", input_tokens=30, output_tokens=4), Usage(model="n", output_tokens=5)])
    after = fold_of(log.events).usage

    assert (before.input_tokens, before.output_tokens) == (30, 3)
    assert (after.input_tokens, after.output_tokens) == (30, 9)


def test_each_leg_has_used_what_was_reported_in_it() -> None:
    log = HandmadeLog()
    log.usage(read=10, written=1)
    log.waiting(InputRequest(id="inp_1"))
    first = fold_of(log.events).leg_usage
    log.resumed()
    log.usage(read=20, written=2)
    log.ended(usage=[Usage(input_tokens=30, output_tokens=3)])
    second = fold_of(log.events).leg_usage

    assert (first.input_tokens, first.output_tokens) == (10, 1)
    assert (second.input_tokens, second.output_tokens) == (20, 2)


def test_calls_that_run_side_by_side_end_each_for_itself() -> None:
    log = HandmadeLog()
    calls = {"call_1": ("look", '{"a"', ":1}"), "call_2": ("find", "{}")}
    ordinals = log.calls(calls, ToolRunner.TOOL_RUNNER_AGENT)

    fold = fold_of(log.events)

    arguments = [fold.parts[ordinal].part.tool_call.arguments_json for ordinal in ordinals]
    assert arguments == ['{"a":1}', "{}"]


def test_the_end_is_kept_whole() -> None:
    log = HandmadeLog()
    log.ended(EndReason.END_REASON_TIMEOUT)

    end = fold_of(log.events).end

    assert end is not None
    assert (end.state, end.reason) == (RunState.RUN_STATE_FAILED, EndReason.END_REASON_TIMEOUT)


def test_asides_and_unknown_payloads_change_nothing() -> None:
    log = HandmadeLog()
    before = vars(fold_of(log.events))
    log.asides()

    assert vars(fold_of(log.events)) == before
