"""What a chat request becomes: the run it asks for, the answers it brings, and what of its history is new."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw

from edge.errors import Refusal
from edge.protocols.ai_sdk.conversation import Conversation
from edge.protocols.ai_sdk.origin import Origin, origin_after, origin_of
from edge.protocols.ai_sdk.request import ChatRequest, parse
from edge.protocols.ai_sdk.turns import Answer, Ask, Attach, decide
from penstock.flat_json import flat
from penstock.v1.run_pb2 import InputKind, InputOutcome, InputRequest, Run, RunState

JSON = dict[str, Any]

EMPTY = Conversation()
ENDED = RunState.RUN_STATE_SUCCEEDED


def user(message_id: str, text: str = "Hello") -> JSON:
    return {"id": message_id, "role": "user", "parts": [{"type": "text", "text": text}]}


def assistant(message_id: str, *parts: JSON) -> JSON:
    return {"id": message_id, "role": "assistant", "parts": [{"type": "step-start"}, *parts]}


def tool(call_id: str, state: str, **fields: Any) -> JSON:
    return {"type": "tool-map", "toolCallId": call_id, "state": state, "input": {}, **fields}


def approved(input_id: str, *, yes: bool = True, **reason: str) -> JSON:
    approval = {"id": input_id, "approved": yes, **reason}
    return {
        "type": "dynamic-tool",
        "toolName": "book",
        "toolCallId": "call_1",
        "state": "approval-responded",
        "input": {},
        "approval": approval,
    }


def chat(*messages: JSON, **body: Any) -> ChatRequest:
    return request({"id": "chat_1", "messages": messages, "trigger": "submit-message", **body})


def request(body: JSON, **path: str) -> ChatRequest:
    return parse(Raw(json.dumps(body).encode()), **({"agent_id": "echo"} | path))


def held(*, newest: Run | None = None, **runs: str) -> Conversation:
    """A thread that knows these messages, each with the run that it came with."""
    return Conversation(has_messages=True, newest=newest, runs=runs)


def asked(chat: ChatRequest, conversation: Conversation = EMPTY) -> Ask:
    turn = decide(chat, conversation)
    assert isinstance(turn, Ask)
    return turn


def input_of(turn: Ask) -> list[JSON]:
    return [flat(message) for message in turn.create.input]


def said(turn: Ask) -> list[str]:
    """The texts of a run's input, one per message."""
    return ["".join(part.text.text for part in message.parts) for message in turn.create.input]


def reason(chat: ChatRequest, conversation: Conversation = EMPTY) -> str:
    with pytest.raises(Refusal) as refused:
        decide(chat, conversation)
    return f"{refused.value.status} {refused.value.reason} {refused.value.metadata.get('field')}"


# ── what is new ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_first_message_becomes_a_run_on_the_thread_of_the_chat() -> None:
    turn = asked(chat(user("u1") | {"metadata": {"lang": "de"}}, temperature=0.5, user="x"))

    create = turn.create
    assert (create.agent_id, create.thread_id, turn.instead_of) == ("echo", "chat_1", None)
    assert input_of(turn) == [
        {
            "role": "user",
            "parts": [{"kind": "text", "text": "Hello"}],
            "client_id": "u1",
            "metadata": Raw(b'{"lang":"de"}'),
        }
    ]
    assert json.loads(create.options.agent_options_json) == {"temperature": 0.5, "user": "x"}
    assert create.options.HasField("retry_after_output")
    assert not create.options.retry_after_output


def test_of_a_history_only_what_the_thread_does_not_know_is_appended() -> None:
    history = chat(user("u1"), assistant("run_1"), user("u2", "lost"), user("u3", "new"))

    assert said(asked(history, held(u1="run_1", msg_2="run_1"))) == ["lost", "new"]
    assert said(asked(history, held(u1="run_1", msg_2="run_1", u2="run_2"))) == ["new"]


def test_a_message_is_also_known_by_our_id() -> None:
    assert said(asked(chat(user("msg_1"), user("u2", "new")), held(msg_1="run_1"))) == ["new"]


def test_an_empty_thread_takes_over_a_whole_conversation() -> None:
    done = tool("call_1", "output-available", input={"zoom": 3}, output=[1])
    failed = {**tool("call_2", "output-error", errorText="no"), "type": "dynamic-tool", "toolName": "look"}
    answer = assistant("a1", {"type": "reasoning", "text": "hm"}, done, failed)
    answer["parts"] += [{"type": "step-start"}, {"type": "text", "text": "Seen."}, {"type": "custom", "kind": "x.y"}]

    turn = asked(chat(user("u1"), answer, user("u2")))

    client_call = {"call_id": "call_1", "tool_name": "map", "runner": "client", "arguments": Raw(b'{"zoom":3}')}
    agent_call = {"call_id": "call_2", "tool_name": "look", "runner": "agent", "arguments": Raw(b"{}")}
    output = {"call_id": "call_1", "tool_name": "map", "outcome": "succeeded", "output": Raw(b"[1]")}
    error = {"call_id": "call_2", "tool_name": "look", "outcome": "failed", "error_text": "no"}
    assert input_of(turn)[1:4] == [
        {
            "role": "assistant",
            "client_id": "a1",
            "parts": [
                {"kind": "reasoning", "text": "hm"},
                {"kind": "tool_call", **client_call},
                {"kind": "tool_call", **agent_call},
            ],
        },
        {"role": "tool", "parts": [{"kind": "tool_result", **output}, {"kind": "tool_result", **error}]},
        {"role": "assistant", "parts": [{"kind": "text", "text": "Seen."}]},
    ]


def test_an_answer_that_the_thread_does_not_know_is_not_appended_to_one_that_has_messages() -> None:
    history = chat(user("u1"), assistant("named by the app"), user("u2", "new"))

    assert said(asked(history, held(u1="run_1"))) == ["new"]


def test_a_request_may_hold_the_newest_message_alone_or_a_prompt() -> None:
    alone = asked(request({"id": "chat_1", "message": user("u2", "new")}), held(u1="run_1"))
    prompt = asked(request({"prompt": "Say it"}))

    assert (said(alone), alone.create.thread_id) == (["new"], "chat_1")
    assert (said(prompt), prompt.create.thread_id, prompt.create.request_id) == (["Say it"], "", "")


def test_a_person_may_send_files_and_data() -> None:
    inline = {"type": "file", "mediaType": "text/plain", "url": "data:text/plain;base64,aGk=", "filename": "a.txt"}
    linked = {"type": "file", "mediaType": "image/png", "url": "https://a.example/b.png"}
    data = {"type": "data-place", "id": "p1", "data": {"lat": 1.0}}

    turn = asked(chat(user("u1") | {"parts": [inline, linked, data]}))

    assert input_of(turn)[0]["parts"] == [
        {"kind": "file", "name": "a.txt", "media_type": "text/plain", "data": "aGk="},
        {"kind": "file", "media_type": "image/png", "url": "https://a.example/b.png"},
        {"kind": "data", "name": "place", "key": "p1", "value": Raw(b'{"lat":1.0}')},
    ]


def test_the_same_message_sent_twice_at_once_is_one_run() -> None:
    first, again = asked(chat(user("u1"))).create, asked(chat(user("u1"))).create
    other = asked(request({"id": "chat_2", "messages": [user("u1")]})).create

    assert first == again
    assert first.request_id.startswith("ai-sdk:")
    assert first.request_id != other.request_id


@pytest.mark.parametrize(
    ("messages", "body", "needs_ids"),
    [
        ([user("u1"), assistant("run_1"), user("u2")], {}, False),
        ([user("u2")], {}, False),
        ([user("u1"), assistant("run_1")], {"messageId": "run_1"}, False),
        ([user("u1"), assistant("run_1"), user("u2")], {"messageId": "u2"}, True),
        ([user("u1")], {"trigger": "regenerate-message"}, True),
        ([user("u1"), user("u2")], {}, True),
    ],
)
def test_the_threads_messages_are_read_only_where_the_request_leaves_open_what_is_new(
    messages: list[JSON], body: JSON, needs_ids: object
) -> None:
    assert chat(*messages, **body).needs_ids is needs_ids


def test_a_message_that_was_asked_already_is_answered_by_its_run() -> None:
    assert decide(chat(user("u1")), held(u1="run_1")) == Attach("run_1")


@pytest.mark.parametrize("body", [{"trigger": "regenerate-message"}, {"messageId": "u1"}])
def test_a_message_is_asked_again_by_regenerating_and_by_editing_it(body: JSON) -> None:
    turn = asked(chat(user("u1", "edited"), **body), held(u1="run_1"))

    assert input_of(turn) == [{"role": "user", "parts": [{"kind": "text", "text": "edited"}]}]  # its id is taken
    assert dict(turn.create.metadata) == {"asked_again": "u1"}
    assert (turn.create.request_id, turn.instead_of) == ("", None)


def test_asking_again_before_the_run_has_ended_takes_its_place() -> None:
    running = Run(id="run_1", state=RunState.RUN_STATE_RUNNING)
    regenerate = chat(user("u1"), trigger="regenerate-message")

    assert asked(regenerate, held(u1="run_1", newest=running)).instead_of == running


def test_regenerating_what_was_never_stored_asks_it() -> None:
    turn = asked(chat(user("u1"), trigger="regenerate-message"))

    assert (turn.create.input[0].client_id, turn.instead_of) == ("u1", None)


# ── results of the client's tools ────────────────────────────────────────────────────────────────────────────────────

PENDING = Run(id="run_1", state=ENDED, pending_call_ids=["call_1", "call_2"])
OUTPUT = tool("call_1", "output-available", output={"seen": 1.0})
ERROR = tool("call_2", "output-error", errorText="no map")


def test_results_of_the_clients_tools_are_the_input_of_a_run_that_goes_on_with_the_message() -> None:
    history = chat(user("u1"), assistant("run_1", OUTPUT, ERROR), messageId="run_1")

    turn = asked(history, held(u1="run_1", newest=PENDING))

    output = {"call_id": "call_1", "tool_name": "map", "outcome": "succeeded", "output": Raw(b'{"seen":1.0}')}
    error = {"call_id": "call_2", "tool_name": "map", "outcome": "failed", "error_text": "no map"}
    assert input_of(turn) == [
        {"role": "tool", "parts": [{"kind": "tool_result", **output}, {"kind": "tool_result", **error}]}
    ]
    assert origin_of(Run(origin_json=turn.create.origin_json)) == Origin("run_1", ("run_1",))


def test_a_third_run_of_a_message_knows_both_before_it() -> None:
    second = Run(id="run_2", state=ENDED, pending_call_ids=["call_1"], origin_json=origin_after(PENDING))

    turn = asked(chat(assistant("run_1", OUTPUT)), held(u1="run_1", newest=second))

    assert origin_of(Run(origin_json=turn.create.origin_json)) == Origin("run_1", ("run_1", "run_2"))


def test_results_that_were_not_sent_come_before_what_is_said_next() -> None:
    history = chat(user("u1"), assistant("run_1", OUTPUT), user("u2", "never mind"))

    turn = asked(history, held(u1="run_1", newest=PENDING))

    assert [message["role"] for message in input_of(turn)] == ["tool", "user"]
    assert turn.create.origin_json == ""  # what answers it is a message of its own


@pytest.mark.parametrize(
    ("answer", "newest"),
    [
        (assistant("run_1", {"type": "text", "text": "Done."}), Run(id="run_1", state=ENDED)),
        (assistant("run_1", OUTPUT), Run(id="run_1", state=ENDED)),  # had its results already
        (assistant("run_0", OUTPUT), PENDING),  # an earlier answer
        (assistant("run_1", tool("call_1", "input-available")), PENDING),
        (assistant("run_1", OUTPUT), None),
        (assistant("run_1"), Run(id="run_1", state=RunState.RUN_STATE_RUNNING)),
        (assistant("run_1"), Run(id="run_1", state=RunState.RUN_STATE_WAITING)),
    ],
)
def test_an_answer_that_brings_nothing_is_refused(answer: JSON, newest: Run | None) -> None:
    assert reason(chat(user("u1"), answer), held(u1="run_1", newest=newest)) == "400 INVALID_ARGUMENT messages"


# ── answers to a run that waits ──────────────────────────────────────────────────────────────────────────────────────

APPROVAL = InputRequest(id="inp_1", kind=InputKind.INPUT_KIND_APPROVAL, call_id="call_1")
SECOND = InputRequest(id="inp_2", kind=InputKind.INPUT_KIND_APPROVAL, call_id="call_2")
CLIENT_TOOL = InputRequest(id="inp_3", kind=InputKind.INPUT_KIND_CLIENT_TOOL, call_id="call_2")
QUESTION = InputRequest(id="inp_4", kind=InputKind.INPUT_KIND_QUESTION)
ANSWERED, DECLINED = InputOutcome.INPUT_OUTCOME_ANSWERED, InputOutcome.INPUT_OUTCOME_DECLINED


def waiting(*questions: InputRequest, **fields: Any) -> Conversation:
    return held(u1="run_1", newest=Run(id="run_1", state=RunState.RUN_STATE_WAITING, inputs=questions, **fields))


def answered(chat: ChatRequest, conversation: Conversation) -> Answer:
    turn = decide(chat, conversation)
    assert isinstance(turn, Answer)
    return turn


def answers_of(turn: Answer) -> list[tuple[str, int, str]]:
    return [(answer.input_id, answer.outcome, answer.answer_json) for answer in turn.submit.answers]


@pytest.mark.parametrize(
    ("part", "answer"),
    [
        (approved("inp_1"), '{"approved":true}'),
        (approved("inp_1", yes=False), '{"approved":false}'),
        (approved("inp_1", yes=False, reason="too dear"), '{"approved":false,"comment":"too dear"}'),
    ],
)
def test_an_approval_response_answers_the_question_of_its_id(part: JSON, answer: str) -> None:
    turn = answered(chat(user("u1"), assistant("run_1", part), messageId="run_1"), waiting(APPROVAL))

    assert answers_of(turn) == [("inp_1", ANSWERED, answer)]
    assert (turn.submit.run_id, turn.is_whole, turn.inputs) == ("run_1", True, frozenset({"inp_1"}))


def test_a_client_tools_result_answers_the_question_for_it() -> None:
    done = waiting(CLIENT_TOOL)

    output = answered(chat(assistant("run_1", tool("call_2", "output-available", output=[1.0]))), done)
    error = answered(chat(assistant("run_1", ERROR)), done)

    assert answers_of(output) == [("inp_3", ANSWERED, '{"output":[1.0]}')]
    assert answers_of(error) == [("inp_3", ANSWERED, '{"error_text":"no map"}')]


def test_some_of_the_answers_are_sent_and_the_rest_is_waited_for() -> None:
    turn = answered(chat(assistant("run_1", approved("inp_1"))), waiting(APPROVAL, SECOND, QUESTION))

    assert (turn.inputs, turn.is_whole) == (frozenset({"inp_1"}), False)


def test_other_questions_are_answered_in_the_body() -> None:
    given = {"inp_4": {"answer": "Bern", "n": 1.0}, "inp_1": None}
    turn = answered(chat(assistant("run_1"), answers=given), waiting(QUESTION, APPROVAL))

    assert answers_of(turn) == [("inp_4", ANSWERED, '{"answer":"Bern","n":1.0}'), ("inp_1", DECLINED, "")]
    assert turn.is_whole


def test_an_answer_keeps_the_origin_of_the_run() -> None:
    conversation = waiting(APPROVAL, origin_json=origin_after(Run(id="run_0")))

    turn = answered(chat(assistant("run_0", approved("inp_1"))), conversation)

    assert origin_of(Run(origin_json=turn.submit.origin_json)).message_id == "run_0"


@pytest.mark.parametrize("state", [RunState.RUN_STATE_RUNNING, ENDED])
def test_an_approval_that_was_given_already_leads_to_what_followed_it(state: RunState.ValueType) -> None:
    history = chat(user("u1"), assistant("run_1", approved("inp_1")))

    assert decide(history, held(u1="run_1", newest=Run(id="run_1", state=state))) == Attach(
        "run_1", frozenset({"inp_1"})
    )


# ── the request ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("path", "body", "agent_id"),
    [
        ({"agent_id": "think"}, {"agent": "tool"}, "think"),
        ({}, {"agent": "tool"}, "tool"),
        ({}, {"agentId": "tool"}, "tool"),
        ({"default_agent": "slow"}, {}, "slow"),
        ({"default_agent": "slow"}, {"agent": "tool"}, "tool"),
    ],
)
def test_the_agent_is_that_of_the_path_or_the_body_or_the_default(path: JSON, body: JSON, agent_id: str) -> None:
    assert request({"prompt": "x", **body}, **({"agent_id": ""} | path)).agent_id == agent_id


@pytest.mark.parametrize(
    ("path", "body", "thread_id"),
    [({}, {"id": "c"}, "c"), ({}, {"threadId": "c"}, "c"), ({"thread_id": "t"}, {"id": "c"}, "t"), ({}, {}, "")],
)
def test_the_thread_is_that_of_the_path_or_the_chat(path: JSON, body: JSON, thread_id: str) -> None:
    assert request({"prompt": "x", **body}, **path).thread_id == thread_id


SCHEMA = {"type": "object", "properties": {"n": {"maximum": 1.0}}}


@pytest.mark.parametrize(
    "tools",
    [
        {"map": {"description": "Shows.", "inputSchema": SCHEMA}},
        {"map": {"description": "Shows.", "parameters": SCHEMA}},
        [{"name": "map", "description": "Shows.", "inputSchema": SCHEMA}],
    ],
)
def test_the_clients_tools_come_as_a_list_or_by_name(tools: Any) -> None:
    [offered] = request({"prompt": "x", "tools": tools}).options.tools

    assert flat(offered) == {
        "name": "map",
        "description": "Shows.",
        "schema": Raw(b'{"type":"object","properties":{"n":{"maximum":1.0}}}'),
    }


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], ""),
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0]"),
        ({"messages": [user("u1"), {"role": "robot", "parts": []}]}, "messages[1]"),
        ({"messages": [{"role": "user", "parts": []}]}, "messages[0].parts"),
        ({"messages": [{"role": "user", "parts": ["hi"]}]}, "messages[0].parts[0]"),
        ({"messages": [{"role": "user", "parts": [{"type": "text", "text": 1}]}]}, "messages[0].parts[0]"),
        ({"messages": [{"role": "user", "parts": [{"type": "hologram"}]}]}, "messages[0].parts[0].type"),
        ({"messages": [{"role": "user", "parts": [{"type": "file", "url": "ftp://x"}]}]}, "messages[0].parts[0].url"),
        ({"messages": [{"role": "user", "parts": [{"type": "file", "url": "data:x"}]}]}, "messages[0].parts[0].url"),
        ({"prompt": 1}, "prompt"),
        ({"prompt": "x", "id": 7}, "id"),
        ({"prompt": "x", "tools": "map"}, "tools"),
        ({"prompt": "x", "answers": []}, "answers"),
    ],
)
def test_what_cannot_be_understood_is_refused_by_name(body: Any, field: str) -> None:
    with pytest.raises(Refusal) as refused:
        decide(request(body), EMPTY)

    assert (refused.value.status, refused.value.reason) == (400, "INVALID_ARGUMENT")
    assert refused.value.metadata["field"] == field


def test_without_any_agent_a_request_is_refused() -> None:
    with pytest.raises(Refusal) as refused:
        request({"prompt": "x"}, agent_id="")

    assert (refused.value.reason, refused.value.metadata["field"]) == ("INVALID_ARGUMENT", "agent")


def test_what_stands_in_earlier_messages_is_not_looked_into() -> None:
    strange = assistant("run_1", {"type": 7}, {"type": "file", "url": "ftp://x"})

    assert said(asked(chat(user("u1"), strange, user("u2", "new")), held(u1="run_1"))) == ["new"]
