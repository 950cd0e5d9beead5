"""AG-UI's official clients against a running Penstock: 1.0, and 0.0.59, which CopilotKit uses."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aiohttp
import pytest

from penstock.demo import SLOW_PIECES

if TYPE_CHECKING:
    from tests.cli.up import Up
    from tests.clients.conftest import Node

PACKAGES = {"1.0.0": "@ag-ui/client", "0.0.59": "@ag-ui/client-0"}
WORDS = "one two three four"
WEATHER = {"name": "weather", "description": "Tells the weather.", "parameters": {"type": "object"}}
RUN: dict[str, Any] = {"act": "run"}
CONNECT: dict[str, Any] = {"act": "connect"}
LIMIT = 30.0


@dataclass(frozen=True, slots=True)
class Client:
    """One of the official clients, before the agents of one Penstock."""

    node: Node
    base_url: str
    version: str

    def url(self, agent: str) -> str:
        return f"{self.base_url}/v1/ag-ui/{agent}"

    def play(self, agent: str, *plan: dict[str, Any]) -> list[Any]:
        """Carry out a plan and return what came of each of its runs. No client may have anything to warn of."""
        results = self.node.run("ag_ui.mjs", PACKAGES[self.version], self.url(agent), json.dumps(plan))
        assert [result["warnings"] for result in results] == [[]] * len(results)
        return results

    @property
    def is_current(self) -> bool:
        return self.version == "1.0.0"


@pytest.fixture(params=PACKAGES)
def client(request: pytest.FixtureRequest, node: Node, penstock_up: Up) -> Client:
    return Client(node, penstock_up.base_url, request.param)


def say(text: str, message_id: str = "") -> dict[str, Any]:
    return {"act": "say", "message": {"id": message_id or uuid.uuid4().hex, "role": "user", "content": text}}


def new(thread_id: str, **config: Any) -> dict[str, Any]:
    return {"act": "new", "config": {"threadId": thread_id, **config}}


def fresh_thread() -> str:
    return uuid.uuid4().hex


def kinds(result: Any) -> list[str]:
    return [event["type"] for event in result["events"]]


def said(result: Any) -> list[tuple[str, str]]:
    return [(message["role"], str(message.get("content", "")).strip()) for message in result["messages"]]


async def get(url: str) -> Any:
    async with aiohttp.request("GET", url, timeout=aiohttp.ClientTimeout(total=LIMIT)) as response:
        return await response.json()


def test_text_arrives_word_by_word_and_becomes_a_message(client: Client) -> None:
    [result] = client.play("echo", say(WORDS), RUN)

    assert [event["delta"] for event in result["events"] if "delta" in event] == [word + " " for word in WORDS.split()]
    assert said(result)[1:] == [("assistant", WORDS)]
    assert result["newMessages"] == result["messages"][1:]
    assert result["outcome"] == "success"
    assert "failure" not in result


def test_the_server_answers_in_the_dialect_of_the_client(client: Client) -> None:
    [result] = client.play("echo", say(WORDS), RUN)

    assert result["events"][0].get("protocolVersion") == ("1.0" if client.is_current else None)


def test_any_text_comes_back_as_it_was_sent(client: Client) -> None:
    text = 'naïve 水 \u2028 😀 "quoted" \\ back'

    [result] = client.play("echo", say(text), RUN)

    assert said(result)[1][1] == " ".join(text.split())


def test_many_deltas_arrive_in_order_and_complete(client: Client) -> None:
    [result] = client.play("count", say('{"deltas": 2000}'), RUN)

    assert said(result)[1][1].split() == [str(number + 1) for number in range(2000)]


def test_reasoning_is_a_message_of_its_own(client: Client) -> None:
    [result] = client.play("think", say(WORDS), RUN)

    assert [role for role, _ in said(result)] == ["user", "reasoning", "assistant"]
    assert [kind for kind in kinds(result) if not kind.endswith("CONTENT")][1:5] == [
        *("REASONING_START", "REASONING_MESSAGE_START", "REASONING_MESSAGE_END", "REASONING_END")
    ]


def test_a_tool_of_the_agent_comes_with_its_result(client: Client) -> None:
    [result] = client.play("tool", say("Bern"), RUN)

    _, asking, answer, told = result["messages"]
    [call] = asking["toolCalls"]
    assert json.loads(call["function"]["arguments"]) == {"place": "Bern", "unit": "celsius"}
    assert (answer["role"], answer["toolCallId"]) == ("tool", call["id"])
    assert json.loads(answer["content"])["temperature"] == 17
    assert "17 degrees in Bern" in told["content"]


def test_a_tool_of_the_client_goes_round_once(client: Client) -> None:
    tools = {"parameters": {"tools": [WEATHER]}}
    thread = new(fresh_thread())
    [first] = client.play("ctool", thread, say(WORDS, "u1"), RUN | tools)
    [call] = first["messages"][-1]["toolCalls"]
    history = [{"act": "say", "message": message} for message in first["messages"]]
    result = {"id": "o1", "role": "tool", "toolCallId": call["id"], "content": '{"sky": "marbled"}'}

    [second] = client.play("ctool", thread, *history, {"act": "say", "message": result}, RUN | tools)

    assert (call["function"]["name"], first["outcome"]) == ("weather", "success")
    assert first.get("pendingToolCallIds") == ([call["id"]] if client.is_current else None)
    assert "marbled" in second["messages"][-1]["content"]
    assert second.get("pendingToolCallIds") == ([] if client.is_current else None)


def test_a_failed_run_is_an_error_after_what_it_said(client: Client) -> None:
    [result] = client.play("error", say(WORDS), RUN)

    assert kinds(result)[-1] == "RUN_ERROR"
    assert [error["code"] for error in result["errors"]] == ["AGENT_ERROR"]
    assert said(result)[-1] == ("assistant", "This will not end well.")
    assert "failure" not in result


def test_a_failed_question_can_be_asked_again(client: Client) -> None:
    first, second = client.play("error", say(WORDS), RUN, RUN)

    assert kinds(first)[-1] == kinds(second)[-1] == "RUN_ERROR"
    assert len(said(second)) == len(said(first)) + 1


def test_a_stop_ends_the_run_in_order(client: Client) -> None:
    thread = fresh_thread()
    stop = {"abortAfter": 3, "post": f"{client.url('slow')}/stop/{thread}"}

    [result] = client.play("slow", new(thread), say(WORDS), RUN | stop)

    assert kinds(result)[-2:] == ["TEXT_MESSAGE_END", "RUN_FINISHED"]
    assert result["outcome"] == ("cancelled" if client.is_current else "success")
    assert said(result)[-1][1].startswith("The water comes")
    assert "it." not in said(result)[-1][1]


def test_an_aborted_stream_leaves_the_run_alone_and_connecting_goes_on_in_the_middle(client: Client) -> None:
    aborted, connected = client.play("slow", say(WORDS), RUN | {"abortAfter": 3}, CONNECT)

    assert aborted["errors"][0]["code"] == "abort"
    assert kinds(connected)[:3] == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "TEXT_MESSAGE_START"]
    assert 0 < kinds(connected).count("TEXT_MESSAGE_CONTENT") < len(SLOW_PIECES)
    assert said(connected)[1:] == [("assistant", "".join(SLOW_PIECES))]
    assert connected["events"][0]["runId"] == aborted["events"][0]["runId"]


def test_another_client_may_connect_to_what_runs(client: Client) -> None:
    thread = fresh_thread()

    _, connected = client.play("slow", new(thread), say(WORDS), RUN | {"abortAfter": 3}, new(thread), CONNECT)

    assert said(connected) == [("user", WORDS), ("assistant", "".join(SLOW_PIECES))]


async def test_a_conversation_goes_on_by_ids_and_can_be_read_by_others(client: Client) -> None:
    thread = fresh_thread()

    first, second, connected = client.play(
        "think", new(thread), say("one"), RUN, say("two words"), RUN, new(thread), CONNECT
    )
    known = (await get(f"{client.base_url}/v1/threads/{thread}/messages"))["messages"]

    assert second["messages"][: len(first["messages"])] == first["messages"]
    assert second["messages"][-1]["content"] == "You said 2 words."
    assert connected["messages"] == second["messages"]
    assert [message["role"] for message in known] == ["user", "assistant", "user", "assistant"]


def test_a_thread_may_be_called_anything(client: Client) -> None:
    threads = [name + fresh_thread() for name in ("with space", "a/b?c", "ünï", "x" * 200)]
    plan = [step for thread in threads for step in (new(thread), say(WORDS), RUN, new(thread), CONNECT)]

    results = client.play("echo", *plan)

    for thread, ran, connected in zip(threads, results[::2], results[1::2], strict=True):
        assert {event["threadId"] for event in ran["events"] if "threadId" in event} == {thread}
        assert connected["messages"] == ran["messages"]


def test_stopping_a_thread_with_a_name_of_its_own(client: Client) -> None:
    thread = f"a b/{fresh_thread()}"
    stop = {"abortAfter": 1, "post": f"{client.url('slow')}/stop/{quote(thread, safe='')}"}

    [result] = client.play("slow", new(thread), say(WORDS), RUN | stop)

    assert result["outcome"] == ("cancelled" if client.is_current else "success")


def test_connecting_to_a_thread_that_nobody_has_used_changes_nothing(client: Client) -> None:
    [result] = client.play("echo", say("not sent yet"), CONNECT)

    assert kinds(result) == ["RUN_STARTED", "RUN_FINISHED"]
    assert said(result) == [("user", "not sent yet")]


async def test_the_clients_state_becomes_the_threads(client: Client) -> None:
    thread, state = fresh_thread(), {"cities": ["Bern"], "n": 1.5}

    ran, connected = client.play(
        "echo", new(thread), {"act": "state", "state": state}, say(WORDS), RUN, new(thread), CONNECT
    )

    assert (await get(f"{client.base_url}/v1/threads/{thread}"))["state"] == state
    assert ran["state"] == connected["state"] == state


def test_a_state_of_the_client_survives_its_runs(client: Client) -> None:
    state = {"cities": ["Bern"]}

    [result] = client.play("echo", {"act": "state", "state": state}, say(WORDS), RUN)

    assert result["state"] == state


def test_an_unknown_agent_is_a_failure_with_a_status_and_a_reason(client: Client) -> None:
    [result] = client.play("nobody", say(WORDS), RUN)

    assert result["failure"]["status"] == 404
    assert result["failure"]["payload"]["error"] == "AGENT_NOT_FOUND"
    assert result["events"] == []


def test_a_malformed_request_is_a_failure_that_names_the_field(client: Client) -> None:
    tools = {"parameters": {"tools": [WEATHER | {"name": ""}]}}

    [result] = client.play("echo", say(WORDS), RUN | tools)

    assert result["failure"]["status"] == 400
    assert result["failure"]["payload"]["field"] == "tools[0].name"


def test_nothing_to_answer_is_a_failure(client: Client) -> None:
    [result] = client.play("echo", RUN)

    assert (result["failure"]["status"], result["failure"]["payload"]["field"]) == (400, "messages")


def test_images_and_files_are_taken(client: Client) -> None:
    content = [
        {"type": "text", "text": WORDS},
        {"type": "image", "source": {"type": "url", "value": "https://x.example/a.png", "mimeType": "image/png"}},
        {"type": "document", "source": {"type": "data", "value": "aGk=", "mimeType": "text/plain"}},
    ]
    message = {"act": "say", "message": {"id": "u1", "role": "user", "content": content}}
    thread = fresh_thread()

    ran, connected = client.play("echo", new(thread), message, RUN, new(thread), CONNECT)

    assert said(ran)[-1] == ("assistant", WORDS)
    assert connected["messages"][0]["content"] == content


@pytest.mark.parametrize("path", ["/ag-ui/agent", "/v1/ag-ui/run"])
def test_the_body_may_name_the_agent(client: Client, path: str) -> None:
    step = {"url": client.base_url + path, "parameters": {"forwardedProps": {"agent": "echo"}}}

    [result] = client.play("echo", say(WORDS), RUN | step)

    assert said(result)[-1] == ("assistant", WORDS)


@pytest.mark.parametrize("is_approved", [True, False])
async def test_an_interrupt_is_answered_and_the_run_goes_on(client: Client, is_approved: object) -> None:
    paused, resumed = client.play("approve", say("Book two seats."), RUN, RUN | {"answer": {"approved": is_approved}})

    [interrupt] = paused["pendingInterrupts"]
    call_id = interrupt["toolCallId"]
    assert (paused["outcome"], interrupt["reason"]) == ("interrupt", "tool_call")
    assert "MESSAGES_SNAPSHOT" in kinds(paused)
    assert "TOOL_CALL_START" not in kinds(resumed)
    assert [message["toolCallId"] for message in resumed["messages"] if message["role"] == "tool"] == [call_id]
    assert (resumed["outcome"], resumed["pendingInterrupts"]) == ("success", [])
    assert resumed["events"][0]["runId"] != paused["events"][0]["runId"]


async def test_an_interrupt_is_there_for_who_connects_later_and_can_be_answered_there(client: Client) -> None:
    thread = fresh_thread()

    _, connected, resumed = client.play(
        "approve", new(thread), say("Book."), RUN, new(thread), CONNECT, RUN | {"answer": {"approved": True}}
    )

    assert len(connected["pendingInterrupts"]) == 1
    assert (resumed["outcome"], resumed["pendingInterrupts"]) == ("success", [])


async def test_a_paused_thread_takes_no_other_message(client: Client) -> None:
    thread = fresh_thread()

    _, refused = client.play("approve", new(thread), say("Book."), RUN, new(thread), say("Something else?"), RUN)

    assert [error["code"] for error in refused["errors"]] == ["THREAD_WAITING"]
