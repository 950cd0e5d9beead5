"""AG-UI: how a leg ends, with questions, calls to run, tokens and failures, and how the next one begins."""

from __future__ import annotations

import pytest

from edge.protocols.ag_ui import View
from edge.protocols.ag_ui.conversation import put_aside
from edge.protocols.ag_ui.dialect import UNDECLARED
from penstock.v1.event_pb2 import ChildEnded, ChildStarted, StatePatched, StepEnded, StepStarted
from penstock.v1.run_pb2 import EndReason, InputKind, InputRequest, RunError, RunState, Usage
from tests.edge.ag_ui_client import AgUiClient, frames, kinds, of_kind, stream
from tests.edge.handmade_log import HandmadeLog

ORIGIN = '{"ag_ui":{"run_id":"r-1","parent_run_id":"r-0"}}'


def test_a_pause_closes_what_is_open_and_the_next_leg_opens_it_again() -> None:
    log = HandmadeLog()
    log.add(StepStarted(step=1, name="book"))
    log.add(ChildStarted(child_run_id="run_2", agent_id="think"))
    log.add(StepStarted(step=2, name="book", lane="run_2"))
    log.waiting(InputRequest(id="inp_1", message="Sure?"))
    log.resumed()
    log.add(StepEnded(step=2))
    log.add(ChildEnded(child_run_id="run_2", state=RunState.RUN_STATE_SUCCEEDED))
    log.add(StepEnded(step=1))
    log.ended()

    first, second = frames(log), frames(log, View("t", leg=1))

    assert [frame["type"] for frame in first] == [
        *("RUN_STARTED", "STEP_STARTED", "SUBAGENT_STARTED", "STEP_STARTED"),
        *("STEP_FINISHED", "STEP_FINISHED", "SUBAGENT_FINISHED", "MESSAGES_SNAPSHOT", "RUN_FINISHED"),
    ]
    assert first[6]["outcome"] == {"type": "suspended"}
    assert [frame["type"] for frame in second] == [
        *("RUN_STARTED", "SUBAGENT_STARTED", "STEP_STARTED", "STEP_STARTED"),
        *("STEP_FINISHED", "SUBAGENT_FINISHED", "STEP_FINISHED", "RUN_FINISHED"),
    ]
    AgUiClient().read(stream(log.events)).read(stream(log.events, View("t", leg=1)))


def test_a_leg_is_called_as_the_request_that_resumed_it() -> None:
    log = HandmadeLog()
    log.waiting(InputRequest(id="inp_1"))
    log.resumed()
    assert frames(log, View("t", leg=1))[0]["runId"] == "run_1.1"

    log.events[-1].run_resumed.origin_json = ORIGIN
    assert frames(log, View("t", leg=1))[0]["runId"] == "r-1"


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        (InputRequest(kind=InputKind.INPUT_KIND_APPROVAL, call_id="call_a"), "tool_call"),
        (InputRequest(kind=InputKind.INPUT_KIND_APPROVAL), "confirmation"),
        (InputRequest(kind=InputKind.INPUT_KIND_QUESTION), "input_required"),
        (InputRequest(kind=InputKind.INPUT_KIND_AUTH), "penstock:auth"),
        (InputRequest(), "input_required"),
    ],
    ids=["approval of a call", "approval", "question", "auth", "unspecified"],
)
def test_every_kind_of_question_has_its_reason(question: InputRequest, reason: str) -> None:
    question.id = "inp_1"
    log = HandmadeLog()
    log.waiting(question)

    outcome = frames(log)[-1]["outcome"]

    call = {"toolCallId": "call_a"} if question.call_id else {}
    assert outcome == {"type": "interrupt", "interrupts": [{"id": "inp_1", "reason": reason, **call}]}


def test_an_interrupt_has_all_open_questions_with_all_that_is_known_of_them() -> None:
    question = InputRequest(
        id="inp_1",
        message="How many?",
        schema_json='{"type":"object","properties":{"n":{"minimum":1.0}}}',
        metadata_json='{"form":"small"}',
    )
    question.expire_time.seconds = 1_800_000_000
    log = HandmadeLog()
    log.waiting(question, InputRequest(id="inp_2"))

    first, second = frames(log)[-1]["outcome"]["interrupts"]

    assert first == {
        "id": "inp_1",
        "reason": "input_required",
        "message": "How many?",
        "responseSchema": {"type": "object", "properties": {"n": {"minimum": 1.0}}},
        "expiresAt": "2027-01-15T08:00:00Z",
        "metadata": {"form": "small"},
    }
    assert second["id"] == "inp_2"


def test_state_and_messages_are_restated_before_an_interrupt() -> None:
    log = HandmadeLog()
    log.text("Well?")
    log.add(StatePatched(snapshot_json='{"n":1}', version=1))
    log.waiting(InputRequest(id="inp_1"))
    earlier = put_aside([{"id": "u", "role": "user", "content": "Hi"}])

    *_, state, messages, _ = frames(log, View("t", earlier=earlier))

    assert state == {"type": "STATE_SNAPSHOT", "snapshot": {"n": 1}}
    assert [message["id"] for message in messages["messages"]] == ["u", "msg_2"]


def test_a_state_that_was_patched_is_not_restated_since_its_client_has_put_it_together() -> None:
    log = HandmadeLog()
    log.add(StatePatched(snapshot_json='{"n":1}', version=1))
    log.add(StatePatched(patch_json='[{"op":"remove","path":"/n"}]', version=2))
    log.waiting(InputRequest(id="inp_1"))

    assert len(of_kind(log, "STATE_SNAPSHOT")) == 1


def test_waiting_for_the_clients_tools_alone_is_a_success_with_calls_to_run() -> None:
    log = HandmadeLog()
    log.calls({"call_a": ("look", "{}"), "call_b": ("find", "{}")})
    asked = [
        InputRequest(id=f"inp_{call}", kind=InputKind.INPUT_KIND_CLIENT_TOOL, call_id=call)
        for call in ("call_a", "call_b")
    ]
    log.waiting(*asked)

    current, older = frames(log)[-1], frames(log, View("t", UNDECLARED))[-1]

    assert current["outcome"] == {"type": "success", "pendingToolCallIds": ["call_a", "call_b"]}
    assert older["outcome"] == {"type": "success"}
    assert "MESSAGES_SNAPSHOT" not in kinds(log)


def test_waiting_for_a_tool_and_for_a_person_is_an_interrupt_with_both() -> None:
    log = HandmadeLog()
    log.calls({"call_a": ("look", "{}")})
    tool = InputRequest(id="inp_1", kind=InputKind.INPUT_KIND_CLIENT_TOOL, call_id="call_a")
    log.waiting(tool, InputRequest(id="inp_2"))

    interrupts = frames(log)[-1]["outcome"]["interrupts"]

    assert [(one["id"], one["reason"]) for one in interrupts] == [("inp_1", "tool_call"), ("inp_2", "input_required")]


def test_a_leg_counts_its_own_tokens_by_model_and_leaves_out_what_nobody_counted() -> None:
    log = HandmadeLog()
    log.usage(read=10, written=2)
    log.usage(read=5, written=0)
    log.waiting(InputRequest(id="inp_1"))
    log.resumed()
    log.usage(read=7, written=3)
    log.ended(usage=[Usage(model="m", input_tokens=22, output_tokens=5)])

    first, second = frames(log)[-1], frames(log, View("t", leg=1))[-1]

    assert first["usage"] == [{"model": "m", "inputTokens": 15, "outputTokens": 2, "totalTokens": 17}]
    assert second["usage"] == [{"model": "m", "inputTokens": 7, "outputTokens": 3, "totalTokens": 10}]


def test_a_failure_tells_its_code_and_a_sentence() -> None:
    log = HandmadeLog()
    log.ended(EndReason.END_REASON_AGENT_ERROR, error=RunError(code="TOO_DARK", message="I see nothing."))

    assert frames(log)[-1] == {"type": "RUN_ERROR", "message": "I see nothing.", "code": "TOO_DARK"}


@pytest.mark.parametrize(("view", "outcome"), [(View("t"), {"type": "cancelled"}), (View("t", UNDECLARED), None)])
def test_a_cancelled_run_has_that_outcome_where_the_client_knows_it(view: View, outcome: object) -> None:
    log = HandmadeLog()
    log.ended(EndReason.END_REASON_SUPERSEDED)

    end = frames(log, view)[-1]

    assert (end["type"], end.get("outcome")) == ("RUN_FINISHED", outcome)
    assert end["metadata"] == {"penstock": {"reason": "superseded"}}
