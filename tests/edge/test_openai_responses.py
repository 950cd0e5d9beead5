"""Responses: exact frames of the encoder, what a leg shows and what it leaves out, and the response object."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from edge.protocols.openai_responses import ResponsesEncoder
from edge.protocols.openai_responses.leg import Leg
from edge.protocols.openai_responses.origin import Origin, instructions_message
from edge.protocols.openai_responses.response import response
from penstock.v1.event_pb2 import Event
from penstock.v1.message_pb2 import Completion, Message, Part, Role, SourcePart, ToolRunner
from penstock.v1.run_pb2 import ClientTool, EndReason, InputKind, InputRequest, Run, RunOptions, Usage
from tests.edge.handmade_log import RUN, HandmadeLog

AGENT, CLIENT = ToolRunner.TOOL_RUNNER_AGENT, ToolRunner.TOOL_RUNNER_CLIENT
SAID_PLACE = '"item_id":"msg_1_1","output_index":0,"content_index":0'


def frames(events: Sequence[Event], *, leg: int = 0) -> list[dict[str, Any]]:
    encoder = ResponsesEncoder(leg=leg)
    stream = b"".join([encoder.feed(event) for event in events]).decode()
    return [json.loads(frame.partition("data: ")[2]) for frame in stream.split("\n\n")[:-1]]


def shown(events: Sequence[Event], *, leg: int = 0) -> dict[str, Any]:
    """The response object as a client reads it."""
    folded = Leg(leg)
    for event in events:
        folded.feed(event)
    answer: dict[str, Any] = json.loads(msgspec.json.encode(response(folded)))
    return answer


def kinds(events: Sequence[Event], *, leg: int = 0) -> list[str]:
    return [frame["type"].removeprefix("response.") for frame in frames(events, leg=leg)]


def cites(log: HandmadeLog, ordinal: int, *, url: str = "https://a.example/") -> SourcePart:
    """Add a source that cites a text that has ended."""
    source = SourcePart(source_id="s1", url=url, title="A", filename="a.pdf", cited_ordinal=ordinal, end_index=3)
    message = log._open(Role.ROLE_ASSISTANT, "")
    log._end(message, log._start(message, Part(source=source)))
    log._close(message)
    return source


def test_text_is_an_item_between_created_and_completed() -> None:
    log = HandmadeLog()
    log.text("It ", 'is "ä"\n')
    log.ended()
    encoder = ResponsesEncoder()

    made = [encoder.feed(event) for event in log.events]
    middle = b"".join(made[2:-1]).decode()  # without the lifecycle

    item = '{"id":"msg_1_1","type":"message","status":"%s","role":"assistant","content":[%s]}'
    content = '{"type":"output_text","text":%s,"annotations":[],"logprobs":[]}'
    whole = r'"It is \"ä\"\n"'
    expected = [
        ("output_item.added", f'"output_index":0,"item":{item % ("in_progress", "")}'),
        ("content_part.added", SAID_PLACE + ',"part":' + content % '""'),
        ("output_text.delta", SAID_PLACE + ',"delta":"It ","logprobs":[]'),
        ("output_text.delta", SAID_PLACE + r',"delta":"is \"ä\"\n","logprobs":[]'),
        ("output_text.done", f'{SAID_PLACE},"text":{whole},"logprobs":[]'),
        ("content_part.done", f'{SAID_PLACE},"part":{content % whole}'),
        ("output_item.done", f'"output_index":0,"item":{item % ("completed", content % whole)}'),
    ]
    assert middle == "".join(
        f'event: response.{kind}\ndata: {{"type":"response.{kind}","sequence_number":{number},{rest}}}\n\n'
        for number, (kind, rest) in enumerate(expected, start=3)
    )


def test_the_lifecycle_is_told_once_whatever_happens_to_the_run() -> None:
    log = HandmadeLog()
    log.retrying()
    log.asides()
    log.ended()

    assert kinds(log.events) == ["created", "queued", "in_progress", "completed"]
    assert [frame["response"]["status"] for frame in frames(log.events)] == [
        "queued",
        "queued",
        "in_progress",
        "completed",
    ]


def test_other_lanes_files_and_data_stay_out() -> None:
    log = HandmadeLog()
    log.step(1)
    log.text("from a child", lane="run_2")
    log.asides()
    log.step_end(1)
    log.ended()

    assert kinds(log.events) == ["created", "queued", "in_progress", "completed"]


def test_a_text_that_is_open_gets_its_citations_at_once() -> None:
    log = HandmadeLog()
    text = log.text("abc")
    cites(log, text)
    events = log.events
    source, events[-4:] = events[-4:], []  # message and part, start and end
    events[5:5] = source  # before the text ends
    log.ended()

    [added] = [frame for frame in frames(events) if frame["type"] == "response.output_text.annotation.added"]
    citation = {"type": "url_citation", "url": "https://a.example/", "title": "A", "start_index": 0, "end_index": 3}
    assert (added["item_id"], added["annotation_index"], added["annotation"]) == ("msg_1_1", 0, citation)
    assert shown(events)["output"][0]["content"][0]["annotations"] == [citation]


def test_a_source_cannot_be_cited_by_a_call() -> None:
    log = HandmadeLog()
    [call] = log.calls({"call_a": ("look", "{}")})
    cites(log, call)
    source, log.events[-4:] = log.events[-4:], []
    log.events[4:4] = source  # while the call is open
    log.ended(EndReason.END_REASON_CLIENT_TOOLS)

    assert "output_text.annotation.added" not in kinds(log.events)


def test_a_citation_that_comes_late_is_in_the_final_output_only() -> None:
    log = HandmadeLog()
    cites(log, log.text("abc"), url="")
    log.ended()

    assert "output_text.annotation.added" not in kinds(log.events)
    [item] = frames(log.events)[-1]["response"]["output"]
    assert item["content"][0]["annotations"] == [
        {"type": "file_citation", "file_id": "s1", "filename": "a.pdf", "index": 0}
    ]


def test_reasoning_brings_what_its_provider_wants_back_only_when_asked() -> None:
    plain, asked = HandmadeLog(), HandmadeLog(with_origin(Origin(encrypted=True)))
    for log in (plain, asked):
        log.reasoning("hm")
        log.events[-2].part_ended.part.provider_json = '{"signature":"c2ln"}'
        log.ended()

    assert "encrypted_content" not in shown(plain.events)["output"][0]
    assert shown(asked.events)["output"][0]["encrypted_content"] == '{"signature":"c2ln"}'


def with_origin(origin: Origin, **fields: Any) -> Run:
    run = Run(origin_json=origin.to_json(), **fields)
    run.MergeFrom(RUN)
    return run


# ── tools ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_result_that_is_taken_back_leaves_the_call_and_the_next_result_gets_an_item_of_its_own() -> None:
    log = HandmadeLog()
    log.calls({"call_a": ("look", "{}")}, AGENT)
    first = log.result("call_a", "look", "1")
    log.retrying(first)
    log.result("call_a", "look", "2")
    log.ended()

    done = [frame["item"] for frame in frames(log.events) if frame["type"] == "response.output_item.done"]
    assert [(item["id"], item["output"]) for item in done] == [("mcp_1_1", "1"), ("mcp_1_3", "2")]
    assert shown(log.events)["output"] == [done[1]]


def test_a_call_that_is_taken_back_is_done_and_left_out() -> None:
    log = HandmadeLog()
    log.retrying(*log.calls({"call_a": ("look", "{}")}, AGENT))
    log.ended()

    done = [frame["item"] for frame in frames(log.events) if frame["type"] == "response.output_item.done"]
    assert [item["status"] for item in done] == ["incomplete"]
    assert shown(log.events)["output"] == []


def test_calls_of_both_kinds_may_interleave() -> None:
    log = HandmadeLog()
    log.calls({"call_a": ("look", "{", "}"), "call_b": ("find", "{", "}")})
    log.calls({"call_c": ("own", "{", "}"), "call_d": ("own", "{", "}")}, AGENT)
    log.result("call_d", "own", '"d"')
    log.result("call_c", "own", '{"c":1}')
    log.ended(EndReason.END_REASON_CLIENT_TOOLS)

    output = shown(log.events)["output"]

    assert [(item["type"], item["name"]) for item in output] == [
        ("function_call", "look"),
        ("function_call", "find"),
        ("mcp_call", "own"),
        ("mcp_call", "own"),
    ]
    assert [item.get("output") for item in output] == [None, None, '{"c":1}', "d"]
    done = [frame["output_index"] for frame in frames(log.events) if frame["type"] == "response.output_item.done"]
    assert done == [0, 1, 3, 2]


def test_the_result_of_a_clients_tool_is_the_clients_own_and_not_shown() -> None:
    log = HandmadeLog()
    log.calls({"call_a": ("look", "{}")})
    log.result("call_a", "look", "1")
    log.ended()

    assert [item["type"] for item in shown(log.events)["output"]] == ["function_call"]
    assert kinds(log.events)[-2:] == ["output_item.done", "completed"]


def test_a_call_without_result_is_in_progress_until_its_leg_is_over() -> None:
    log = HandmadeLog()
    log.calls({"call_a": ("look", "{}")}, AGENT)
    before = shown(log.events)["output"]
    log.waiting(InputRequest(id="inp_7", message="Sure?"))
    paused = shown(log.events)["output"]
    log.resumed()
    log.result("call_a", "look", "1")
    log.ended()

    assert [(item["type"], item["status"]) for item in before] == [("mcp_call", "in_progress")]
    assert [item["type"] for item in paused] == ["message"]
    [item] = shown(log.events, leg=1)["output"]
    assert (item["id"], item["name"], item["arguments"], item["output"]) == ("mcp_1_2", "look", "{}", "1")


# ── questions ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_question_in_words_is_a_text() -> None:
    log = HandmadeLog()
    log.waiting(InputRequest(id="inp_7", message="Which one?"))

    assert kinds(log.events)[3:] == [
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    [item] = shown(log.events)["output"]
    assert (item["id"], item["content"][0]["text"]) == ("msg_1_q7", "Which one?")


def test_an_approval_without_a_call_asks_in_its_arguments() -> None:
    log = HandmadeLog()
    log.waiting(InputRequest(id="inp_7", kind=InputKind.INPUT_KIND_APPROVAL, message="Go on?"))

    assert shown(log.events)["output"] == [
        {
            "id": "mcpr_1_7",
            "type": "mcp_approval_request",
            "server_label": "echo",
            "name": "approval",
            "arguments": '{"message":"Go on?"}',
        }
    ]


def test_a_call_that_the_client_was_handed_is_no_question() -> None:
    log = HandmadeLog()
    log.calls({"call_a": ("look", "{}")})
    question = InputRequest(id="inp_7", kind=InputKind.INPUT_KIND_CLIENT_TOOL, call_id="call_a", message="Run it.")
    log.waiting(question)

    assert [item["type"] for item in shown(log.events)["output"]] == ["function_call"]


# ── the object ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_object_shows_the_request_again() -> None:
    options = RunOptions(
        tools=[ClientTool(name="look", description="Looks.", schema_json='{"type":"object"}')],
        agent_options_json='{"temperature":0.50,"text":{"format":{"type":"json_object"}},"seed":1}',
    )
    origin = Origin(previous_response_id="resp_0", background=True)
    run = with_origin(origin, options=options, metadata={"team": "a"})
    log = HandmadeLog(run, instructions_message("Be brief."), Message(role=Role.ROLE_USER))
    log.text("a")
    log.ended(usage=[Usage(input_tokens=7, output_tokens=3, cached_input_tokens=2, reasoning_tokens=1)])

    answer = shown(log.events)

    assert list(answer.pop("output")[0]) == ["id", "type", "status", "role", "content"]
    assert answer == {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_700_000_000,
        "completed_at": 0,
        "status": "completed",
        "background": True,
        "error": None,
        "incomplete_details": None,
        "instructions": "Be brief.",
        "model": "echo",
        "previous_response_id": "resp_0",
        "conversation": None,
        "store": True,
        "metadata": {"team": "a"},
        "tools": [
            {
                "type": "function",
                "name": "look",
                "description": "Looks.",
                "parameters": {"type": "object"},
                "strict": None,
            }
        ],
        "usage": {
            "input_tokens": 7,
            "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
            "output_tokens": 3,
            "output_tokens_details": {"reasoning_tokens": 1},
            "total_tokens": 10,
        },
        "max_output_tokens": None,
        "max_tool_calls": None,
        "parallel_tool_calls": True,
        "prompt_cache_key": None,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "service_tier": "default",
        "temperature": 0.5,
        "text": {"format": {"type": "json_object"}},
        "tool_choice": "auto",
        "top_logprobs": 0,
        "top_p": None,
        "truncation": "disabled",
        "user": None,
    }


def test_a_run_of_another_protocol_has_a_response_too() -> None:
    log = HandmadeLog(Run(id="run_1", agent_id="echo", origin_json='{"protocol":"ag_ui","thread":"t"}'))
    log.text("a")
    log.ended()

    answer = shown(log.events)

    assert (answer["status"], answer["store"], answer["instructions"]) == ("completed", True, None)


def test_each_leg_has_its_own_request_and_its_own_usage() -> None:
    log = HandmadeLog(with_origin(Origin(), metadata={"leg": "first"}))
    log.usage(read=7, written=3)
    log.waiting(InputRequest(id="inp_7", message="Sure?"))
    answered = Origin(previous_response_id="resp_1", metadata={"leg": "second"})
    log.resumed(origin_json=answered.to_json())
    log.usage(read=1, written=1)
    log.ended(usage=[Usage(input_tokens=8, output_tokens=4)])

    first, second = shown(log.events), shown(log.events, leg=1)

    assert (first["id"], first["usage"]["total_tokens"], first["metadata"]) == ("resp_1", 10, {"leg": "first"})
    assert (second["id"], second["usage"]["total_tokens"], second["metadata"]) == ("resp_1-1", 2, {"leg": "second"})
    assert (first["previous_response_id"], second["previous_response_id"]) == (None, "resp_1")


@pytest.mark.parametrize(
    ("reason", "event", "status"),
    [
        (EndReason.END_REASON_COMPLETED, "completed", "completed"),
        (EndReason.END_REASON_CLIENT_TOOLS, "completed", "completed"),
        (EndReason.END_REASON_LENGTH, "incomplete", "incomplete"),
        (EndReason.END_REASON_CONTENT_FILTER, "incomplete", "incomplete"),
        (EndReason.END_REASON_AGENT_ERROR, "failed", "failed"),
        (EndReason.END_REASON_BUDGET, "failed", "failed"),
        (EndReason.END_REASON_USER, "incomplete", "cancelled"),
        (EndReason.END_REASON_DISCONNECTED, "incomplete", "cancelled"),
    ],
)
def test_the_end_reason_gives_the_last_event_and_the_status(
    reason: EndReason.ValueType, event: str, status: str
) -> None:
    log = HandmadeLog()
    log.ended(reason)

    last = frames(log.events)[-1]

    assert (last["type"], last["response"]["status"]) == (f"response.{event}", status)


def test_a_leg_that_has_not_begun_is_queued_and_empty() -> None:
    log = HandmadeLog()
    log.text("a")
    log.waiting(InputRequest(id="inp_7", message="Sure?"))

    answer = shown(log.events, leg=1)

    assert (answer["id"], answer["status"], answer["output"], answer["usage"]) == ("resp_1-1", "queued", [], None)
    assert frames(log.events, leg=1) == []


def test_a_text_that_was_cut_off_says_so() -> None:
    log = HandmadeLog()
    log.text("so")
    log.events[-2].part_ended.part.completion = Completion.COMPLETION_INCOMPLETE
    log.ended(EndReason.END_REASON_WORKER_LOST)

    assert shown(log.events)["output"][0]["status"] == "incomplete"


def test_no_frame_has_an_id_line() -> None:
    log = HandmadeLog()
    log.text("a")
    log.ended()
    encoder = ResponsesEncoder()

    lines = b"".join([encoder.feed(event) for event in log.events]).decode().splitlines()

    assert {line.partition(": ")[0] for line in lines if line} == {"event", "data"}
