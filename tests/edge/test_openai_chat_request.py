"""What a chat completion request becomes: a run to create, or a refusal that names the culprit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from msgspec import Raw

from edge.errors import Refusal
from edge.protocols.openai_chat.history import behind_last_answer
from edge.protocols.openai_chat.request import ChatRequest, parse
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
from penstock.v1.run_pb2 import ClientTool, RunOptions
from penstock.v1.run_service_pb2 import CreateRunRequest

HELLO = [{"role": "user", "content": "Hello"}]


def request(headers: dict[str, str] | None = None, **fields: Any) -> ChatRequest:
    body = {"model": "echo", "messages": HELLO, **fields}
    return parse(Raw(json.dumps(body).encode()), headers or {})


def messages(*chat: Mapping[str, Any]) -> list[Message]:
    return list(request(messages=list(chat)).create.input)


def text(words: str) -> Part:
    return Part(text=TextPart(text=words))


def test_the_smallest_request_is_a_run_on_a_thread_of_its_own() -> None:
    assert request() == ChatRequest(
        CreateRunRequest(
            agent_id="echo",
            input=[Message(role=Role.ROLE_USER, parts=[text("Hello")])],
            options=RunOptions(retry_after_output=False),
        ),
        is_stream=False,
        includes_usage=False,
    )


def test_streaming_and_its_usage_are_asked_for() -> None:
    asked = request(stream=True, stream_options={"include_usage": True, "include_obfuscation": False})
    unasked = request(stream=None, stream_options=None)

    assert (asked.is_stream, asked.includes_usage) == (True, True)
    assert (unasked.is_stream, unasked.includes_usage) == (False, False)


def test_roles_and_names_are_kept() -> None:
    assert messages(
        {"role": "developer", "content": "Be brief."},
        {"role": "system", "content": [{"type": "text", "text": "Be kind."}]},
        {"role": "user", "content": "Hi", "name": "Ada"},
        {"role": "assistant", "content": "Hello", "refusal": None, "audio": None, "reasoning_content": "hm"},
    ) == [
        Message(role=Role.ROLE_SYSTEM, parts=[text("Be brief.")]),
        Message(role=Role.ROLE_SYSTEM, parts=[text("Be kind.")]),
        Message(role=Role.ROLE_USER, parts=[text("Hi")], metadata_json='{"name":"Ada"}'),
        Message(role=Role.ROLE_ASSISTANT, parts=[Part(reasoning=ReasoningPart(text="hm")), text("Hello")]),
    ]


def test_an_empty_answer_still_has_a_part() -> None:
    assert messages({"role": "assistant", "content": None}) == [Message(role=Role.ROLE_ASSISTANT, parts=[text("")])]


def test_images_audio_and_files_become_file_parts() -> None:
    content = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png?size=2", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/image/7"}},
        {"type": "image_url", "image_url": {"url": "data:image/gif;base64,R0lG"}},
        {"type": "input_audio", "input_audio": {"data": "UklG", "format": "mp3"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBE", "filename": "a.pdf"}},
        {"type": "file", "file": {"file_data": "aGk=", "filename": "a.txt"}},
        {"type": "file", "file": {"file_id": "file-1"}},
    ]

    [message] = messages({"role": "user", "content": content})

    assert list(message.parts) == [
        text("What is this?"),
        Part(file=FilePart(url="https://example.org/a.png?size=2", media_type="image/png")),
        Part(file=FilePart(url="https://example.org/image/7", media_type="image/*")),
        Part(file=FilePart(data=b"GIF", media_type="image/gif")),
        Part(file=FilePart(data=b"RIF", media_type="audio/mpeg")),
        Part(file=FilePart(data=b"%PD", media_type="application/pdf", name="a.pdf")),
        Part(file=FilePart(data=b"hi", media_type="text/plain", name="a.txt")),
        Part(file=FilePart(file_id="file-1")),
    ]


def test_calls_and_results_are_joined_by_id() -> None:
    def call(call_id: str, arguments: str) -> dict[str, Any]:
        return {"id": call_id, "type": "function", "function": {"name": "look", "arguments": arguments}}

    def result(call_id: str, content: object) -> dict[str, Any]:
        return {"role": "tool", "tool_call_id": call_id, "content": content}

    said = {"role": "assistant", "tool_calls": [call("a", '{ "n": 1.00 }'), call("b", ""), call("c", "{oops")]}

    calls, *results = messages(
        said,
        result("a", '{"seen": [1, 2]}'),
        result("b", [{"type": "text", "text": "4"}, {"type": "text", "text": "2"}]),
        result("elsewhere", "none"),
    )

    client, succeeded = ToolRunner.TOOL_RUNNER_CLIENT, ToolOutcome.TOOL_OUTCOME_SUCCEEDED
    assert [part.tool_call for part in calls.parts] == [
        ToolCallPart(call_id="a", tool_name="look", runner=client, arguments_json='{"n":1.00}'),
        ToolCallPart(call_id="b", tool_name="look", runner=client, arguments_json="{}"),
        ToolCallPart(call_id="c", tool_name="look", runner=client, raw_arguments="{oops"),
    ]
    assert [result.parts[0].tool_result for result in results] == [
        ToolResultPart(call_id="a", tool_name="look", outcome=succeeded, output_json='{"seen":[1,2]}'),
        ToolResultPart(call_id="b", tool_name="look", outcome=succeeded, output_json='"42"'),
        ToolResultPart(call_id="elsewhere", outcome=succeeded, output_json='"none"'),
    ]
    assert {result.role for result in results} == {Role.ROLE_TOOL}


def test_tools_are_offered_unless_none_may_be_called() -> None:
    function = {"name": "look", "description": "Looks.", "parameters": {"type": "object", "x": 1.0}, "strict": True}
    tools = [{"type": "function", "function": function}, {"type": "function", "function": {"name": "bare"}}]

    offered = request(tools=tools, tool_choice="auto").create.options.tools

    schema = '{"type":"object","x":1.0}'
    assert list(offered) == [
        ClientTool(name="look", description="Looks.", schema_json=schema),
        ClientTool(name="bare"),
    ]
    assert not request(tools=tools, tool_choice="none").create.options.tools


def test_what_only_an_agent_can_honour_is_handed_on_as_written() -> None:
    body = b'{"model":"echo", "messages":[{"role":"user","content":"x"}], "temperature": 0.10, "seed":9007199254740993,'
    body += b'"response_format": {"type": "json_object"}, "n":1, "stop":null, "stream":false}'

    options = parse(Raw(body), {}).create.options.agent_options_json

    assert options == '{"temperature":0.10,"seed":9007199254740993,"response_format":{"type":"json_object"}}'


def test_a_thread_is_named_by_header_or_metadata_and_labels_are_kept() -> None:
    labels = {"thread_id": "thr_body", "team": "blue"}

    by_body = request(metadata=labels).create
    by_header = request({"X-Thread-Id": "thr_header", "Idempotency-Key": "key-1"}, metadata=labels).create

    assert (by_body.thread_id, dict(by_body.metadata)) == ("thr_body", {"team": "blue"})
    assert (by_header.thread_id, by_header.request_id) == ("thr_header", "key-1")


def test_behind_the_last_answer_is_what_the_client_says_anew() -> None:
    chat = messages(
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "1"},
        {"role": "tool", "tool_call_id": "a", "content": "2"},
        {"role": "user", "content": "three"},
    )

    assert behind_last_answer(chat) == chat[3:]
    assert behind_last_answer(chat[:2]) == chat[:2]
    assert behind_last_answer(chat[:3]) == []


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": ""}, "model"),
        ({"model": 7}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0]"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0]"),
        ({"n": 2}, "n"),
        ({"n": "1"}, "n"),
        ({"stream": "yes"}, "stream"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        (
            {"tools": [{"type": "function", "function": {"name": "x", "parameters": []}}]},
            "tools[0].function.parameters",
        ),
        ({"metadata": {"a": 1}}, "metadata[...]"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Refusal) as refused:
        request(**fields)

    assert (refused.value.status, refused.value.reason) == (400, "INVALID_ARGUMENT")
    assert refused.value.metadata.get("field") == param


@pytest.mark.parametrize(
    ("content", "param"),
    [
        ({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}, "image_url.url"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64"}}, "image_url.url"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,é"}}, "image_url.url"),
        ({"type": "input_audio", "input_audio": {"data": "?", "format": "wav"}}, "input_audio.data"),
        ({"type": "file", "file": {"filename": "a.pdf"}}, "file"),
    ],
)
def test_bytes_that_cannot_be_read_are_refused_by_place(content: dict[str, Any], param: str) -> None:
    with pytest.raises(Refusal) as refused:
        messages({"role": "system", "content": "x"}, {"role": "user", "content": [content]})

    assert refused.value.metadata["field"] == f"messages[1].content[0].{param}"


@pytest.mark.parametrize("body", [b"[]", b"{}", b'"text"', b'{"model":"\\ud800","messages":[]}'])
def test_a_body_of_another_shape_is_refused(body: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        parse(Raw(body), {})

    assert refused.value.status == 400
