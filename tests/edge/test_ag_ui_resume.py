"""AG-UI: a paused thread, and the requests that go on with its run."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from edge.protocols.ag_ui.origin import RunIds, ids_of, request_key
from penstock.v1.message_pb2 import Message, Role
from penstock.v1.run_pb2 import InputAnswer, InputKind, InputOutcome, InputRequest, RunState
from penstock.v1.run_service_pb2 import CreateRunRequest, SubmitInputRequest
from tests.edge.ag_ui_stage import HI, URL, Stage, body, finished, put_run
from tests.edge.handmade_log import HandmadeLog
from tests.edge.scripted_calls import SAID
from tests.edge.scripted_core import Refuse

APPROVAL = InputRequest(id="inp_1", kind=InputKind.INPUT_KIND_APPROVAL, call_id="call_a")
ANSWERED, DECLINED = InputOutcome.INPUT_OUTCOME_ANSWERED, InputOutcome.INPUT_OUTCOME_DECLINED
QUESTION = InputRequest(id="inp_2", message="How many?")


async def test_answers_to_all_questions_are_one_call_and_the_next_leg_is_streamed(stage: Stage) -> None:
    log = stage.waiting(APPROVAL, QUESTION)
    log.resumed()
    log.text("Booked.")
    log.ended()
    stage.core.goes_on = log.events[5:]

    frames = await stage.ask(
        runId="r2",
        resume=[
            {"interruptId": "inp_1", "status": "resolved", "payload": {"approved": True, "n": 1.0}},
            {"interruptId": "inp_2", "status": "cancelled"},
        ],
    )

    [submit] = stage.requests(SubmitInputRequest)
    assert (submit.run_id, submit.request_id) == ("run_1", request_key("t", "r2"))
    assert list(submit.answers) == [
        InputAnswer(input_id="inp_1", outcome=ANSWERED, answer_json='{"approved":true,"n":1.0}'),
        InputAnswer(input_id="inp_2", outcome=DECLINED),
    ]
    assert ids_of(submit.origin_json, otherwise="") == RunIds("r2")
    assert [frame["type"] for frame in frames] == [
        *("RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END", "RUN_FINISHED")
    ]
    assert not stage.requests(CreateRunRequest)


@pytest.mark.parametrize(
    "resume",
    [None, [], [{"interruptId": "inp_1", "status": "resolved", "payload": {}}]],
    ids=["no resume", "an empty one", "one of two"],
)
async def test_a_paused_thread_takes_nothing_but_answers_to_all_questions(stage: Stage, resume: Any) -> None:
    stage.waiting(APPROVAL, QUESTION)

    [error] = await stage.ask(runId="r2", resume=resume)

    assert (error["type"], error["code"]) == ("RUN_ERROR", "THREAD_WAITING")
    assert "inp_2" in error["message"]
    assert not stage.requests(SubmitInputRequest)
    assert not stage.requests(CreateRunRequest)


async def test_the_request_that_led_to_a_question_may_be_sent_again(stage: Stage) -> None:
    stage.core.threads.messages = [Message(id="msg_0", client_id="u1", role=Role.ROLE_USER)]
    stage.waiting(QUESTION)
    put_run(stage.core, "run_1", "r1")
    [error] = await stage.ask(runId="r2")

    frames = await stage.ask(runId="r1")

    assert error["code"] == "THREAD_WAITING"
    assert [one["id"] for one in frames[-1]["outcome"]["interrupts"]] == ["inp_2"]
    assert len(stage.requests(CreateRunRequest)) == 1


async def test_an_entry_that_answers_nothing_is_left_out(stage: Stage) -> None:
    log = stage.waiting(QUESTION)
    log.resumed()
    log.ended()
    stage.core.goes_on = log.events[4:]
    resume: list[Any] = [{"interruptId": one, "status": "resolved", "payload": {}} for one in ("inp_2", "inp_9")]

    frames = await stage.ask(runId="r2", resume=resume)

    assert frames[-1]["type"] == "RUN_FINISHED"
    assert [answer.input_id for answer in stage.requests(SubmitInputRequest)[0].answers] == ["inp_2"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.FAILED_PRECONDITION, "INPUT_ANSWERED"),
        (grpc.StatusCode.FAILED_PRECONDITION, "RUN_ENDED"),
        (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"),
    ],
)
async def test_an_answer_that_the_core_does_not_take_is_an_error_of_the_run(
    stage: Stage, code: grpc.StatusCode, reason: str
) -> None:
    stage.waiting(QUESTION)
    stage.core.script["SubmitInput"] = [Refuse(code, reason)]

    [error] = await stage.ask(runId="r2", resume=[{"interruptId": "inp_2", "status": "resolved"}])

    assert (error["type"], error["code"]) == ("RUN_ERROR", reason)


async def test_a_core_that_takes_no_answers_yet_says_so_as_a_status(stage: Stage) -> None:
    stage.waiting(QUESTION)
    stage.core.script["SubmitInput"] = [Refuse(grpc.StatusCode.UNIMPLEMENTED, "NOT_SERVED")]
    resume = [{"interruptId": "inp_2", "status": "resolved"}]

    async with stage.http.post(URL, json=body(runId="r2", resume=resume)) as response:
        error = await response.json()

    assert (response.status, error["error"]) == (501, "NOT_SERVED")


async def test_an_answer_sent_twice_is_harmless_and_streams_the_same(stage: Stage) -> None:
    log = stage.waiting(QUESTION)
    resume = [{"interruptId": "inp_2", "status": "resolved", "payload": {"answer": "7"}}]
    stage.core.threads.messages = [Message(id="msg_0", client_id="u1", role=Role.ROLE_USER)]
    log.resumed()
    log.text("Seven.")
    log.ended()
    stage.core.goes_on = log.events[4:]
    first = await stage.ask(runId="r2", resume=resume)

    stage.core.log().run.state = RunState.RUN_STATE_SUCCEEDED
    stage.thread()
    second = await stage.ask(runId="r2", resume=resume)

    assert first == second
    assert [submit.request_id for submit in stage.requests(SubmitInputRequest)] == [request_key("t", "r2")] * 2
    assert stage.core.log().run.leg == 1


async def test_answers_on_a_thread_that_waits_no_more_do_not_keep_a_new_message_out(stage: Stage) -> None:
    stage.core.append(*finished().events)
    stage.thread()
    stage.core.threads.messages = [SAID]

    frames = await stage.ask(resume=[{"interruptId": "inp_2", "status": "cancelled"}])

    assert frames[-1]["type"] == "RUN_FINISHED"
    assert len(stage.requests(CreateRunRequest)) == 1


async def test_a_tool_message_answers_a_run_that_waits_for_the_clients_tool(stage: Stage) -> None:
    log = HandmadeLog()
    log.calls({"call_a": ("look", "{}"), "call_b": ("find", "{}")})
    asked = [
        InputRequest(id=f"inp_{call}", kind=InputKind.INPUT_KIND_CLIENT_TOOL, call_id=call)
        for call in ("call_a", "call_b")
    ]
    stage.waiting(*asked, log=log)
    log.resumed()
    log.ended()
    stage.core.goes_on = log.events[-4:]
    seen = {"id": "o1", "role": "tool", "toolCallId": "call_a", "content": '{"seen": 1.0}'}
    lost = {"id": "o2", "role": "tool", "toolCallId": "call_b", "content": "", "error": "Not there."}

    [error] = await stage.ask(runId="r2", messages=[HI, seen])
    frames = await stage.ask(runId="r3", messages=[HI, seen, lost])

    assert (error["type"], error["code"]) == ("RUN_ERROR", "THREAD_WAITING")
    assert frames[-1]["type"] == "RUN_FINISHED"
    [submit] = stage.requests(SubmitInputRequest)
    assert [(answer.input_id, answer.answer_json) for answer in submit.answers] == [
        ("inp_call_a", '{"output":{"seen":1.0}}'),
        ("inp_call_b", '{"error_text":"Not there."}'),
    ]


async def test_a_message_beside_answers_is_not_lost(stage: Stage) -> None:
    log = stage.waiting(QUESTION)
    log.resumed()
    log.waiting(InputRequest(id="inp_3"))
    stage.core.goes_on = log.events[4:]
    more = {"id": "u2", "role": "user", "content": "And hurry."}

    frames = await stage.ask(
        runId="r2", messages=[HI, more], resume=[{"interruptId": "inp_2", "status": "resolved", "payload": {}}]
    )

    [snapshot] = [frame for frame in frames if frame["type"] == "MESSAGES_SNAPSHOT"]
    assert snapshot["messages"] == [HI, more]  # the client keeps it, and sends it with its next run
