"""AG-UI requests: what they become, and what is refused with the name of the field."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from ag_ui.core import types

from core_service.domain.run_requests import check_thread_id
from edge.errors import Refusal
from edge.protocols.ag_ui.dialect import CURRENT, UNDECLARED
from edge.protocols.ag_ui.history import compare
from edge.protocols.ag_ui.origin import RunIds, ids_of, origin_json, request_key, thread_id_of
from edge.protocols.ag_ui.request import AgUiRequest, parse
from edge.protocols.ag_ui.state import KnownState, state_for_run, unknown_to_client
from edge.protocols.ag_ui.threads import KnownThread
from penstock.v1.message_pb2 import FilePart, Message, Part, Role, TextPart, ToolOutcome, ToolResultPart
from penstock.v1.run_pb2 import Run
from penstock.v1.thread_pb2 import Thread

HI = {"id": "u1", "role": "user", "content": "Hi"}


def body(*messages: Any, **fields: Any) -> dict[str, Any]:
    return {"threadId": "t", "runId": "r", "messages": list(messages) or [HI], **fields}


def asked(*messages: Any, **fields: Any) -> AgUiRequest:
    return parse(msgspec.Raw(json.dumps(body(*messages, **fields)).encode()))


def new(*messages: Any, known: KnownThread | None = None) -> list[Message]:
    return compare(asked(*messages), known).input()


def thread(*messages: Message, said: tuple[Message, ...] = ()) -> KnownThread:
    return KnownThread(Thread(id="t"), messages, Run(id="run_1") if said else None, said)


def message(role: Role.ValueType, *parts: Part, id: str = "msg_1", client_id: str = "") -> Message:
    return Message(id=id, role=role, parts=parts, client_id=client_id, run_id="run_0")


def ids(messages: list[Message]) -> list[str]:
    return [one.client_id for one in messages]


# ── the request ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_shapes_of_the_official_package_are_understood() -> None:
    source = types.UrlSource(value="https://x.example/a.png", mime_type="image/png")
    official = types.RunAgentInput(
        thread_id="t",
        run_id="r",
        protocol_version="1.0",
        parent_run_id="r0",
        state={"n": 1},
        messages=[
            types.SystemMessage(id="s", content="Be brief."),
            types.DeveloperMessage(id="d", content="Really."),
            types.UserMessage(id="u", content=[types.TextPart(text="See"), types.ImagePart(source=source)], name="Ann"),
            types.AssistantMessage(
                id="a",
                tool_calls=[types.ToolCall(id="c", function=types.FunctionCall(name="look", arguments='{"at": 1.0}'))],
            ),
            types.ToolMessage(id="o", tool_call_id="c", content='{"seen": true}'),
            types.ReasoningMessage(id="y", content="Hm.", encrypted_value="opaque"),
            types.ActivityMessage(id="x", activity_type="plan", content={}),
        ],
        tools=[types.Tool(name="look", description="Looks.", parameters={"type": "object"})],
        context=[types.Context(description="page", value="home")],
        forwarded_props={"model": "m"},
        resume=[types.ResumeEntry(interrupt_id="i", status="resolved", payload={"approved": True})],
    )
    request = parse(msgspec.Raw(official.model_dump_json(by_alias=True).encode()))

    assert (request.thread_id, request.ids, request.dialect) == ("t", RunIds("r", "r0"), CURRENT)
    assert request.state_json == '{"n":1}'
    [tool] = request.options.tools
    assert (tool.name, tool.description, tool.schema_json) == ("look", "Looks.", '{"type":"object"}')
    assert json.loads(request.options.agent_options_json) == {
        "context": [{"description": "page", "value": "home"}],
        "forwardedProps": {"model": "m"},
    }
    assert [(entry.interrupt_id, entry.status, bytes(entry.payload)) for entry in request.resume] == [
        ("i", "resolved", b'{"approved":true}')
    ]
    assert ids(compare(request, None).input()) == ["s", "d", "u", "a", "o", "y"]


def test_without_a_version_the_client_is_taken_for_the_last_one_before_it() -> None:
    assert asked().dialect is UNDECLARED
    assert asked(protocolVersion="1.0").dialect is CURRENT
    assert asked(protocolVersion="1.7").dialect is CURRENT


def test_a_retry_may_take_back_what_was_shown_since_this_protocol_has_a_word_for_it() -> None:
    assert not asked().options.HasField("retry_after_output")


@pytest.mark.parametrize(
    ("fields", "agent"),
    [
        ({}, ""),
        ({"agentId": "a"}, "a"),
        ({"forwardedProps": {"agent": "a"}}, "a"),
        ({"forwardedProps": {"agentId": "a"}}, "a"),
        ({"forwardedProps": {"agent_id": "a"}}, "a"),
        ({"forwardedProps": {"agent": 7}}, ""),
        ({"forwardedProps": [1]}, ""),
    ],
)
def test_the_body_may_name_the_agent(fields: dict[str, Any], agent: str) -> None:
    assert asked(**fields).agent_id == agent


@pytest.mark.parametrize("state", [None, {}])
def test_an_empty_state_is_no_wish_to_empty_the_threads(state: object) -> None:
    assert asked(state=state).state_json == ""


@pytest.mark.parametrize("state", [{"n": 1.0}, [], 0, False, "x"])
def test_any_other_state_is_passed_on_as_it_is(state: object) -> None:
    assert asked(state=state).state_json == json.dumps(state, separators=(",", ":"))


@pytest.mark.parametrize(
    ("broken", "field"),
    [
        ({"threadId": None}, "threadId"),
        ({"threadId": ""}, "threadId"),
        ({"runId": 7}, "runId"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"role": "user", "content": "no id"}]}, "messages[0]"),
        ({"messages": [HI, {"id": "b", "role": "user", "content": 7}]}, "messages[1].content"),
        ({"messages": [{"id": "b", "role": "robot", "content": ""}]}, "messages[0].role"),
        ({"messages": [{"id": "b", "role": "tool", "content": "x"}]}, "messages[0]"),
        ({"messages": [{"id": "b" * 257, "role": "user", "content": "x"}]}, "messages[0].id"),
        ({"messages": [{"id": "b", "role": "user", "content": [{"type": "hologram"}]}]}, "messages[0].content[0].type"),
        ({"tools": [{"description": "no name"}]}, "tools[0]"),
        ({"resume": [{"interruptId": "i", "status": "maybe"}]}, "resume[0].status"),
        ({"context": "home"}, "context"),
    ],
)
def test_what_the_protocol_does_not_know_is_refused_by_name(broken: dict[str, Any], field: str) -> None:
    with pytest.raises(Refusal) as refused:
        asked(**{"messages": [HI], **broken})

    assert (refused.value.status, refused.value.reason) == (400, "INVALID_ARGUMENT")
    assert refused.value.metadata["field"] == field
    assert field in refused.value.message


@pytest.mark.parametrize("missing", ["threadId", "runId", "messages"])
def test_what_the_protocol_requires_is_required(missing: str) -> None:
    fields = body()
    del fields[missing]

    with pytest.raises(Refusal) as refused:
        parse(msgspec.Raw(json.dumps(fields).encode()))

    assert missing in refused.value.message


def test_unknown_fields_are_ignored() -> None:
    assert asked({**HI, "mood": "good"}, hologram=True).thread_id == "t"


def test_a_thread_of_the_path_need_not_be_in_the_body_nor_may_it_differ() -> None:
    fields = body()
    same = parse(msgspec.Raw(json.dumps(fields).encode()), thread_id="t")
    del fields["threadId"]
    absent = parse(msgspec.Raw(json.dumps(fields).encode()), thread_id="t/2")

    assert (same.thread_id, absent.thread_id) == ("t", "t/2")
    with pytest.raises(Refusal) as refused:
        parse(msgspec.Raw(json.dumps(body()).encode()), thread_id="other")
    assert refused.value.metadata["field"] == "threadId"


# ── messages ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("piece", "file"),
    [
        (
            {"type": "image", "source": {"type": "data", "value": "aGk=", "mimeType": "image/png"}},
            FilePart(media_type="image/png", data=b"hi"),
        ),
        (
            {"type": "audio", "source": {"type": "url", "value": "https://x.example/a"}},
            FilePart(media_type="audio/*", url="https://x.example/a"),
        ),
        (
            {"type": "video", "source": {"type": "file", "value": "f-1", "provider": "x", "mimeType": "video/mp4"}},
            FilePart(media_type="video/mp4", file_id="f-1"),
        ),
        (
            {"type": "document", "source": {"type": "url", "value": "u"}, "metadata": {"filename": "a.pdf", "n": 1}},
            FilePart(name="a.pdf", media_type="application/octet-stream", url="u"),
        ),
        (
            {"type": "document", "source": {"type": "url", "value": "u"}, "metadata": "free"},
            FilePart(media_type="application/octet-stream", url="u"),
        ),
        (
            {"type": "binary", "mimeType": "image/png", "data": "aGk=", "filename": "a.png"},
            FilePart(name="a.png", media_type="image/png", data=b"hi"),
        ),
        ({"type": "binary", "mimeType": "a/b", "url": "u"}, FilePart(media_type="a/b", url="u")),
        ({"type": "binary", "mimeType": "a/b", "id": "i"}, FilePart(media_type="a/b", file_id="i")),
    ],
    ids=["data", "url", "handle", "named", "free metadata", "old data", "old url", "old id"],
)
def test_media_become_files(piece: dict[str, Any], file: FilePart) -> None:
    [said] = new({"id": "u", "role": "user", "content": [{"type": "text", "text": "See"}, piece]})

    assert [part.WhichOneof("content") for part in said.parts] == ["text", "file"]
    assert said.parts[1].file == file


@pytest.mark.parametrize(
    "piece",
    [
        {"type": "image", "source": {"type": "data", "value": "no base64!", "mimeType": "image/png"}},
        {"type": "binary", "mimeType": "a/b"},
    ],
    ids=["not base64", "nothing in it"],
)
def test_media_without_bytes_are_refused(piece: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as refused:
        new({"id": "u", "role": "user", "content": [piece]})

    assert refused.value.metadata["field"].startswith("messages[0].content[0]")


def test_an_empty_message_is_one_with_an_empty_text() -> None:
    [said] = new({"id": "u", "role": "user", "content": []})

    assert said.parts == [Part(text=TextPart(text=""))]


def test_names_and_metadata_of_a_message_reach_the_agent() -> None:
    [said] = new({**HI, "name": "Ann", "metadata": {"mood": 1.0}})
    [plain] = new({**HI, "metadata": {"mood": 1.0}})

    assert json.loads(said.metadata_json) == {"mood": 1.0, "name": "Ann"}
    assert plain.metadata_json == '{"mood":1.0}'


CALLED = {
    "id": "a",
    "role": "assistant",
    "toolCalls": [
        {"id": "c", "type": "function", "function": {"name": "look", "arguments": '{"at": 1.0}'}},
        {"id": "d", "type": "function", "function": {"name": "find", "arguments": ""}, "encryptedValue": "{}"},
        {"id": "e", "type": "function", "function": {"name": "find", "arguments": "[1"}},
    ],
}


def test_calls_of_a_conversation_that_moves_in_keep_their_arguments() -> None:
    _, answer = new(HI, CALLED)

    calls = [part.tool_call for part in answer.parts]
    assert [(call.call_id, call.tool_name, call.arguments_json, call.raw_arguments) for call in calls] == [
        ("c", "look", '{"at":1.0}', ""),
        ("d", "find", "{}", ""),
        ("e", "find", "", "[1"),
    ]
    assert [part.provider_json for part in answer.parts] == ["", "{}", ""]


@pytest.mark.parametrize(
    ("fields", "result"),
    [
        ({"content": "sunny"}, ToolResultPart(output_json='"sunny"')),
        ({"content": '{"n": 1.0}'}, ToolResultPart(output_json='{"n":1.0}')),
        ({"content": "42"}, ToolResultPart(output_json='"42"')),
        (
            {"content": [{"type": "text", "text": "[1,"}, {"type": "text", "text": " 2]"}]},
            ToolResultPart(output_json="[1,2]"),
        ),
        ({"content": "ignored", "error": "Broken."}, ToolResultPart(error_text="Broken.")),
    ],
    ids=["text", "object", "number", "parts", "error"],
)
def test_a_tool_message_becomes_the_result_of_its_call(fields: dict[str, Any], result: ToolResultPart) -> None:
    said = new(HI, CALLED, {"id": "o", "role": "tool", "toolCallId": "c", **fields})[-1]

    failed, succeeded = ToolOutcome.TOOL_OUTCOME_FAILED, ToolOutcome.TOOL_OUTCOME_SUCCEEDED
    result.MergeFrom(ToolResultPart(call_id="c", tool_name="look", outcome=failed if result.error_text else succeeded))
    assert (said.role, said.parts[0].tool_result) == (Role.ROLE_TOOL, result)


# ── ids and state ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_threads_id_is_the_clients_when_it_may_be() -> None:
    assert thread_id_of("0b5e-4c:x.y_z") == "0b5e-4c:x.y_z"


@pytest.mark.parametrize("client_id", ["with space", "-dash", "ünï", "x" * 129, "a/b"])
def test_any_other_id_is_always_the_same_one_of_ours(client_id: str) -> None:
    ours = thread_id_of(client_id)

    check_thread_id(ours)  # the core takes it
    assert ours == thread_id_of(client_id)
    assert ours == thread_id_of(ours)
    assert ours != thread_id_of(client_id + "2")


def test_a_run_is_made_once_per_thread_and_run_id() -> None:
    assert request_key("t", "r") == request_key("t", "r")
    assert len({request_key("t", "r"), request_key("t", "r2"), request_key("t2", "r")}) == 3
    assert len(request_key("t", "r" * 256)) <= 128


def test_what_is_kept_of_a_run_comes_back() -> None:
    assert ids_of(origin_json(RunIds("r", "r0")), otherwise="run_1") == RunIds("r", "r0")
    assert ids_of("", otherwise="run_1") == RunIds("run_1")


def test_a_state_waits_while_another_run_is_active_but_not_for_the_run_of_the_same_request() -> None:
    request = asked(state={"n": 1})
    other, same = Run(id="run_1"), Run(id="run_1", origin_json=origin_json(RunIds("r")))

    assert state_for_run(request, None) == '{"n":1}'
    assert state_for_run(request, KnownThread(Thread(id="t"), ())) == '{"n":1}'
    assert state_for_run(request, KnownThread(Thread(id="t"), (), other)) == ""
    assert state_for_run(request, KnownThread(Thread(id="t"), (), same)) == '{"n":1}'


@pytest.mark.parametrize(
    ("of_thread", "of_client", "told"),
    [
        ("", "", ""),
        ("", '{"n":1}', ""),
        ("{}", "", ""),
        ('{"n":1}', '{"n":1}', ""),
        ('{"n":1}', "", '{"n":1}'),
        ('{"n":1}', '{"n":2}', '{"n":1}'),
    ],
)
def test_a_client_is_told_the_state_that_it_does_not_have(of_thread: str, of_client: str, told: str) -> None:
    known = KnownThread(Thread(id="t", state_json=of_thread, state_version=7), ())

    assert unknown_to_client(known, of_client) == (KnownState(told, 7) if told else KnownState())
    assert unknown_to_client(None, of_client) == KnownState()
