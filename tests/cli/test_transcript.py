from __future__ import annotations

import io

import click
import pytest

from penstock.cli.transcript import Transcript
from penstock.v1.event_pb2 import (
    Event,
    MessageStarted,
    PartDelta,
    PartEnded,
    PartStarted,
    RunEnded,
    RunQueued,
    RunRetrying,
)
from penstock.v1.message_pb2 import Message, Part, PartKind, ToolCallPart, ToolOutcome, ToolResultPart
from penstock.v1.run_pb2 import EndReason, Run, RunError, RunState

TEXT, REASONING = PartKind.PART_KIND_TEXT, PartKind.PART_KIND_REASONING
SUCCEEDED = RunEnded(state=RunState.RUN_STATE_SUCCEEDED, reason=EndReason.END_REASON_COMPLETED)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def started(message_id: str, ordinal: int, *, lane: str = "") -> list[Event]:
    message = MessageStarted(message=Message(id=message_id), lane=lane)
    part = PartStarted(message_id=message_id, part=Part(ordinal=ordinal))
    return [Event(message_started=message), Event(part_started=part)]


def said(ordinal: int, text: str, kind: PartKind.ValueType = TEXT) -> Event:
    return Event(part_delta=PartDelta(part=ordinal, kind=kind, text=text))


def shown(*events: Event, on: type[io.StringIO] = io.StringIO) -> tuple[str, str]:
    out, err = on(), on()
    transcript = Transcript(out, err)
    for event in events:
        transcript.feed(event)
    return out.getvalue(), click.unstyle(err.getvalue())


TOOL_RUN = [
    Event(run_queued=RunQueued(run=Run(id="run_1", thread_id="thr_1"))),
    *started("m1", 1),
    said(1, "Hmm.", REASONING),
    *started("m1", 2),
    said(2, "I "),
    said(2, "look."),
    *started("m1", 3),
    said(3, '{"q":1}', PartKind.PART_KIND_TOOL_CALL),
    Event(
        part_ended=PartEnded(
            message_id="m1", part=Part(ordinal=3, tool_call=ToolCallPart(tool_name="find", arguments_json='{"q":1}'))
        )
    ),
    *started("m2", 4),
    Event(
        part_ended=PartEnded(
            message_id="m2",
            part=Part(
                ordinal=4,
                tool_result=ToolResultPart(
                    tool_name="find", outcome=ToolOutcome.TOOL_OUTCOME_SUCCEEDED, output_json="[7]"
                ),
            ),
        )
    ),
    *started("m3", 5),
    said(5, "Seven."),
    Event(run_ended=SUCCEEDED),
]


def test_without_a_terminal_there_is_the_answer_and_nothing_else() -> None:
    assert shown(*TOOL_RUN) == ("I look.Seven.\n", "")


def test_on_a_terminal_what_surrounds_the_answer_has_lines_of_its_own() -> None:
    out, err = shown(*TOOL_RUN, on=Terminal)

    assert out == "I look.\nSeven.\n"
    assert err.splitlines() == [
        "run_1 on thr_1",
        "Hmm.",
        'find {"q":1}',
        "find succeeded: [7]",
        "succeeded: completed",
    ]


def test_what_other_lanes_say_is_not_the_answer() -> None:
    events = [*started("m1", 1, lane="run_2"), said(1, "aside"), *started("m2", 2), said(2, "answer\n")]

    assert shown(*events, Event(run_ended=SUCCEEDED)) == ("answer\n", "")


def test_a_result_is_shown_as_json() -> None:
    end = RunEnded(state=RunState.RUN_STATE_SUCCEEDED, result_json='{"sum":3}')

    assert shown(Event(run_ended=end))[0] == '{"sum":3}\n'


def test_a_failure_is_told_even_when_nobody_looks_on() -> None:
    end = RunEnded(
        state=RunState.RUN_STATE_FAILED,
        reason=EndReason.END_REASON_AGENT_ERROR,
        error=RunError(code="AGENT_ERROR", message="It broke."),
    )

    assert shown(*started("m1", 1), said(1, "So far"), Event(run_ended=end)) == (
        "So far\n",
        "failed: agent_error: It broke.\n",
    )


@pytest.mark.parametrize(("retracted", "remark"), [([1], "; what it said above is taken back"), ([], ""), ([9], "")])
def test_a_retry_says_whether_the_text_above_still_counts(retracted: list[int], remark: str) -> None:
    retrying = RunRetrying(attempt=1, error=RunError(code="WORKER_LOST"), retracted_ordinals=retracted)

    _, err = shown(*started("m1", 1), said(1, "So"), Event(run_retrying=retrying))

    assert err == f"attempt 1 failed (WORKER_LOST){remark}; trying again\n"


def test_what_an_agent_says_cannot_command_the_terminal() -> None:
    hostile = [*started("m1", 1), said(1, "a\x1b[2Jb\x9bc\td\n")]

    assert shown(*hostile, on=Terminal)[0] == "a[2Jbc\td\n"
    assert shown(*hostile)[0] == "a\x1b[2Jb\x9bc\td\n"


def test_an_event_of_a_newer_core_is_skipped() -> None:
    assert shown(Event(seq=1), Event(run_ended=SUCCEEDED)) == ("", "")
