"""States, retries and ends, children and snapshots (rules 1, 2, 9, 13, 14, 16 and 18)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from core_service.domain import runs
from core_service.domain.errors import InvalidOutput
from core_service.domain.grammar import Grammar
from penstock.v1.run_pb2 import EndReason, RunError
from penstock.v1.worker_service_pb2 import Output
from tests.grammar.outputs import ask, call, child, child_done, end, snapshot, text, turn, usage, wait
from tests.grammar.script import ANSWERED, EPOCH, Script

USER = EndReason.END_REASON_USER


# ── begin and end ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_log_begins_with_the_run_and_its_input() -> None:
    queued = Script(client_tools=["click"]).queue().events()[0].run_queued

    assert queued.run.id == "run_1"
    assert [message.id for message in queued.input] == ["msg_in"]


def test_times_never_go_back_and_deltas_have_none() -> None:
    script = Script().begin()
    script.grammar.apply(text("a"), EPOCH - 5_000_000)
    events = script.keep().events()

    assert [event.HasField("create_time") for event in events] == [True, True, True, True, False]
    assert len({event.create_time.ToMicroseconds() for event in events[1:4]}) == 1


def test_an_end_closes_in_order_of_start_and_says_how_the_handler_ended() -> None:
    script = Script().begin().say(turn(1), text("a"), text("b", "side"), call("c1", "{}", lane="side", tool="x"))
    script.say(usage(1, 2), usage(10, 20), end(result_json='{ "ok": true }'))

    assert script.lines()[10:] == [
        "usage 1+2",
        "usage 10+20",
        "part- 1 text 'a'",
        "message- msg_1",
        "part- 3 call c1 x {}",
        "message- msg_2",
        "message+ msg_3 tool lane=side",
        "part+ 4 result c1",
        "part- 4 result c1 abandoned The run ended before this call had a result.",
        "message- msg_3",
        "step- 1",
        "ended completed",
    ]
    ended = script.grammar.ended
    assert ended is not None
    assert ended.result_json == '{"ok":true}'
    assert [(sums.input_tokens, sums.output_tokens) for sums in ended.usage] == [(11, 22)]


def test_a_failure_cuts_off_what_is_open() -> None:
    script = Script().begin().say(turn(1), text("a"), end(EndReason.END_REASON_AGENT_ERROR))

    assert script.lines()[-4:] == [
        "part- 1 text 'a' (cut off)",
        "message- msg_1 (cut off)",
        "step- 1 (cut off)",
        "ended agent_error",
    ]


def test_an_error_has_a_code_whatever_the_worker_said() -> None:
    def code(output: Output) -> str:
        ended = Script().begin().say(output).grammar.ended
        assert ended is not None
        return ended.error.code

    assert code(end(EndReason.END_REASON_REJECTED)) == "REJECTED"
    assert code(end(error=RunError(message="broken"))) == "AGENT_ERROR"
    assert code(end(error=RunError(code="MY_OWN"))) == "MY_OWN"
    assert code(end(error=RunError(code="NO_ERROR"), reason=EndReason.END_REASON_LENGTH)) == ""


def test_client_tools_is_the_reason_exactly_when_calls_are_pending() -> None:
    said_too_early = Script().begin().say(end(EndReason.END_REASON_CLIENT_TOOLS))
    pending = Script(client_tools=["click"]).begin().say(call("c1", done=True, tool="click"), end())

    assert said_too_early.lines()[-1] == "ended completed"
    assert pending.lines()[-1] == "ended client_tools c1"


@pytest.mark.parametrize("reason", [USER, 99, EndReason.END_REASON_SHUTDOWN])
def test_a_handler_cannot_end_its_run_as_cancelled(reason: EndReason.ValueType) -> None:
    script = Script().begin()

    with pytest.raises(InvalidOutput):
        script.say(end(reason))

    assert script.grammar.ended is None


def test_outputs_after_the_end_are_ignored() -> None:
    script = Script().begin().say(end(), text("more"), end(), wait())

    assert script.lines() == ["ended completed"]


def test_a_run_can_end_before_it_started() -> None:
    script = Script().queue().end(EndReason.END_REASON_QUEUE_TIMEOUT)

    assert script.lines(after=0) == ["queued", "ended queue_timeout"]


# ── retries ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_retry_closes_retracts_and_restores_the_state() -> None:
    script = Script(state_json='{"n":1}', state_version=4).begin().say(turn(1), text("a"), call("c1", done=True))
    script.say(snapshot('{"n": 2}'))
    assert script.grammar.retracts() == [1, 2]

    assert script.retry().start().lines()[8:] == [
        'state 5 {"n":2}',
        "message- msg_1 (cut off)",
        "step- 1 (cut off)",
        "retrying 1 without [1, 2]",
        'state 6 {"n":1}',
        "started 2",
    ]
    assert script.grammar.retracts() == []


def test_what_was_retracted_is_marked_and_not_in_the_history() -> None:
    script = Script().begin().say(text("Lost.")).retry().start().say(text("Kept."), end())

    assert [(m.retracted, m.parts[0].text.text) for m in script.grammar.messages()] == [
        (True, "Lost."),
        (False, "Kept."),
    ]
    assert [m.parts[0].text.text for m in script.grammar.history()] == ["Kept."]


def test_usage_of_all_attempts_counts() -> None:
    script = Script().begin().say(usage(1, 1)).retry().start().say(usage(2, 2), end())

    assert [(sums.input_tokens, sums.output_tokens) for sums in script.grammar.usage] == [(3, 3)]


def test_an_open_question_survives_a_retry() -> None:
    script = Script().begin().say(ask("q")).retry().start().say(ask("q"), wait())

    assert script.lines()[1:] == ["retrying 1 without []", "started 2", "waiting inp_1"]


# ── the rest ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_child_speaks_in_its_own_lane_as_itself_and_its_end_closes_the_lane() -> None:
    script = Script().begin().say(text("a"), child("run_c"), text("b", "run_c"), child("run_c"))
    script.say(child_done("run_c", runs.FAILED), child_done("run_c"), child_done("run_x"))

    assert script.lines()[3:] == [
        "child+ run_c",
        "message+ msg_2 assistant Helper lane=run_c",
        "part+ 2 text",
        "text 2 'b'",
        "part- 2 text 'b' (cut off)",
        "message- msg_2 (cut off)",
        "child- run_c",
    ]
    assert script.grammar.messages()[1].author.child_run_id == "run_c"
    assert script.grammar.dropped == 3


def test_a_late_joiner_sees_open_messages_with_what_was_said_so_far() -> None:
    script = Script().begin().say(text("Good "), text("morn"), call("c1", '{"q', lane="side"))

    open_text, open_call = script.grammar.messages()
    assert (open_text.completion, open_text.parts[0].text.text) == (0, "Good morn")
    assert (open_call.parts[0].completion, open_call.parts[0].tool_call.raw_arguments) == (0, '{"q')
    assert script.grammar.history() == []


def test_size_bytes_is_the_size_of_the_log() -> None:
    script = Script().begin().say(text("a"), text("b" * 500), end())

    assert script.grammar.size_bytes == len(script.log) == script.twin().grammar.size_bytes


NOT_ALLOWED: dict[str, Callable[[Script], object]] = {
    "queued twice": lambda script: script.queue(),
    "started twice": lambda script: script.start(),
    "resumed while running": lambda script: script.resume(),
    "retried while queued": lambda script: script.retry().retry(),
    "ended twice": lambda script: script.end(USER).end(USER),
    "retried after the end": lambda script: script.end(USER).retry(),
    "received after the end": lambda script: script.end(USER).receive("late"),
    "retried while waiting": lambda script: script.say(ask("q"), wait()).retry(),
    "received while waiting": lambda script: script.say(ask("q"), wait()).receive("rule 3"),
    "output while queued": lambda script: script.retry().say(text("not started")),
    "answer to no question": lambda script: script.grammar.resolve("inp_9", ANSWERED, "", "", EPOCH),
    "bad answer": lambda script: script.say(ask("q")).answer("not JSON"),
}


@pytest.mark.parametrize("name", NOT_ALLOWED)
def test_what_the_state_does_not_allow_is_an_error_and_changes_nothing(name: str) -> None:
    script = Script().begin()

    with pytest.raises(ValueError):  # noqa: PT011 (whose text is for the log of the core's author)
        NOT_ALLOWED[name](script)

    assert script.grammar.take() == b""


def test_a_grammar_that_has_not_begun_cannot_end() -> None:
    with pytest.raises(ValueError, match="not begun"):
        Grammar().end(USER, EPOCH)
