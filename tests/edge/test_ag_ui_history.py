"""AG-UI: which of a client's messages are new to a thread."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from edge.errors import Refusal
from edge.protocols.ag_ui.conversation import entries_of, messages_snapshot
from edge.protocols.ag_ui.dialect import CURRENT
from edge.protocols.ag_ui.history import compare
from edge.protocols.ag_ui.request import AgUiRequest, parse
from edge.protocols.ag_ui.threads import KnownThread
from penstock.v1.message_pb2 import Message, Part, ReasoningPart, Role, TextPart, ToolCallPart, ToolResultPart
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


ANSWER = message(Role.ROLE_ASSISTANT, Part(ordinal=1, reasoning=ReasoningPart(text="Hm.")), Part(ordinal=2))
HISTORY = [
    HI,
    {"id": "msg_1.1", "role": "reasoning", "content": "Hm."},
    {"id": "msg_1", "role": "assistant", "content": "Ho."},
    {"id": "u2", "role": "user", "content": "And?"},
]
ASKED = message(Role.ROLE_USER, Part(text=TextPart(text="Hi")), id="msg_0", client_id="u1")


CALL = {"id": "c", "type": "function", "function": {"name": "look", "arguments": '{"at":1.0}'}}
PAGE = {
    "type": "document",
    "source": {"type": "data", "value": "aGk=", "mimeType": "application/pdf"},
    "metadata": {"filename": "a.pdf"},
}


def test_an_empty_thread_takes_the_whole_conversation() -> None:
    assert ids(new(*HISTORY)) == ["u1", "msg_1.1", "msg_1", "u2"]
    assert ids(new(*HISTORY, known=thread())) == ["u1", "msg_1.1", "msg_1", "u2"]


def test_a_thread_takes_what_it_does_not_know_by_id() -> None:
    assert ids(new(*HISTORY, known=thread(ASKED, ANSWER))) == ["u2"]


def test_what_the_active_run_has_said_so_far_is_known_too() -> None:
    assert ids(new(*HISTORY, known=thread(ASKED, said=(ANSWER,)))) == ["u2"]


def test_an_answer_that_the_thread_does_not_know_was_taken_back_and_stays_so() -> None:
    lost = {"id": "msg_7", "role": "assistant", "content": "Lost"}

    assert ids(new(*HISTORY[:3], lost, HISTORY[3], known=thread(ASKED, ANSWER))) == ["u2"]


def test_a_result_is_new_unless_its_call_has_one() -> None:
    call = message(Role.ROLE_ASSISTANT, Part(ordinal=1))
    known = message(Role.ROLE_TOOL, Part(tool_result=ToolResultPart(call_id="c")), id="msg_2")
    results = [{"id": f"o{one}", "role": "tool", "toolCallId": one, "content": "x"} for one in ("c", "d")]

    assert ids(new(HI, *results, known=thread(ASKED, call, known))) == ["od"]


@pytest.mark.parametrize(
    ("messages", "again"),
    [
        ([HI], ["u1"]),
        (HISTORY[:3], ["u1"]),  # it failed after it had said something
        ([HISTORY[2], {"id": "s", "role": "system", "content": "!"}, HI], ["s", "u1"]),
    ],
    ids=["never answered", "answered in part", "behind an answer"],
)
def test_with_nothing_new_the_last_question_is_asked_again(messages: list[Any], again: list[str]) -> None:
    system = message(Role.ROLE_SYSTEM, id="msg_3", client_id="s")

    assert ids(new(*messages, known=thread(ASKED, ANSWER, system))) == again


@pytest.mark.parametrize(
    "messages", [[HISTORY[2]], [{"id": "x", "role": "activity", "activityType": "a", "content": {}}]]
)
def test_without_any_question_there_is_nothing_to_answer(messages: list[Any]) -> None:
    with pytest.raises(Refusal) as refused:
        new(*messages, known=thread(ANSWER))

    assert refused.value.metadata["field"] == "messages"


@pytest.mark.parametrize(
    "sent",
    [
        HI,
        {**HI, "name": "Ann", "metadata": {"mood": 1.5}},
        {"id": "s", "role": "system", "content": "Be brief."},
        {"id": "u", "role": "user", "content": [{"type": "text", "text": "See"}, PAGE]},
        {"id": "a", "role": "assistant", "content": "Ho.", "toolCalls": [CALL], "metadata": {"n": 1}},
        {"id": "o", "role": "tool", "toolCallId": "c", "content": "sunny"},
        {"id": "o", "role": "tool", "toolCallId": "c", "content": "Broken.", "error": "Broken."},
        {"id": "y", "role": "reasoning", "content": "Hm.", "encryptedValue": '{"signature":"c2ln"}'},
    ],
    ids=["text", "name and metadata", "system", "file", "answer", "result", "error", "reasoning"],
)
def test_a_message_comes_back_from_its_thread_as_it_was_sent(sent: dict[str, Any]) -> None:
    [stored] = new(sent, known=thread())
    stored.id = "msg_5"

    assert json.loads(msgspec.json.encode(list(entries_of([stored], CURRENT)))) == [sent]


def test_a_question_that_was_asked_twice_is_shown_once_and_its_answers_where_their_calls_are() -> None:
    call = message(Role.ROLE_ASSISTANT, Part(tool_call=ToolCallPart(call_id="c", tool_name="look")), id="msg_2")
    answer = message(Role.ROLE_ASSISTANT, Part(text=TextPart(text="Ho.")), id="msg_3")
    result = message(Role.ROLE_TOOL, Part(tool_result=ToolResultPart(call_id="c")), id="msg_4")
    lost = message(Role.ROLE_TOOL, Part(tool_result=ToolResultPart(call_id="x")), id="msg_5")

    entries = entries_of([ASKED, call, ASKED, answer, result, lost], CURRENT)

    assert [entry["id"] for entry in entries] == ["u1", "msg_2", "msg_4", "msg_3", "msg_5"]


def test_the_conversation_before_a_run_is_the_threads_with_what_is_new_and_without_the_runs_own() -> None:
    own = message(Role.ROLE_ASSISTANT, Part(text=TextPart(text="Mine.")), id="msg_8")
    taken_back = message(Role.ROLE_ASSISTANT, Part(text=TextPart(text="Lost.")), id="msg_9")
    taken_back.retracted = True
    known = thread(ASKED, said=(own, taken_back))
    request = asked({**HI, "metadata": {"mood": 1}}, {"id": "u2", "role": "user", "content": "And?"})

    def ids_before(without: str) -> list[Any]:
        snapshot = messages_snapshot(compare(request, known).earlier(without=without), ())
        return [(one["id"], one.get("metadata")) for one in json.loads(snapshot[6:])["messages"]]

    assert ids_before("run_0") == [("u1", {"mood": 1}), ("u2", None)]
    assert ids_before("run_7") == [("u1", {"mood": 1}), ("msg_8", None), ("u2", None)]
