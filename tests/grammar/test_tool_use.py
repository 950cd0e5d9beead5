"""Tool calls and results: the exact events of each (rules 6, 8–13 and 16)."""

from __future__ import annotations

import pytest

from core_service.domain.errors import InvalidOutput
from penstock.v1.message_pb2 import ToolOutcome, ToolRunner
from penstock.v1.run_pb2 import EndReason
from penstock.v1.worker_service_pb2 import Output
from tests.grammar.outputs import AGENT, call, end, result, result_piece, text
from tests.grammar.script import Script

KIB = 1024


def said(*outputs: Output) -> list[str]:
    return Script(client_tools=["click"]).begin().say(*outputs).lines()


def test_arguments_stream_and_their_end_is_whole_and_compact() -> None:
    assert said(call("c1", '{"q": '), call("c1", "[1.0]}", done=True)) == [
        "message+ msg_1 assistant",
        "part+ 1 call c1 search",
        "tool_call 1 '{\"q\": '",
        "tool_call 1 '[1.0]}'",
        'part- 1 call c1 search {"q":[1.0]}',
    ]


def test_a_call_without_arguments_has_an_empty_object() -> None:
    assert said(call("c1", done=True))[2:] == ["tool_call 1 '{}'", "part- 1 call c1 search {}"]


def test_calls_interleave_by_id_end_the_open_text_and_are_ended_by_text() -> None:
    assert said(text("Hm."), call("c1", "{"), call("c2", "{"), call("c1", "}"), call("c2", "}"), text("Go."))[2:] == [
        "text 1 'Hm.'",
        "part- 1 text 'Hm.'",
        "part+ 2 call c1 search",
        "tool_call 2 '{'",
        "part+ 3 call c2 search",
        "tool_call 3 '{'",
        "tool_call 2 '}'",
        "tool_call 3 '}'",
        "part- 2 call c1 search {}",
        "part- 3 call c2 search {}",
        "part+ 4 text",
        "text 4 'Go.'",
    ]


@pytest.mark.parametrize("arguments", ["[1]", '{"q":', "nonsense", '{"q": NaN}', "[" * 100])
def test_arguments_that_are_no_object_leave_the_call_incomplete(arguments: str) -> None:
    assert said(call("c1", arguments, done=True))[-1] == f"part- 1 call c1 search {arguments} (cut off)"


def test_a_result_is_a_tool_message_after_the_message_that_it_ends() -> None:
    assert said(text("Hm."), call("c1", "{}"), result("c1", '{"n": 1}', duration_ms=5))[5:] == [
        "tool_call 2 '{}'",
        "part- 2 call c1 search {}",
        "message- msg_1",
        "message+ msg_2 tool",
        "part+ 3 result c1",
        'part- 3 result c1 succeeded {"n":1}',
        "message- msg_2",
    ]


def test_a_result_lies_inside_its_message_while_a_sibling_streams() -> None:
    assert said(call("c1", "{}", done=True), call("c2", "{"), result("c1", "1"), call("c2", "}", done=True))[5:] == [
        "tool_call 2 '{'",
        "message+ msg_2 tool",
        "part+ 3 result c1",
        "part- 3 result c1 succeeded 1",
        "message- msg_2",
        "tool_call 2 '}'",
        "part- 2 call c2 search {}",
        "message- msg_1",
    ]


def test_a_result_streams_and_its_pieces_joined_are_the_output() -> None:
    lines = said(
        call("c1", done=True), result_piece("c1", "[1, "), result_piece("c1", "2]"), result_piece("c1", "", done=True)
    )
    assert lines[5:] == [
        "message+ msg_2 tool",
        "part+ 2 result c1",
        "tool_result 2 '[1, '",
        "tool_result 2 '2]'",
        "part- 2 result c1 succeeded [1,2]",
        "message- msg_2",
    ]


def test_a_result_of_an_unknown_call_first_gets_the_call() -> None:
    assert said(result("c9", "1", tool="fetch")) == [
        "message+ msg_1 assistant",
        "part+ 1 call c9 fetch",
        "tool_call 1 '{}'",
        "part- 1 call c9 fetch {}",
        "message- msg_1",
        "message+ msg_2 tool",
        "part+ 2 result c9",
        "part- 2 result c9 succeeded 1",
        "message- msg_2",
    ]


def test_what_comes_too_late_is_dropped_and_counted() -> None:
    script = Script().begin().say(call("c1", "{}", done=True), result("c1", "1"))
    before = script.lines()

    script.say(call("c1", "{}"), result("c1", "2"), result_piece("c1", "3"))

    assert script.lines() == before
    assert script.grammar.dropped == 3


@pytest.mark.parametrize(
    ("given", "end_of_line"),
    [
        (result("c1", error="broken"), "failed broken"),
        (result("c1", error="no", outcome=ToolOutcome.TOOL_OUTCOME_DENIED), "denied no"),
        (result("c1", outcome=ToolOutcome.TOOL_OUTCOME_ABANDONED), "succeeded null"),
        (result("c1"), "succeeded null"),
    ],
    ids=["error", "denied", "only the core abandons", "nothing"],
)
def test_the_outcome_of_a_result(given: Output, end_of_line: str) -> None:
    assert said(call("c1", done=True), given)[-2] == f"part- 2 result c1 {end_of_line}"


@pytest.mark.parametrize(
    ("tool", "said_by_worker", "is_client"),
    [
        ("click", ToolRunner.TOOL_RUNNER_UNSPECIFIED, True),
        ("click", ToolRunner.TOOL_RUNNER_AGENT, False),
        ("search", ToolRunner.TOOL_RUNNER_UNSPECIFIED, False),
        ("search", ToolRunner.TOOL_RUNNER_CLIENT, True),
    ],
)
def test_the_runner_is_known_at_the_start(tool: str, said_by_worker: ToolRunner.ValueType, *, is_client: bool) -> None:
    line = said(call("c1", tool=tool, runner=said_by_worker))[1]

    assert line == f"part+ 1 call c1 {tool}" + (" client" if is_client else "")


def test_a_title_may_come_at_the_start_or_at_the_end() -> None:
    script = Script().begin().say(call("c1", title="Looks"), call("c1", done=True), call("c2"))
    script.say(call("c2", done=True, title="Reads"))

    assert [part.tool_call.title for part in script.grammar.messages()[0].parts] == ["Looks", "Reads"]


def test_an_id_that_a_retracted_call_used_comes_out_with_the_attempt() -> None:
    script = Script().begin().say(call("c1", "{}", done=True))
    script.retry().start().say(call("c1", "{}"), call("c1", "", done=True), result("c1", "1"))
    script = script.twin().retry().start().say(result("c1", "2"))

    assert [line for line in script.lines() if "part- " in line] == [
        "part- 1 call c1 search {}",
        "part- 2 call c1-2 search {}",
        "part- 3 result c1-2 succeeded 1",
        "part- 4 call c1-3 search {}",
        "part- 5 result c1-3 succeeded 2",
    ]


def test_long_ids_stay_unique_and_within_64_characters_after_a_retry() -> None:
    ids = ["a" * 64, "a" * 63 + "b"]
    script = Script().begin().say(*(call(call_id, done=True) for call_id in ids))
    script.retry().start().say(*(call(call_id, done=True) for call_id in ids))

    used = [e.part_started.part.tool_call.call_id for e in script.events() if e.HasField("part_started")]
    assert len(set(used)) == 4
    assert max(map(len, used)) == 64


def test_calls_that_the_agent_did_not_answer_are_abandoned_and_the_clients_are_pending() -> None:
    lines = said(
        call("c1", "{}", done=True), call("c2", "{}", tool="click", done=True), call("c3", "[", done=True), end()
    )

    assert lines[10:] == [
        "message- msg_1",
        "message+ msg_2 tool",
        "part+ 4 result c1",
        "part- 4 result c1 abandoned The run ended before this call had a result.",
        "message- msg_2",
        "ended client_tools c2",
    ]


def test_a_call_that_a_failure_cuts_off_gets_no_result() -> None:
    script = Script().begin().say(call("c1", "{}")).end(EndReason.END_REASON_TIMEOUT)

    assert script.lines()[-3:] == ["part- 1 call c1 search {} (cut off)", "message- msg_1 (cut off)", "ended timeout"]


def test_a_result_that_an_end_cuts_off_does_not_count() -> None:
    script = Script().begin().say(call("c1", done=True), result_piece("c1", "[1")).end(EndReason.END_REASON_USER)

    assert script.lines()[7:] == [
        "tool_result 2 '[1'",
        "part- 2 result c1 (cut off)",
        "message- msg_2 (cut off)",
        "message+ msg_3 tool",
        "part+ 3 result c1",
        "part- 3 result c1 abandoned The run ended before this call had a result.",
        "message- msg_3",
        "ended user",
    ]
    assert [message.id for message in script.grammar.history()] == ["msg_1", "msg_3"]


REFUSED = {
    "no id": call("", "{}"),
    "id with spaces": call("not an id"),
    "long id": call("c" * 65),
    "no tool": call("c1", tool=""),
    "long tool": call("c1", tool="x" * 300),
    "long arguments": call("c1", "x" * (256 * KIB + 1)),
    "bad output": result("c1", "{"),
    "result of no tool": result("c1", "1", tool=""),
    "bad pieces": result_piece("c1", "{", done=True),
    "large output": result("c1", '"' + "x" * KIB * KIB + '"'),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_log_cannot_hold_is_refused_and_changes_nothing(name: str) -> None:
    script = Script().begin().say(text("a"))

    with pytest.raises(InvalidOutput):
        script.say(REFUSED[name])

    assert script.say(text("b")).lines()[-2:] == ["text 1 'a'", "text 1 'b'"]


def test_arguments_past_256_kib_are_refused_however_they_come() -> None:
    script = Script().begin().say(call("c1", "é" * (100 * KIB)))

    with pytest.raises(InvalidOutput):
        script.say(call("c1", "é" * (29 * KIB)))


def test_more_than_a_thousand_unanswered_calls_are_refused() -> None:
    script = Script().begin().say(*(call(f"c{n}", done=True) for n in range(1000)))

    with pytest.raises(InvalidOutput):
        script.say(call("one_more"))

    script.say(result("c0", "1"), call("one_more", runner=AGENT))
