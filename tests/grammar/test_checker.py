"""The checker notices what it is there for: each planted fault is reported under its rule."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from penstock.v1.event_pb2 import Event, StepStarted
from penstock.v1.message_pb2 import Completion, Role
from penstock.v1.run_pb2 import EndReason, RunState
from tests.golden.golden import VARIANTS
from tests.grammar.checker import violations

Log = list[Event]
Fault = Callable[[Log], Log | None]

INCOMPLETE = Completion.COMPLETION_INCOMPLETE


def numbered(events: Log) -> Log:
    for seq, event in enumerate(events, start=1):
        event.seq = seq
    return events


def find(events: Log, payload: str, number: int = 0) -> int:
    return [index for index, event in enumerate(events) if event.WhichOneof("payload") == payload][number]


def without(payload: str, number: int = 0) -> Fault:
    def plant(events: Log) -> None:
        del events[find(events, payload, number)]

    return plant


def twice(payload: str, number: int = 0) -> Fault:
    def plant(events: Log) -> None:
        index = find(events, payload, number)
        events.insert(index + 1, copy_of(events[index]))

    return plant


def moved(payload: str, by: int, number: int = 0) -> Fault:
    def plant(events: Log) -> None:
        index = find(events, payload, number)
        events.insert(index + by, events.pop(index))

    return plant


def changed(payload: str, change: Callable[[Event], object], number: int = 0) -> Fault:
    def plant(events: Log) -> None:
        change(events[find(events, payload, number)])

    return plant


def copy_of(event: Event) -> Event:
    copied = Event()
    copied.CopyFrom(event)
    return copied


def after_the_pause(events: Log) -> None:
    events.append(copy_of(events[find(events, "part_delta")]))


def set_field(path: str, value: object) -> Callable[[Event], None]:
    def change(event: Event) -> None:
        *way, name = path.split(".")
        target: object = event
        for step in way:
            target = getattr(target, step)
        setattr(target, name, value)

    return change


FAULTS: dict[str, tuple[int, str, Fault]] = {
    "a log that begins with its start": (1, "succeeded", without("run_queued")),
    "a log without end": (1, "succeeded", without("run_ended")),
    "an event after the end": (1, "succeeded", moved("usage_reported", 5)),
    "two ends": (1, "succeeded", twice("run_ended")),
    "time that goes back": (1, "succeeded", changed("message_started", set_field("create_time.seconds", 1))),
    "a delta with a time": (1, "succeeded", changed("part_delta", set_field("create_time.seconds", 1_900_000_000))),
    "a start that is missing": (2, "succeeded", without("run_started")),
    "a resume that is missing": (2, "cancelled_while_waiting", without("run_resumed")),
    "a reason of another group": (2, "succeeded", changed("run_ended", set_field("run_ended.reason", 30))),
    "a failure without error": (2, "failed", changed("run_ended", lambda event: event.run_ended.ClearField("error"))),
    "usage that was forgotten": (2, "tool", changed("run_ended", lambda event: event.run_ended.ClearField("usage"))),
    "text while waiting": (3, "waiting", after_the_pause),
    "a delta after its part": (4, "succeeded", moved("part_delta", 2, 1)),
    "text that is not what was streamed": (4, "succeeded", without("part_delta")),
    "arguments that are not what was streamed": (4, "client_tools", without("part_delta", 2)),
    "a part that outlives its message": (4, "succeeded", moved("part_ended", 1)),
    "a part without message": (4, "succeeded", without("message_started")),
    "a delta of another kind": (4, "succeeded", changed("part_delta", set_field("part_delta.kind", 2))),
    "parts out of order": (4, "tool", changed("part_started", set_field("part_started.part.ordinal", 7), 1)),
    "an empty message": (5, "tool", moved("message_started", -1, 1)),
    "two assistant messages in a lane": (5, "tool", without("message_ended")),
    "a message that ends twice": (5, "succeeded", twice("message_ended")),
    "a call that starts in open text": (6, "two_tools", moved("part_ended", 1)),
    "text that starts beside an open call": (
        6,
        "tool",
        lambda events: moved("part_started", find(events, "part_ended", 2) - 2 - find(events, "part_started", 1), 1)(
            events
        ),
    ),
    "a file that does not end at once": (7, "attachments", moved("part_ended", 1, 2)),
    "a result in a message of the assistant": (
        8,
        "tool",
        changed("message_started", set_field("message_started.message.role", Role.ROLE_ASSISTANT), 1),
    ),
    "a call that ends after its result began": (10, "tool", moved("part_ended", 4, 2)),
    "a call id that is too long": (
        11,
        "tool",
        changed("part_started", set_field("part_started.part.tool_call.call_id", "c" * 65), 2),
    ),
    "a call id used twice": (
        11,
        "two_tools",
        changed("part_started", set_field("part_started.part.tool_call.call_id", "call_a"), 2),
    ),
    "a call that nobody runs": (
        12,
        "tool",
        changed("part_started", set_field("part_started.part.tool_call.runner", 0), 2),
    ),
    "a call without result": (
        13,
        "client_tools",
        changed("run_ended", lambda event: event.run_ended.ClearField("pending_call_ids")),
    ),
    "a completed run that waits for its client": (
        13,
        "client_tools",
        changed("run_ended", set_field("run_ended.reason", EndReason.END_REASON_COMPLETED)),
    ),
    "a message that is open at a pause": (14, "waiting", without("message_ended")),
    "a part that is open at the end": (14, "succeeded", without("part_ended")),
    "a step that is open at the end": (14, "cancelled", without("step_ended")),
    "a loop step that is open at a retry": (
        14,
        "retry",
        lambda events: [*events[:2], Event(step_started=StepStarted(step=1, number=1)), *events[2:]],
    ),
    "a question that is never settled": (15, "cancelled_while_waiting", without("input_resolved")),
    "an answer to no question": (15, "resumed", twice("input_resolved")),
    "a pause that names no question": (
        15,
        "waiting",
        changed("run_waiting", lambda event: event.run_waiting.ClearField("inputs")),
    ),
    "a part that ends without completion": (
        16,
        "succeeded",
        changed("part_ended", set_field("part_ended.part.completion", 0)),
    ),
    "text cut off in a run that went well": (
        16,
        "succeeded",
        changed("part_ended", set_field("part_ended.part.completion", INCOMPLETE)),
    ),
    "a message cut off in a run that went on": (
        16,
        "tool",
        changed("message_ended", set_field("message_ended.completion", INCOMPLETE)),
    ),
    "a complete call whose arguments are no object": (
        16,
        "tool",
        changed("part_ended", set_field("part_ended.part.tool_call.arguments_json", "[1]"), 2),
    ),
    "retraction of what was never said": (
        18,
        "retry",
        changed("run_retrying", lambda event: event.run_retrying.retracted_ordinals.append(9)),
    ),
    "retraction out of order": (
        18,
        "retry",
        changed("run_retrying", lambda event: event.run_retrying.retracted_ordinals.sort(reverse=True)),
    ),
    "a text without end": (
        20,
        "succeeded",
        changed("part_ended", set_field("part_ended.part.text.text", "x" * 70_000)),
    ),
    "an event over 1 MiB": (
        20,
        "succeeded",
        changed("run_ended", set_field("run_ended.result_json", "x" * (1 << 20))),
    ),
    "an empty delta": (21, "succeeded", changed("part_delta", set_field("part_delta.text", ""))),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_reported_under_its_rule(fault: str) -> None:
    rule, variant, plant = FAULTS[fault]
    events = [copy_of(event) for event in VARIANTS[variant]]
    events = numbered(plant(events) or events)

    found = violations(events, is_whole=variant != "waiting")

    assert [line for line in found if line.startswith(f"rule {rule}:")], found


def test_a_gap_and_a_repeat_of_seqs_are_reported() -> None:
    events = [copy_of(event) for event in VARIANTS["succeeded"]]
    events[4].seq = 9

    assert violations(events) == ["rule 1: it follows 4 (seq 9)", "rule 1: it follows 9 (seq 6)"]


def test_a_state_that_does_not_fit_the_reason_is_reported() -> None:
    events = [copy_of(event) for event in VARIANTS["succeeded"]]
    events[-1].run_ended.state = RunState.RUN_STATE_CANCELLED

    assert [line[:6] for line in violations(events)] == ["rule 2"]
