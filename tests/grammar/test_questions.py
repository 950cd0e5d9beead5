"""Questions and pauses (rules 3, 14 and 15)."""

from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration

from core_service.domain import runs
from core_service.domain.errors import InvalidOutput
from penstock.v1.run_pb2 import EndReason, InputKind, InputRequest
from penstock.v1.worker_service_pb2 import AskOutput, Output
from tests.grammar.outputs import ask, call, end, message, result, result_piece, text, turn_done, wait
from tests.grammar.script import EPOCH, Script

USER = EndReason.END_REASON_USER


def request_of(script: Script) -> InputRequest:
    return script.grammar.open_inputs()[0]


def test_a_question_pauses_the_run_until_it_goes_on() -> None:
    script = Script().begin().say(text("May I?"), ask("q"), wait())
    script.answer().say(text("Thanks."))

    assert script.lines()[3:] == [
        "part- 1 text 'May I?'",
        "asked inp_2",
        "message- msg_1",
        "waiting inp_2",
        "settled inp_2 answered",
        "resumed 1",
        "message+ msg_3 assistant",
        "part+ 2 text",
        "text 2 'Thanks.'",
    ]


def test_a_question_holds_a_schema_an_expiry_and_the_call_it_is_about() -> None:
    approval = ask("q", kind=InputKind.INPUT_KIND_APPROVAL, call_id="c1")
    request = request_of(Script().begin().say(call("c1", '{"n": 1}', tool="book"), approval))

    assert request.schema_json.startswith('{"type":"object","properties":{"approved"')
    assert (request.call_id, request.tool_name, request.arguments_json) == ("c1", "book", '{"n":1}')
    assert request.expire_time.ToMicroseconds() == EPOCH + 4000 + 24 * 3600 * 1_000_000


def test_a_question_with_a_known_key_attaches_again_and_writes_nothing() -> None:
    script = Script().begin().say(ask("q"))
    assert script.twin().say(ask("q")).log == script.log

    script.answer()
    assert script.twin().say(ask("q")).log == script.log


def test_wait_without_an_open_question_writes_nothing() -> None:
    script = Script().begin().say(text("a"), wait(), ask("q")).answer().say(wait(), ask("r"), wait(), wait())

    assert [line for line in script.lines() if "waiting" in line] == ["waiting inp_3"]


def test_outputs_that_write_nothing_do_not_resume() -> None:
    script = Script().begin().say(call("c1", done=True), result("c1"), ask("q"), wait())
    before = script.log

    script.say(text(""), call("c1", "{}"), message("critic"), turn_done(), ask("q"))

    assert script.log == before
    assert script.grammar.state == runs.WAITING


def test_a_result_that_a_pause_cuts_off_goes_on_after_it() -> None:
    script = Script().begin().say(call("c1", done=True), result_piece("c1", "[1,"), ask("q"), wait())
    script = script.twin().say(result_piece("c1", "2]", done=True), end())

    assert script.lines()[6:] == [
        "part+ 2 result c1",
        "tool_result 2 '[1,'",
        "asked inp_3",
        "part- 2 result c1 (cut off)",
        "message- msg_2",
        "waiting inp_3",
        "resumed 1",
        "message+ msg_4 tool",
        "part+ 3 result c1",
        "tool_result 3 '2]'",
        "part- 3 result c1 succeeded [1,2]",
        "message- msg_4",
        "settled inp_3 withdrawn",
        "ended completed",
    ]


def test_an_end_while_waiting_settles_and_resumes_first() -> None:
    def tail(reason: EndReason.ValueType) -> list[str]:
        return Script().begin().say(ask("q"), wait()).end(reason).lines()[2:]

    assert tail(USER) == ["settled inp_1 withdrawn", "resumed 1", "ended user"]
    assert tail(EndReason.END_REASON_INPUT_EXPIRED) == ["settled inp_1 expired", "resumed 1", "ended input_expired"]


def test_a_plain_end_withdraws_open_questions() -> None:
    assert Script().begin().say(ask("q"), end()).lines()[1:] == ["settled inp_1 withdrawn", "ended completed"]


def test_a_run_that_no_worker_holds_is_resumed_and_started_again() -> None:
    script = Script().begin().say(ask("q"), wait()).answer().resume().start()

    assert script.lines()[2:] == ["settled inp_1 answered", "resumed 1", "started 2"]
    assert (script.grammar.attempt, script.grammar.leg) == (2, 1)


def test_several_questions_are_settled_one_by_one() -> None:
    script = Script().begin().say(ask("q"), ask("r"), wait()).answer(index=1).answer()

    assert script.lines()[2:] == ["waiting inp_1 inp_2", "settled inp_2 answered", "settled inp_1 answered"]


def test_questions_that_together_are_too_large_to_wait_for_are_refused() -> None:
    script = Script().begin().say(ask("q", "x" * 600_000))

    with pytest.raises(InvalidOutput):
        script.say(ask("r", "x" * 600_000))


REFUSED = {
    "no key": ask(""),
    "schema of another type": ask("q", schema='{"type":"string"}'),
    "schema that is no object": ask("q", schema="[]"),
    "bad schema": ask("q", schema="{"),
    "unknown call": ask("q", call_id="unknown"),
    "bad metadata": Output(ask=AskOutput(key="q", metadata_json="{")),
    "no time to answer": Output(ask=AskOutput(key="q", expire_in=Duration(seconds=0))),
    "a century to answer": Output(ask=AskOutput(key="q", expire_in=Duration(seconds=100 * 366 * 86_400))),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_question_that_nobody_could_answer_is_refused(name: str) -> None:
    with pytest.raises(InvalidOutput):
        Script().begin().say(REFUSED[name])
