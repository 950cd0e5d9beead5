"""What the body of a response becomes, or the refusal that names the culprit; and the ids, both ways."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest
from msgspec import Raw

from edge.errors import Refusal
from edge.protocols.openai_responses import ids
from edge.protocols.openai_responses.answers import answers
from edge.protocols.openai_responses.input import Approved, Entry, Referred, Said, behind_last_answer, read_input
from edge.protocols.openai_responses.origin import Origin, read_origin
from edge.protocols.openai_responses.request import ResponseRequest, parse
from penstock.v1.message_pb2 import (
    FilePart,
    Message,
    Part,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolOutcome,
    ToolResultPart,
    ToolRunner,
)
from penstock.v1.run_pb2 import ClientTool, InputAnswer, InputKind, InputOutcome, InputRequest, Run, RunOptions

PNG = base64.b64encode(b"png").decode()


def request(headers: dict[str, str] | None = None, **fields: Any) -> ResponseRequest:
    body = {"model": "echo", "input": "Hello", **fields}
    return parse(Raw(json.dumps(body).encode()), headers or {})


def entries(*items: Any) -> list[Entry]:
    return read_input(Raw(json.dumps(items).encode()))


def said(*items: Any) -> list[Message]:
    return [message for entry in entries(*items) if isinstance(entry, Said) for message in entry.messages]


def text(words: str) -> Part:
    return Part(text=TextPart(text=words))


def from_user(*parts: Part) -> Message:
    return Message(role=Role.ROLE_USER, parts=parts)


# ── the body ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_smallest_request_is_a_text_to_an_agent() -> None:
    assert request() == ResponseRequest(
        agent_id="echo",
        entries=[Said((from_user(text("Hello")),), "input")],
        instructions="",
        previous=None,
        thread_id="",
        options=RunOptions(retry_after_output=False),
        metadata={},
        origin=Origin(),
        is_stream=False,
        request_id="",
    )


def test_what_nobody_here_understands_is_for_the_agent_as_it_was_written() -> None:
    asked = request(
        temperature=0.5,
        text={"format": {"type": "json_object"}},
        reasoning=None,
        tool_choice="required",
        stream_options={"include_obfuscation": False},
        include=["reasoning.encrypted_content"],
    )

    assert json.loads(asked.options.agent_options_json) == {
        "temperature": 0.5,
        "text": {"format": {"type": "json_object"}},
        "tool_choice": "required",
    }
    assert asked.origin == Origin(encrypted=True)


def test_tools_of_the_client_are_offered_unless_it_wants_none_called() -> None:
    look = {"type": "function", "name": "look", "description": "Looks.", "parameters": {"type": "object"}, "strict": 1}

    assert request(tools=[look]).options.tools == [
        ClientTool(name="look", description="Looks.", schema_json='{"type":"object"}')
    ]
    assert list(request(tools=[look], tool_choice="none").options.tools) == []


def test_the_agents_own_tools_may_be_declared_and_no_others() -> None:
    own = {"type": "mcp", "server_label": "echo", "server_url": "https://a.example/", "require_approval": "always"}

    assert list(request(tools=[own]).options.tools) == []
    with pytest.raises(Refusal) as refused:
        request(tools=[own, {**own, "server_label": "elsewhere"}])
    assert refused.value.metadata["field"] == "tools[1].server_label"


def test_where_it_goes_on_and_how_it_is_kept() -> None:
    chained = request(previous_response_id="resp_abc-2", background=True, metadata={"a": "b"})
    talking = request(conversation={"id": "conv_abc"}, store=False, stream=True, instructions="Be brief.")

    assert (chained.previous, chained.metadata) == (ids.ResponseRef("run_abc", 2), {"a": "b"})
    assert chained.origin == Origin(previous_response_id="resp_abc-2", background=True)
    assert (talking.thread_id, talking.is_stream, talking.instructions) == ("thr_abc", True, "Be brief.")
    assert talking.origin == Origin(conversation="conv_abc", store=False)
    assert request(conversation="support-42").thread_id == "support-42"


def test_the_origin_survives_the_core() -> None:
    origin = Origin(previous_response_id="resp_1", conversation=None, background=True, encrypted=True, metadata={})

    assert read_origin(origin.to_json()) == origin
    assert read_origin("") == read_origin('{"protocol":"ag_ui"}') == Origin()


def test_a_key_makes_a_repeat_harmless() -> None:
    assert request({"Idempotency-Key": "k1"}).request_id == "k1"


@pytest.mark.parametrize(
    ("fields", "reason", "param"),
    [
        ({"model": ""}, "INVALID_ARGUMENT", "model"),
        ({"input": None}, "INVALID_ARGUMENT", "input"),
        ({"input": []}, "INVALID_ARGUMENT", "input"),
        ({"input": 3}, "INVALID_ARGUMENT", "input"),
        ({"input": [3]}, "INVALID_ARGUMENT", "input[0]"),
        ({"input": [{"type": "computer_call"}]}, "INVALID_ARGUMENT", "input[0].type"),
        ({"input": [{"role": "robot", "content": "a"}]}, "INVALID_ARGUMENT", "input[0].role"),
        ({"input": [{"role": "user"}]}, "INVALID_ARGUMENT", "input[0]"),
        ({"input": [{"type": "function_call_output", "output": "a"}]}, "INVALID_ARGUMENT", "input[0]"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_video"}]}]},
            "INVALID_ARGUMENT",
            "input[0].content[0].type",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "INVALID_ARGUMENT",
            "input[0].content[0]",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "ftp://a/b"}]}]},
            "INVALID_ARGUMENT",
            "input[0].content[0].image_url",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_data": "?"}]}]},
            "INVALID_ARGUMENT",
            "input[0].content[0].file_data",
        ),
        ({"tools": [{"type": "web_search"}]}, "INVALID_ARGUMENT", "tools[0].type"),
        ({"stream": "yes"}, "INVALID_ARGUMENT", "stream"),
        ({"background": True, "store": False}, "INVALID_ARGUMENT", "store"),
        ({"previous_response_id": "resp_a", "conversation": "c"}, "INVALID_ARGUMENT", "previous_response_id"),
        ({"previous_response_id": "run_a"}, "PREVIOUS_RESPONSE_NOT_FOUND", "previous_response_id"),
        ({"previous_response_id": "resp_a-0"}, "PREVIOUS_RESPONSE_NOT_FOUND", "previous_response_id"),
    ],
)
def test_a_bad_request_names_the_parameter(fields: dict[str, Any], reason: str, param: str) -> None:
    with pytest.raises(Refusal) as refused:
        request(**fields)

    assert (refused.value.status, refused.value.reason, refused.value.metadata["field"]) == (400, reason, param)


# ── items ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_messages_come_with_or_without_a_type() -> None:
    assert said(
        {"role": "developer", "content": "Be brief."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [
                {"type": "output_text", "text": "Ho", "annotations": []},
                {"type": "refusal", "refusal": "No."},
            ],
        },
    ) == [
        Message(role=Role.ROLE_SYSTEM, parts=[text("Be brief.")]),
        from_user(text("Hi")),
        Message(role=Role.ROLE_ASSISTANT, parts=[text("Ho"), text("No.")]),
    ]


def test_images_files_and_audio_are_file_parts() -> None:
    content = [
        {"type": "input_image", "image_url": "https://a.example/b.jpg", "detail": "auto"},
        {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"},
        {"type": "input_image", "file_id": "file_1"},
        {"type": "input_file", "file_data": f"data:application/pdf;base64,{PNG}", "filename": "a.pdf"},
        {"type": "input_file", "file_url": "https://a.example/c.pdf"},
        {"type": "input_file", "file_id": "file_2"},
        {"type": "input_audio", "input_audio": {"data": PNG, "format": "wav"}},
    ]

    [message] = said({"role": "user", "content": content})

    assert [part.file for part in message.parts] == [
        FilePart(url="https://a.example/b.jpg", media_type="image/jpeg"),
        FilePart(data=b"png", media_type="image/png"),
        FilePart(file_id="file_1", media_type="image/*"),
        FilePart(data=b"png", media_type="application/pdf", name="a.pdf"),
        FilePart(url="https://a.example/c.pdf", media_type="application/pdf"),
        FilePart(file_id="file_2"),
        FilePart(data=b"png", media_type="audio/wav"),
    ]


def test_what_an_agent_said_may_come_back_as_it_went_out() -> None:
    error = {"type": "mcp_tool_execution_error", "content": []}

    assert said(
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "function_call", "id": "fc_1", "call_id": "call_a", "name": "look", "arguments": '{"at": 1}'},
        {"type": "function_call_output", "call_id": "call_a", "output": '{"seen": 1.0}'},
        {"type": "mcp_call", "id": "mcp_1", "server_label": "a", "name": "own", "arguments": "{}", "output": "done"},
        {"type": "mcp_call", "id": "mcp_2", "server_label": "a", "name": "own", "arguments": "{", "error": error},
        {"type": "mcp_approval_request", "id": "mcpr_1_2", "server_label": "a", "name": "own", "arguments": "{}"},
        {"type": "mcp_list_tools", "id": "mcpl_1", "server_label": "a", "tools": []},
    ) == [
        Message(role=Role.ROLE_ASSISTANT, parts=[Part(reasoning=ReasoningPart(text="hm"))]),
        assistant_call("call_a", "look", ToolRunner.TOOL_RUNNER_CLIENT, arguments_json='{"at":1}'),
        tool_result("call_a", output_json='{"seen":1.0}'),
        assistant_call("mcp_1", "own", ToolRunner.TOOL_RUNNER_AGENT, arguments_json="{}"),
        tool_result("mcp_1", "own", output_json='"done"'),
        assistant_call("mcp_2", "own", ToolRunner.TOOL_RUNNER_AGENT, raw_arguments="{"),
        tool_result(
            "mcp_2",
            "own",
            outcome=ToolOutcome.TOOL_OUTCOME_FAILED,
            error_text='{"type":"mcp_tool_execution_error","content":[]}',
        ),
    ]


def assistant_call(call_id: str, name: str, runner: ToolRunner.ValueType, **fields: str) -> Message:
    call = ToolCallPart(call_id=call_id, tool_name=name, runner=runner, **fields)
    return Message(role=Role.ROLE_ASSISTANT, parts=[Part(tool_call=call)])


def tool_result(call_id: str, name: str = "", **fields: Any) -> Message:
    fields = {"outcome": ToolOutcome.TOOL_OUTCOME_SUCCEEDED, **fields}
    result = ToolResultPart(call_id=call_id, tool_name=name, **fields)
    return Message(role=Role.ROLE_TOOL, parts=[Part(tool_result=result)])


def test_an_output_may_bring_files_along() -> None:
    image = {"type": "input_image", "image_url": "https://a.example/b.png"}
    output = [{"type": "input_text", "text": "See: "}, image]

    [message] = said({"type": "function_call_output", "call_id": "call_a", "output": output})

    assert message.parts[0].tool_result.output_json == '"See: "'
    assert [part.file.url for part in message.parts[0].tool_result.content] == ["https://a.example/b.png"]


def test_encrypted_reasoning_is_handed_back_as_it_was() -> None:
    ours = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": '{"signature":"c2ln"}'}
    others = {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "gAAAA"}

    assert [message.parts[0].provider_json for message in said(ours, others)] == ['{"signature":"c2ln"}', '"gAAAA"']


def test_what_stands_behind_the_last_item_of_the_agent_is_new() -> None:
    question = {"role": "user", "content": "a"}
    verdict = {"type": "mcp_approval_response", "approval_request_id": "mcpr_1_2", "approve": True}

    new = behind_last_answer(entries(question, {"type": "item_reference", "id": "mcpr_1_2"}, verdict, question))

    assert new == [
        Approved("mcpr_1_2", approve=True, reason="", where="input[2]"),
        Said((from_user(text("a")),), "input[3]"),
    ]
    assert entries({"id": "msg_1_2"}) == [Referred("msg_1_2", "input[0]")]
    assert len(behind_last_answer(entries(question, question))) == 2


# ── answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────

APPROVAL = InputRequest(id="inp_2", kind=InputKind.INPUT_KIND_APPROVAL, tool_name="book")
TOOL = InputRequest(id="inp_3", kind=InputKind.INPUT_KIND_CLIENT_TOOL, call_id="call_a")
ONE_TEXT = '{"type":"object","properties":{"answer":{"type":"string"}},"required":["answer"]}'
QUESTION = InputRequest(id="inp_4", kind=InputKind.INPUT_KIND_QUESTION, message="Which?", schema_json=ONE_TEXT)
FORM = InputRequest(id="inp_5", schema_json='{"type":"object","properties":{"n":{"type":"integer"}}}')
TWO_TEXTS = InputRequest(id="inp_6", schema_json='{"properties":{"a":{"type":"string"},"b":{"type":"string"}}}')

YES = {"type": "mcp_approval_response", "approval_request_id": "mcpr_1_2", "approve": True}
OUTPUT = {"type": "function_call_output", "call_id": "call_a", "output": '{"seen":1.0}'}
WORDS = {"role": "user", "content": "the red one"}


def answered(questions: list[InputRequest], *items: Any) -> list[tuple[str, str]]:
    given = answers(Run(id="run_1", inputs=questions), entries(*items))
    outcome = InputOutcome.INPUT_OUTCOME_ANSWERED
    assert [InputAnswer(input_id=a.input_id, outcome=outcome, answer_json=a.answer_json) for a in given] == given
    return [(answer.input_id, answer.answer_json) for answer in given]


def test_each_kind_of_question_has_its_kind_of_answer() -> None:
    no = {**YES, "approve": False, "reason": "too dear"}

    assert answered([APPROVAL, TOOL, QUESTION], OUTPUT, WORDS, YES) == [
        ("inp_3", '{"output":{"seen":1.0}}'),
        ("inp_4", '{"answer":"the red one"}'),
        ("inp_2", '{"approved":true}'),
    ]
    assert answered([APPROVAL], no) == [("inp_2", '{"approved":false,"comment":"too dear"}')]


def test_a_question_may_be_answered_with_the_json_that_it_asks_for() -> None:
    assert answered([FORM], {"role": "user", "content": '{"n": 3}'}) == [("inp_5", '{"n":3}')]


def test_an_approval_that_is_not_open_any_more_is_for_the_core_to_judge() -> None:
    assert answered([], YES) == [("inp_2", '{"approved":true}')]


@pytest.mark.parametrize(
    ("questions", "items", "param", "words"),
    [
        ([APPROVAL], [WORDS], "input[0]", "answers no open question"),
        ([APPROVAL], [OUTPUT], "input[0].call_id", "answers no open question"),
        ([QUESTION], [{"role": "system", "content": "a"}], "input[0]", "answers no open question"),
        ([QUESTION], [WORDS, WORDS], "input[1]", "answers no open question"),
        ([APPROVAL], [{**YES, "approval_request_id": "mcpr_9_2"}], "input[0].approval_request_id", "no open question"),
        ([APPROVAL, TOOL], [YES], "input", "waits for a function_call_output of call_a"),
        ([APPROVAL, QUESTION], [WORDS], "input", "waits for an mcp_approval_response to mcpr_1_2"),
        ([QUESTION, APPROVAL], [YES], "input", "waits for a message that answers 'Which?'"),
        ([FORM], [WORDS], "input[0]", "must be a JSON object that fits"),
        ([TWO_TEXTS], [WORDS], "input[0]", "must be a JSON object that fits"),
    ],
)
def test_what_answers_nothing_and_what_is_missing_is_refused(
    questions: list[InputRequest], items: list[Any], param: str, words: str
) -> None:
    with pytest.raises(Refusal, match=re.escape(words)) as refused:
        answered(questions, *items)

    assert refused.value.metadata["field"] == param


# ── ids ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_ids_can_be_taken_apart_again() -> None:
    run, thread = "run_01m7wnske9ampep9w4ap2y51e6", "thr_01m7wnske9ampep9w4ap2y51e7"

    assert [ids.response_ref(ids.ResponseRef(run, leg).id) for leg in (0, 1, 12)] == [
        ids.ResponseRef(run, 0),
        ids.ResponseRef(run, 1),
        ids.ResponseRef(run, 12),
    ]
    assert ids.item_ref(ids.item_id("mcp", run, 7)) == ids.ItemRef(run, 7)
    assert ids.question_ref(ids.approval_id(run, "inp_a1")) == ids.QuestionRef(run, "inp_a1")
    assert ids.thread_id(ids.conversation_id(thread)) == thread
    assert ids.thread_id(ids.conversation_id("support-42")) == "support-42"


@pytest.mark.parametrize("text", ["", "resp_", "run_1", "resp_1-", "resp_1-01", "resp_1/../2", "RESP_1", "resp_1 "])
def test_what_is_no_response_id_is_none(text: str) -> None:
    assert ids.response_ref(text) is None


@pytest.mark.parametrize("text", ["", "msg_1", "msg_1_q7", "msg_1_2_3", "foo_1_2", "mcpr_1_2"])
def test_what_is_no_item_id_is_none(text: str) -> None:
    assert ids.item_ref(text) is None
