"""AG-UI: exact frames of the encoder, and what a client makes of the less common turns of a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from edge.protocols.ag_ui import AgUiEncoder, View
from edge.protocols.ag_ui.conversation import messages_snapshot, put_aside
from edge.protocols.ag_ui.dialect import UNDECLARED
from penstock.v1.event_pb2 import (
    ChildEnded,
    ChildStarted,
    Custom,
    Event,
    MessageReceived,
    RunQueued,
    RunResumed,
    StatePatched,
    StepEnded,
    StepStarted,
)
from penstock.v1.message_pb2 import (
    Completion,
    DataPart,
    FilePart,
    Message,
    Part,
    Role,
    TextPart,
    ToolOutcome,
    ToolResultPart,
    ToolRunner,
)
from penstock.v1.run_pb2 import EndReason, InputKind, InputRequest, Run, RunError, RunState, Usage
from tests.edge.ag_ui_client import AgUiClient, frames_of
from tests.edge.handmade_log import RUN, HandmadeLog

START = 'data: {"type":"RUN_STARTED","threadId":"t","runId":"run_1","protocolVersion":"1.0"}\n\n'
FINISH = 'data: {"type":"RUN_FINISHED","threadId":"t","runId":"run_1","outcome":{"type":"success"}}\n\n'
ORIGIN = '{"ag_ui":{"run_id":"r-1","parent_run_id":"r-0"}}'
AGENT, CLIENT = ToolRunner.TOOL_RUNNER_AGENT, ToolRunner.TOOL_RUNNER_CLIENT


def stream(events: Sequence[Event], view: View | None = None) -> bytes:
    encoder = AgUiEncoder(view or View("t"))
    return b"".join(encoder.feed(event) for event in events)


def frames(log: HandmadeLog, view: View | None = None) -> list[Any]:
    return frames_of(stream(log.events, view))


def kinds(log: HandmadeLog, view: View | None = None) -> list[str]:
    return [frame["type"] for frame in frames(log, view)]


def of_kind(log: HandmadeLog, kind: str, view: View | None = None) -> list[Any]:
    return [frame for frame in frames(log, view) if frame["type"] == kind]


def test_text_is_a_message_of_a_piece_per_delta_between_start_and_end_of_the_run() -> None:
    log = HandmadeLog()
    log.text("It ", 'is "ä"\n')
    log.ended()

    assert stream(log.events).decode() == (
        START
        + 'data: {"type":"TEXT_MESSAGE_START","messageId":"msg_2","role":"assistant"}\n\n'
        + 'data: {"type":"TEXT_MESSAGE_CONTENT","messageId":"msg_2","delta":"It "}\n\n'
        + 'data: {"type":"TEXT_MESSAGE_CONTENT","messageId":"msg_2","delta":"is \\"ä\\"\\n"}\n\n'
        + 'data: {"type":"TEXT_MESSAGE_END","messageId":"msg_2"}\n\n'
        + FINISH
    )


def test_calls_and_results_carry_their_ids() -> None:
    log = HandmadeLog()
    log.calls({"call_a": ("look", '{"at"', ':"x"}')}, AGENT)
    log.result("call_a", "look", '{"seen":1.0}')
    log.ended()

    assert stream(log.events).decode() == (
        START
        + 'data: {"type":"TOOL_CALL_START","toolCallId":"call_a","toolCallName":"look","parentMessageId":"msg_2"}\n\n'
        + 'data: {"type":"TOOL_CALL_ARGS","toolCallId":"call_a","delta":"{\\"at\\""}\n\n'
        + 'data: {"type":"TOOL_CALL_ARGS","toolCallId":"call_a","delta":":\\"x\\"}"}\n\n'
        + 'data: {"type":"TOOL_CALL_END","toolCallId":"call_a"}\n\n'
        + 'data: {"type":"TOOL_CALL_RESULT","messageId":"msg_8","toolCallId":"call_a",'
        + '"content":"{\\"seen\\":1.0}","role":"tool"}\n\n'
        + FINISH
    )


def test_the_older_dialect_declares_no_version() -> None:
    assert frames(HandmadeLog(), View("t", UNDECLARED)) == [{"type": "RUN_STARTED", "threadId": "t", "runId": "run_1"}]


def test_a_run_is_called_as_its_client_called_it() -> None:
    run = Run()
    run.CopyFrom(RUN)
    run.origin_json = ORIGIN
    started = [Event(seq=1, run_queued=RunQueued(run=run))]

    [frame] = frames_of(stream(started))

    assert (frame["threadId"], frame["runId"], frame["parentRunId"]) == ("t", "r-1", "r-0")


@pytest.mark.parametrize("origin", ["", "null", '{"ai_sdk":{}}', '{"ag_ui":7}', '{"ag_ui":{}}'])
def test_a_run_of_another_protocol_is_called_as_we_call_it(origin: str) -> None:
    run = Run(id="run_1", origin_json=origin)

    [frame] = frames_of(stream([Event(seq=1, run_queued=RunQueued(run=run))]))

    assert frame["runId"] == "run_1"


def test_state_custom_events_and_steering_are_told() -> None:
    log = HandmadeLog()
    log.add(StatePatched(snapshot_json='{"n":1.0}', version=1))
    log.add(StatePatched(patch_json='[{"op":"replace","path":"/n","value":2.0}]', version=2))
    log.add(Custom(name="progress", value_json='{"percent":50}'))
    log.add(Custom(name="ping"))
    said = [Part(text=TextPart(text="Hurry")), Part(text=TextPart(text="!"))]
    log.add(MessageReceived(message=Message(id="msg_s", client_id="c-7", role=Role.ROLE_USER, parts=said)))
    log.ended()

    client = AgUiClient().read(stream(log.events))

    assert client.state == {"n": 2.0}
    assert [(one["name"], one["value"]) for one in client.custom] == [("progress", {"percent": 50}), ("ping", None)]
    assert client.messages == [{"id": "c-7", "role": "user", "content": "Hurry!"}]


def test_what_only_a_newer_core_knows_makes_no_frame() -> None:
    log = HandmadeLog()
    log.asides()
    log.ended()

    assert b"".join([AgUiEncoder(View("t")).feed(Event(seq=1))]) == b""
    assert kinds(log)[-1] == "RUN_FINISHED"


def test_two_steps_of_one_name_are_told_apart_while_both_are_open() -> None:
    log = HandmadeLog()
    for step in (1, 2):
        log.add(StepStarted(step=step, name="fetch"))
    for step in (1, 2):
        log.add(StepEnded(step=step))
    log.add(StepStarted(step=3, name="fetch"))
    log.add(StepEnded(step=3))
    log.ended()

    names = [(frame["type"], frame["stepName"]) for frame in frames(log) if "stepName" in frame]

    started, finished = "STEP_STARTED", "STEP_FINISHED"
    assert names == [
        *((started, "fetch"), (started, "fetch #2"), (finished, "fetch"), (finished, "fetch #2")),
        *((started, "fetch"), (finished, "fetch")),
    ]
    AgUiClient().read(stream(log.events))


def test_steps_without_a_name_are_called_by_their_number() -> None:
    log = HandmadeLog()
    log.step(1)
    log.step_end(1)
    log.ended()

    assert [frame["stepName"] for frame in frames(log) if "stepName" in frame] == ["step 1", "step 1"]


def test_a_child_is_a_subagent_and_so_is_its_own_child() -> None:
    log = HandmadeLog()
    log.calls({"call_a": ("ask", "{}")}, AGENT)
    log.add(ChildStarted(child_run_id="run_2", agent_id="think", name="Thinker", call_id="call_a"))
    log.text("Hm.", lane="run_2")
    log.add(ChildStarted(child_run_id="run_3", agent_id="echo"))
    log.add(ChildEnded(child_run_id="run_3", state=RunState.RUN_STATE_FAILED, reason=EndReason.END_REASON_AGENT_ERROR))
    log.add(ChildEnded(child_run_id="run_2", state=RunState.RUN_STATE_SUCCEEDED))
    log.result("call_a", "ask", '"asked"')
    log.ended()

    client = AgUiClient().read(stream(log.events))

    assert [frame for frame in frames(log) if frame["type"].startswith("SUBAGENT")] == [
        {"type": "SUBAGENT_STARTED", "subagentRunId": "run_2", "name": "Thinker", "parentToolCallId": "call_a"},
        {"type": "SUBAGENT_STARTED", "subagentRunId": "run_3", "name": "echo"},
        {
            "type": "SUBAGENT_ERROR",
            "subagentRunId": "run_3",
            "message": "The agent did not finish: AGENT_ERROR.",
            "code": "AGENT_ERROR",
        },
        {"type": "SUBAGENT_FINISHED", "subagentRunId": "run_2"},
    ]
    assert [message.get("subagentRunId") for message in client.messages] == [None, None, "run_2"]


def test_other_lanes_stay_out_of_sight_but_not_the_results_that_they_bring() -> None:
    log = HandmadeLog()
    log.calls({"call_a": ("look", "{}")}, AGENT)
    log.add(StepStarted(step=1, name="beside", lane="step-1"))
    log.text("muttered", lane="step-1")
    result = Part(ordinal=9, tool_result=ToolResultPart(call_id="call_a"))
    log.ended()
    brought = [*log.events[:-1], *_in_lane("step-1", result, seq=len(log.events)), log.events[-1]]

    client = AgUiClient().read(stream(brought))

    assert [message["role"] for message in client.messages] == ["assistant", "tool"]
    assert client.messages[1]["content"] == "seen"
    assert "STEP_STARTED" not in kinds(log)


def _in_lane(lane: str, part: Part, *, seq: int) -> list[Event]:
    """The events of a tool message in a lane of its own."""
    log = HandmadeLog()
    log.events.clear()
    header = Message(id="msg_r", role=Role.ROLE_TOOL)
    whole = Part()
    whole.CopyFrom(part)
    whole.completion = Completion.COMPLETION_COMPLETE
    whole.tool_result.outcome, whole.tool_result.output_json = ToolOutcome.TOOL_OUTCOME_SUCCEEDED, '"seen"'
    events = [Event(), Event(), Event(), Event()]
    events[0].message_started.message.CopyFrom(header)
    events[0].message_started.lane = lane
    events[1].part_started.message_id = events[2].part_ended.message_id = "msg_r"
    events[1].part_started.part.CopyFrom(part)
    events[2].part_ended.part.CopyFrom(whole)
    events[3].message_ended.message_id = "msg_r"
    for event in events:
        event.seq = seq
    return events


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


def add_whole(log: HandmadeLog, message_id: str, part: Part, *, role: Role.ValueType = Role.ROLE_ASSISTANT) -> None:
    """A message with one part that comes whole."""
    part.completion = part.completion or Completion.COMPLETION_COMPLETE
    events = [Event(), Event(), Event(), Event()]
    events[0].message_started.message.CopyFrom(Message(id=message_id, role=role, run_id="run_1"))
    events[1].part_started.message_id = events[2].part_ended.message_id = message_id
    events[1].part_started.part.ordinal = part.ordinal
    events[1].part_started.part.tool_result.call_id = part.tool_result.call_id
    if not part.HasField("tool_result"):
        events[1].part_started.part.CopyFrom(part)
    events[2].part_ended.part.CopyFrom(part)
    events[3].message_ended.message_id = message_id
    for event in events:
        event.seq = len(log.events) + 1
        log.events.append(event)


def data(ordinal: int, name: str, value_json: str, key: str = "") -> Part:
    return Part(ordinal=ordinal, data=DataPart(name=name, key=key, value_json=value_json))


def test_data_of_the_same_name_and_key_replaces_its_activity() -> None:
    log = HandmadeLog()
    add_whole(log, "msg_a", data(1, "forecast", '{"days":3}', key="bern"))
    add_whole(log, "msg_b", data(2, "forecast", '{"days":4}', key="bern"))
    add_whole(log, "msg_c", data(3, "count", "7"))
    log.ended()

    client = AgUiClient().read(stream(log.events))
    joined = AgUiClient().read(stream(log.events, View("t", joins_at=len(log.events))))

    assert client.messages == [
        {"id": "run_1.forecast.bern", "role": "activity", "activityType": "forecast", "content": {"days": 4}},
        {"id": "msg_c.3", "role": "activity", "activityType": "count", "content": {"value": 7}},
    ]
    assert joined.messages == client.messages


def test_a_retry_takes_activities_back_and_leaves_those_of_the_application_alone() -> None:
    log = HandmadeLog()
    add_whole(log, "msg_a", data(1, "forecast", "{}"))
    log.retrying(1)
    log.ended()
    local = {"id": "x", "role": "activity", "activityType": "spinner", "content": {}}

    client = AgUiClient(local).read(stream(log.events))

    assert client.messages == [local]


def test_a_retry_that_takes_nothing_back_says_nothing() -> None:
    log = HandmadeLog()
    log.text("kept")
    log.retrying()
    log.ended()

    assert "MESSAGES_SNAPSHOT" not in kinds(log)


def test_a_call_that_is_taken_back_waits_for_nobody() -> None:
    log = HandmadeLog()
    taken_back = log.calls({"call_a": ("look", "{}")})
    log.retrying(*taken_back)
    log.text("Then not.")
    log.ended()

    answered = {frame["toolCallId"] for frame in of_kind(log, "TOOL_CALL_RESULT")}
    client = AgUiClient().read(stream(log.events))

    assert answered == {"call_a"}  # a client counts calls without result as its own to run
    assert [message["role"] for message in client.messages] == ["assistant"]
    assert client.text() == "Then not."


def test_a_result_that_was_cut_off_is_not_told() -> None:
    log = HandmadeLog()
    log.calls({"call_a": ("look", "{}")}, AGENT)
    cut = Part(ordinal=2, completion=Completion.COMPLETION_INCOMPLETE, tool_result=ToolResultPart(call_id="call_a"))
    add_whole(log, "msg_r", cut, role=Role.ROLE_TOOL)
    log.ended()

    assert of_kind(log, "TOOL_CALL_RESULT") == []


IMAGE = {"type": "image", "source": {"type": "data", "value": "aGk=", "mimeType": "image/png"}}
SOUND = {"type": "audio", "source": {"type": "file", "value": "file-1", "mimeType": "audio/ogg"}}
PAGE = {
    "type": "document",
    "source": {"type": "url", "value": "https://x.example/a.pdf"},
    "metadata": {"filename": "a"},
}


def test_a_result_may_hold_files_where_the_client_knows_them() -> None:
    files = [
        FilePart(media_type="image/png", data=b"hi"),
        FilePart(media_type="audio/ogg", file_id="file-1"),
        FilePart(name="a", url="https://x.example/a.pdf"),
    ]
    result = ToolResultPart(call_id="call_a", output_json='"two"', content=[Part(file=file) for file in files])
    log = HandmadeLog()
    log.calls({"call_a": ("look", "{}")}, AGENT)
    add_whole(log, "msg_r", Part(ordinal=2, tool_result=result), role=Role.ROLE_TOOL)
    log.ended()

    [current] = of_kind(log, "TOOL_CALL_RESULT")
    [older] = of_kind(log, "TOOL_CALL_RESULT", View("t", UNDECLARED))

    assert current["content"] == [{"type": "text", "text": "two"}, IMAGE, SOUND, PAGE]
    assert older["content"] == "two"
    AgUiClient().read(stream(log.events))


@pytest.mark.parametrize(
    ("result", "content"),
    [
        (ToolResultPart(output_json='"plain \\n text"'), "plain \n text"),
        (ToolResultPart(output_json='{"n":1.0}'), '{"n":1.0}'),
        (ToolResultPart(outcome=ToolOutcome.TOOL_OUTCOME_DENIED, error_text="No."), "No."),
        (ToolResultPart(), ""),
    ],
)
def test_a_result_is_text_as_a_string_as_json_or_as_what_went_wrong(result: ToolResultPart, content: str) -> None:
    log = HandmadeLog()
    log.calls({"call_a": ("look", "{}")}, AGENT)
    result.call_id = "call_a"
    add_whole(log, "msg_r", Part(ordinal=2, tool_result=result), role=Role.ROLE_TOOL)

    assert of_kind(log, "TOOL_CALL_RESULT")[0]["content"] == content


def test_what_a_provider_wants_back_goes_with_the_call_it_belongs_to() -> None:
    log = HandmadeLog()
    log.calls({"call_a": ("look", "{}")}, AGENT)
    ended = next(event for event in log.events if event.HasField("part_ended"))
    ended.part_ended.part.provider_json = '{"signature":"c2ln"}'
    log.ended()

    client = AgUiClient().read(stream(log.events))
    joined = AgUiClient().read(stream(log.events, View("t", joins_at=len(log.events))))

    assert client.messages[0]["toolCalls"][0]["encryptedValue"] == '{"signature":"c2ln"}'
    assert joined.messages == client.messages


def test_who_joins_gets_the_conversation_before_with_what_the_run_has_said() -> None:
    log = HandmadeLog()
    log.text("Half ", "a sentence")
    events = log.events[:5]  # up to the first piece
    earlier = put_aside([{"id": "u", "role": "user", "content": "Hi"}])
    view = View("t", joins_at=5, earlier=earlier, state_json='{"n":1}', state_version=1)

    assert frames_of(stream(events, view)) == [
        {"type": "RUN_STARTED", "threadId": "t", "runId": "run_1", "protocolVersion": "1.0"},
        {"type": "STATE_SNAPSHOT", "snapshot": {"n": 1}},
        {
            "type": "MESSAGES_SNAPSHOT",
            "messages": [
                {"id": "u", "role": "user", "content": "Hi"},
                {"id": "msg_2", "role": "assistant", "content": "Half "},
            ],
        },
        {"type": "TEXT_MESSAGE_START", "messageId": "msg_2", "role": "assistant"},
    ]


def test_who_joins_when_all_is_answered_sees_the_run_go_on() -> None:
    log = HandmadeLog()
    log.waiting(InputRequest(id="inp_1"))
    log.resumed()
    log.text("On.")
    log.ended()
    answered = next(event.seq for event in log.events if event.HasField("input_resolved"))

    client = AgUiClient().read(stream(log.events, View("t", joins_at=answered)))

    assert (client.text(), client.end["outcome"]) == ("On.", {"type": "success"})
    assert log.events[answered].run_resumed == RunResumed(leg=1)


def test_a_snapshot_without_anything_is_an_empty_list() -> None:
    assert messages_snapshot(put_aside([]), ()) == b'data: {"type":"MESSAGES_SNAPSHOT","messages":[]}\n\n'
    assert json.loads(messages_snapshot(put_aside([{"id": "a"}]), [{"id": "b"}])[6:])["messages"] == [
        {"id": "a"},
        {"id": "b"},
    ]
