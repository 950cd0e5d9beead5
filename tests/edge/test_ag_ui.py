"""AG-UI: exact frames of the encoder; state, steps and subagents."""

from __future__ import annotations

import pytest

from edge.protocols.ag_ui import AgUiEncoder, View
from edge.protocols.ag_ui.dialect import UNDECLARED
from penstock.v1.event_pb2 import (
    ChildEnded,
    ChildStarted,
    Custom,
    Event,
    MessageReceived,
    RunQueued,
    StatePatched,
    StepEnded,
    StepStarted,
)
from penstock.v1.message_pb2 import Message, Part, Role, TextPart, ToolResultPart, ToolRunner
from penstock.v1.run_pb2 import EndReason, Run, RunState
from tests.edge.ag_ui_client import AgUiClient, frames, frames_of, kinds, stream
from tests.edge.handmade_log import RUN, HandmadeLog

START = 'data: {"type":"RUN_STARTED","threadId":"t","runId":"run_1","protocolVersion":"1.0"}\n\n'
FINISH = 'data: {"type":"RUN_FINISHED","threadId":"t","runId":"run_1","outcome":{"type":"success"}}\n\n'
ORIGIN = '{"ag_ui":{"run_id":"r-1","parent_run_id":"r-0"}}'
AGENT, CLIENT = ToolRunner.TOOL_RUNNER_AGENT, ToolRunner.TOOL_RUNNER_CLIENT


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
    log.whole(Part(tool_result=ToolResultPart(call_id="call_a", output_json='"seen"')), Role.ROLE_TOOL, lane="step-1")
    log.add(StepEnded(step=1))
    log.ended()

    client = AgUiClient().read(stream(log.events))

    assert [message["role"] for message in client.messages] == ["assistant", "tool"]
    assert client.messages[1]["content"] == "seen"
    assert "STEP_STARTED" not in kinds(log)
