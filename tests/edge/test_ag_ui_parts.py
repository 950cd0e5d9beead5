"""AG-UI: what is no text, what is taken back, and what who joins later is given."""

from __future__ import annotations

import json

import pytest

from edge.protocols.ag_ui import View
from edge.protocols.ag_ui.conversation import messages_snapshot, put_aside
from edge.protocols.ag_ui.dialect import UNDECLARED
from penstock.v1.event_pb2 import RunResumed, StatePatched
from penstock.v1.message_pb2 import Completion, DataPart, FilePart, Part, Role, ToolOutcome, ToolResultPart, ToolRunner
from penstock.v1.run_pb2 import InputRequest
from tests.edge.ag_ui_client import AgUiClient, frames_of, kinds, of_kind, stream
from tests.edge.handmade_log import HandmadeLog

AGENT = ToolRunner.TOOL_RUNNER_AGENT


def data(name: str, value_json: str, key: str = "") -> Part:
    return Part(data=DataPart(name=name, key=key, value_json=value_json))


def test_data_of_the_same_name_and_key_replaces_its_activity() -> None:
    log = HandmadeLog()
    log.whole(data("forecast", '{"days":3}', key="bern"))
    log.whole(data("forecast", '{"days":4}', key="bern"))
    log.whole(data("count", "7"))
    log.ended()

    client = AgUiClient().read(stream(log.events))
    joined = AgUiClient().read(stream(log.events, View("t", joins_at=len(log.events))))

    assert client.messages == [
        {"id": ".forecast.bern", "role": "activity", "activityType": "forecast", "content": {"days": 4}},
        {"id": "msg_10.3", "role": "activity", "activityType": "count", "content": {"value": 7}},
    ]
    assert joined.messages == client.messages


def test_a_retry_takes_activities_back_and_leaves_those_of_the_application_alone() -> None:
    log = HandmadeLog()
    log.whole(data("forecast", "{}"))
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
    cut = Part(completion=Completion.COMPLETION_INCOMPLETE, tool_result=ToolResultPart(call_id="call_a"))
    log.whole(cut, Role.ROLE_TOOL)
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
    log.whole(Part(tool_result=result), Role.ROLE_TOOL)
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
    log.whole(Part(tool_result=result), Role.ROLE_TOOL)

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


def test_each_change_of_the_state_reaches_who_joins_exactly_once_whenever_the_state_was_read() -> None:
    log = HandmadeLog()
    log.add(StatePatched(snapshot_json='{"seen":[]}', version=1))
    for number in range(2, 6):
        patch = f'[{{"op":"add","path":"/seen/-","value":{number}}}]'
        log.add(StatePatched(patch_json=patch, version=number))
    log.ended()

    for joins_at in range(1, len(log.events) + 1):
        for version in range(1, 6):
            state = json.dumps({"seen": list(range(2, version + 1))})
            view = View("t", joins_at=joins_at, state_json=state, state_version=version)
            assert AgUiClient().read(stream(log.events, view)).state == {"seen": [2, 3, 4, 5]}
