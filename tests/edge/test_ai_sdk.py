"""UI message streams: what the golden run does not hold. Questions, messages of several runs, answers in part."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from edge.protocols.ai_sdk import MessageEncoder
from edge.protocols.ai_sdk.encoder import Prelude
from edge.protocols.ai_sdk.origin import MAX_EARLIER_RUNS, Origin, origin_after, origin_of
from edge.protocols.ai_sdk.window import Window
from penstock.v1.event_pb2 import Event, InputResolved, RunResumed, RunWaiting
from penstock.v1.message_pb2 import FilePart, Message, Part, Role, SourcePart, ToolOutcome, ToolResultPart, ToolRunner
from penstock.v1.run_pb2 import EndReason, InputKind, InputOutcome, InputRequest, Run, Usage
from tests.edge.handmade_log import HandmadeLog

Chunk = dict[str, Any]

QUESTION = InputRequest(id="inp_1", kind=InputKind.INPUT_KIND_QUESTION, message="Which city?")
EMPTY_STEP: list[Chunk] = [{"type": "start-step"}, {"type": "finish-step"}]
ANSWERED = InputOutcome.INPUT_OUTCOME_ANSWERED


def frames(events: Sequence[Event], encoder: MessageEncoder | None = None) -> bytes:
    encoder = encoder or MessageEncoder()
    return b"".join(map(encoder.feed, events))


def chunks(events: Sequence[Event], encoder: MessageEncoder | None = None) -> list[Chunk]:
    """Return the chunks between `start` and `[DONE]`."""
    blocks = frames(events, encoder).decode().split("\n\n")[:-1]
    read = [json.loads(block.removeprefix("data: ")) for block in blocks if block != "data: [DONE]"]
    assert read[0]["type"] == "start"
    return read[1:]


def types(events: Sequence[Event], encoder: MessageEncoder | None = None) -> list[str]:
    return [chunk["type"] for chunk in chunks(events, encoder)]


def called(
    log: HandmadeLog, call_id: str = "call_1", runner: ToolRunner.ValueType = ToolRunner.TOOL_RUNNER_AGENT
) -> None:
    log.calls({call_id: ("book", "{}")}, runner)


def approval(input_id: str, call_id: str) -> InputRequest:
    return InputRequest(id=input_id, kind=InputKind.INPUT_KIND_APPROVAL, call_id=call_id, message="May I?")


def settle(log: HandmadeLog, input_id: str, leg: int, answer_json: str = '{"approved":true}') -> None:
    """Answer one question, and go on."""
    log.add(InputResolved(input_id=input_id, outcome=ANSWERED, answer_json=answer_json))
    log.add(RunResumed(leg=leg))


def continued(log: HandmadeLog, message_id: str, *earlier: str) -> HandmadeLog:
    """Make it the log of a run that goes on with a message, with the result of the client's tool `call_map`."""
    queued = log.events[0].run_queued
    queued.run.id = "run_2"
    queued.run.origin_json = json.dumps({"ai_sdk": {"message_id": message_id, "earlier_runs": earlier}})
    output = ToolResultPart(call_id="call_map", outcome=ToolOutcome.TOOL_OUTCOME_SUCCEEDED, output_json='"seen"')
    del queued.input[:]
    queued.input.append(Message(role=Role.ROLE_TOOL, parts=[Part(tool_result=output)]))
    return log


def metadata(run_id: str) -> Chunk:
    return {"type": "message-metadata", "messageMetadata": {"runId": run_id}}


def test_a_question_that_belongs_to_no_call_is_data_and_its_outcome_takes_its_place() -> None:
    log = HandmadeLog()
    log.waiting(QUESTION)
    settle(log, "inp_1", 1, '{"answer":"Bern"}')
    log.ended()

    data = {"id": "inp_1", "kind": "question", "message": "Which city?"}
    asked = {"type": "data-penstock-input", "id": "inp_1", "data": data}
    settled = {**asked, "data": {**data, "outcome": "answered", "answer": {"answer": "Bern"}}}
    paused = {"type": "finish", "finishReason": "tool-calls"}
    ended = {"type": "finish", "finishReason": "stop"}
    assert chunks(log.events) == [asked, paused]
    assert chunks(log.events, MessageEncoder(Window(behind=frozenset({"inp_1"})))) == [settled, ended]
    assert chunks(log.events, MessageEncoder(Window(last_leg=1))) == [asked, settled, ended]


@pytest.mark.parametrize("call_id", ["", "call_of_a_child"])
def test_an_approval_of_a_call_that_is_not_shown_is_data(call_id: str) -> None:
    log = HandmadeLog()
    log.waiting(approval("inp_1", call_id))

    assert types(log.events) == ["data-penstock-input", "finish"]


def test_a_call_of_the_clients_tool_that_the_run_waits_for_asks_for_nothing_more() -> None:
    log = HandmadeLog()
    called(log, runner=ToolRunner.TOOL_RUNNER_CLIENT)
    log.waiting(InputRequest(id="inp_1", kind=InputKind.INPUT_KIND_CLIENT_TOOL, call_id="call_1"))

    assert types(log.events)[-2:] == ["finish-step", "finish"]
    assert "tool-approval-request" not in types(log.events)


def two_questions() -> HandmadeLog:
    """Two calls that wait for approval; the first answer alone gets the run going until it waits for the second."""
    log = HandmadeLog()
    first, second = approval("inp_a", "call_a"), approval("inp_b", "call_b")
    agent = ToolRunner.TOOL_RUNNER_AGENT
    log.calls({"call_a": ("book", "{}"), "call_b": ("book", "{}")}, agent)
    log.waiting(first, second)
    settle(log, "inp_a", 1)
    log.result("call_a", "book", "1")
    log.add(RunWaiting(inputs=[second]))
    settle(log, "inp_b", 2)
    log.result("call_b", "book", "2")
    log.text("Both done.")
    log.ended()
    return log


def test_a_window_opens_behind_the_first_pause_whose_questions_are_answered_and_ends_at_none_of_them() -> None:
    second_only = MessageEncoder(Window(behind=frozenset({"inp_b"}), last_leg=2))
    both = MessageEncoder(Window(behind=frozenset({"inp_a", "inp_b"})))

    told = [
        "tool-output-available",
        "tool-output-available",
        "start-step",
        "text-start",
        "text-delta",
        "text-end",
        "finish-step",
        "finish",
    ]
    assert types(two_questions().events, second_only) == told
    assert types(two_questions().events, both) == told


def test_a_window_ends_at_the_next_pause() -> None:
    after_first = MessageEncoder(Window(behind=frozenset({"inp_a"})))

    assert types(two_questions().events, after_first) == ["tool-output-available", "tool-approval-request", "finish"]


def test_the_answer_to_a_second_question_leads_to_what_follows_that_one_only() -> None:
    log = HandmadeLog()
    called(log, "call_a")
    log.waiting(approval("inp_a", "call_a"))
    settle(log, "inp_a", 1)
    log.text("The first is done.")
    called(log, "call_b")
    log.waiting(approval("inp_b", "call_b"))
    settle(log, "inp_b", 2)
    log.result("call_b", "book", "2")
    log.text("Both are.")
    log.ended()

    told = chunks(log.events, MessageEncoder(Window(behind=frozenset({"inp_b"}), last_leg=2)))

    assert [chunk["delta"] for chunk in told if chunk["type"] == "text-delta"] == ["Both are."]


def test_an_answer_to_a_question_that_was_never_asked_still_gets_a_message_with_an_end() -> None:
    log = HandmadeLog()
    log.text("a")
    log.ended()

    assert chunks(log.events, MessageEncoder(Window(behind=frozenset({"inp_9"})))) == [
        {"type": "finish", "finishReason": "stop"}
    ]


def test_a_run_that_goes_on_with_a_message_has_its_id_and_part_ids_of_its_own() -> None:
    log = continued(HandmadeLog(), "run_1", "run_1")
    log.text("Seen.")
    log.ended()

    start = json.loads(frames(log.events).split(b"\n\n")[0].removeprefix(b"data: "))
    assert (start["messageId"], start["messageMetadata"]["runId"]) == ("run_1", "run_2")
    assert [chunk.get("id") for chunk in chunks(log.events)] == [None, "run_2.1", "run_2.1", "run_2.1", None, None]


def test_a_client_that_begins_anew_gets_the_earlier_runs_and_the_results_of_its_tools() -> None:
    log = continued(HandmadeLog(), "run_1", "run_1")
    log.text("Seen.")
    log.ended()

    told = chunks(log.events, MessageEncoder(earlier=b'data: {"type":"start-step"}\n\n'))

    assert told[:2] == [
        {"type": "start-step"},
        {"type": "tool-output-available", "toolCallId": "call_map", "output": "seen"},
    ]
    assert "tool-output-available" not in types(log.events)  # whoever sent the result has it


def test_a_prelude_in_the_middle_of_a_message_has_the_results_of_the_clients_tools() -> None:
    log = continued(HandmadeLog(), "run_1", "run_1")
    log.text("a")
    log.ended()

    assert frames(log.events, Prelude()).startswith(b'data: {"type":"tool-output-available","toolCallId":"call_map"')


def test_a_last_step_with_nothing_but_settled_calls_is_followed_by_an_empty_one() -> None:
    log = HandmadeLog()
    called(log)
    log.result("call_1", "book", "1")
    log.ended()

    assert chunks(log.events)[-5:-1] == [{"type": "finish-step"}, *EMPTY_STEP, metadata("run_1")]


def test_a_call_that_was_taken_back_is_settled_once() -> None:
    log = HandmadeLog()
    called(log)
    log.retrying(1)
    log.retrying(1)
    log.ended()

    told = types(log.events)
    assert (told.count("tool-output-error"), told.count("start-step")) == (1, 2)


def test_a_run_that_says_nothing_to_the_clients_results_ends_with_an_empty_step() -> None:
    log = continued(HandmadeLog(), "run_1", "run_1")
    log.ended()

    assert chunks(log.events) == [*EMPTY_STEP, metadata("run_2"), {"type": "finish", "finishReason": "stop"}]


def test_a_step_with_a_call_that_the_client_has_to_run_stays_the_last_one() -> None:
    log = HandmadeLog()
    called(log, runner=ToolRunner.TOOL_RUNNER_CLIENT)
    log.ended(EndReason.END_REASON_CLIENT_TOOLS)

    assert types(log.events)[-2:] == ["finish-step", "finish"]
    assert types(log.events).count("start-step") == 1


def test_a_part_without_text_is_not_shown() -> None:
    log = HandmadeLog()
    log.reasoning()
    log.text("a")
    log.ended()

    assert "reasoning-start" not in types(log.events)
    assert types(log.events).count("text-end") == 1


def test_what_a_client_of_six_has_no_part_for_travels_as_data() -> None:
    log = HandmadeLog()
    log.asides()
    log.ended()

    assert chunks(log.events) == [
        {"type": "data-progress", "data": 1, "transient": True},
        {"type": "data-penstock-state", "data": {"snapshot": {}, "version": 1}, "transient": True},
        {"type": "finish", "finishReason": "stop"},
    ]


@pytest.mark.parametrize(
    ("part", "chunk"),
    [
        (
            Part(file=FilePart(data=b"hi", media_type="text/plain")),
            {"type": "file", "url": "data:text/plain;base64,aGk=", "mediaType": "text/plain"},
        ),
        (
            Part(file=FilePart(url="https://a.example/x")),
            {"type": "file", "url": "https://a.example/x", "mediaType": "application/octet-stream"},
        ),
        (
            Part(file=FilePart(file_id="f1", name="x.pdf")),
            {"type": "data-penstock-file", "data": {"name": "x.pdf", "file_id": "f1"}},
        ),
        (
            Part(source=SourcePart(source_id="s1", filename="x.pdf", media_type="application/pdf")),
            {
                "type": "source-document",
                "sourceId": "s1",
                "mediaType": "application/pdf",
                "title": "x.pdf",
                "filename": "x.pdf",
            },
        ),
    ],
)
def test_files_and_documents_have_the_fields_that_clients_require(part: Part, chunk: Chunk) -> None:
    log = HandmadeLog()
    log.whole(part)
    log.ended()

    assert chunks(log.events)[1] == chunk


def test_usage_is_metadata_under_the_names_of_the_sdk() -> None:
    log = HandmadeLog()
    log.ended(usage=[Usage(input_tokens=7, output_tokens=3, cached_input_tokens=2, reasoning_tokens=1)])

    used = {"inputTokens": 7, "outputTokens": 3, "totalTokens": 10, "reasoningTokens": 1, "cachedInputTokens": 2}
    assert chunks(log.events) == [{"type": "finish", "finishReason": "stop", "messageMetadata": {"usage": used}}]


def test_an_origin_is_read_back_and_one_of_another_protocol_is_not_ours() -> None:
    first = Run(id="run_1", origin_json='{"ag_ui":{"run_id":"x"}}')
    second = Run(id="run_2", origin_json=origin_after(first))
    third = Run(id="run_3", origin_json=origin_after(second))

    assert origin_of(first) == Origin("run_1")
    assert origin_of(third) == Origin("run_1", ("run_1", "run_2"))
    assert origin_of(Run(id="run_4", origin_json='{"ai_sdk":7}')) == Origin("run_4")


def test_an_origin_fits_into_its_limit_however_often_the_client_was_asked() -> None:
    run = Run(id="run_0")
    for number in range(MAX_EARLIER_RUNS + 10):
        run = Run(id=f"run_{number:026}", origin_json=origin_after(run))

    assert len(run.origin_json) <= 16 << 10
    assert origin_of(run).earlier_runs[-1] == f"run_{MAX_EARLIER_RUNS + 8:026}"
