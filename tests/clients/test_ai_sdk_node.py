"""The `ai` package, newest 7, late 6 and the first 6, against a running Penstock."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

if TYPE_CHECKING:
    from tests.cli.up import Up
    from tests.clients.conftest import Node

JSON = dict[str, Any]

PACKAGES = ("ai", "ai-6", "ai-6-first")
WORDS = "one two three four"
SLOW = "The water comes down from the lake through a gate, and what passes the gate turns the wheels below it."
TOOLS = {"map": {"description": "Shows a map.", "inputSchema": {"type": "object"}}}


@dataclass(frozen=True, slots=True)
class Seen:
    """What a script printed: the chat after each action, and the rest."""

    steps: list[JSON]
    rest: JSON

    @property
    def last(self) -> JSON:
        """The chat at the end."""
        return self.steps[-1]

    @property
    def messages(self) -> list[JSON]:
        messages: list[JSON] = self.last["messages"]
        return messages

    @property
    def answer(self) -> JSON:
        """The last message."""
        return self.messages[-1]

    @property
    def requests(self) -> list[str]:
        return [f"{request['method']} {request['status']}" for request in self.rest["requests"]]


Play = Callable[..., Seen]


@pytest.fixture(params=PACKAGES)
def play(request: pytest.FixtureRequest, penstock_up: Up, node: Node) -> Play:
    """Plays a scenario with one agent in one version of the client."""

    def run(agent: str, *actions: list[Any], **scenario: Any) -> Seen:
        given = {"id": f"chat-{uuid.uuid4()}", "actions": actions, **scenario}
        api = f"{penstock_up.base_url}/v1/ai-sdk/{agent}"
        *steps, rest = node.run("ai_sdk_chat.mjs", request.param, api, json.dumps(given))
        return Seen(steps, rest)

    return run


def text_of(message: JSON) -> str:
    return "".join(part["text"] for part in message["parts"] if part["type"] == "text")


def kinds(message: JSON) -> list[str]:
    return [part["type"] for part in message["parts"]]


def tools(message: JSON) -> list[JSON]:
    return [part for part in message["parts"] if part["type"] == "dynamic-tool" or part["type"].startswith("tool-")]


async def get(url: str) -> Any:
    async with aiohttp.request("GET", url) as response:
        assert response.status == 200
        return await response.json()


async def thread_of(up: Up, chat_id: str) -> list[JSON]:
    messages: list[JSON] = (await get(f"{up.base_url}/v1/threads/{chat_id}/messages"))["messages"]
    return messages


# ── what an agent says ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_chat_of_two_turns_is_one_thread_whose_messages_both_sides_know(play: Play, penstock_up: Up) -> None:
    seen = play("echo", ["send", WORDS], ["send", "and five"], id="two-turns-" + (chat_id := uuid.uuid4().hex))

    assert [text_of(message).strip() for message in seen.messages] == [WORDS, WORDS, "and five", "and five"]
    assert (seen.last["status"], seen.requests) == ("ready", ["POST 200", "POST 200"])
    stored = await thread_of(penstock_up, f"two-turns-{chat_id}")
    assert [message["role"] for message in stored] == ["user", "assistant", "user", "assistant"]
    shown = seen.messages
    assert [stored[0]["client_id"], stored[2]["client_id"]] == [shown[0]["id"], shown[2]["id"]]
    assert [stored[1]["run_id"], stored[3]["run_id"]] == [shown[1]["id"], shown[3]["id"]]
    assert shown[3]["metadata"] == {"runId": shown[3]["id"], "threadId": f"two-turns-{chat_id}", "agentId": "echo"}


def test_reasoning_comes_before_the_answer(play: Play) -> None:
    seen = play("think", ["send", WORDS])

    [step, reasoning, text] = seen.answer["parts"]
    assert [step["type"], reasoning["type"], text["type"]] == ["step-start", "reasoning", "text"]
    assert (reasoning["text"], reasoning["state"]) == ("Somebody said 4 words. I should say so.", "done")
    assert (text["text"], text["state"]) == ("You said 4 words.", "done")


def test_a_tool_of_the_agents_is_run_once_and_its_finished_answer_is_never_sent_back(play: Play) -> None:
    seen = play("tool", ["send", "Bern"])

    assert kinds(seen.answer) == ["step-start", "text", "dynamic-tool", "step-start", "text"]
    [call] = tools(seen.answer)
    assert (call["toolName"], call["state"], call["title"]) == ("get_weather", "output-available", "Weather in Bern")
    assert call["input"] == {"place": "Bern", "unit": "celsius"}
    assert call["output"] == {"place": "Bern", "temperature": 17, "sky": "clear"}
    assert text_of(seen.answer) == "Let me look. It is 17 degrees in Bern, and clear."
    assert (seen.requests, [call["dynamic"] for call in seen.rest["toolCalls"]]) == (["POST 200"], [True])


def test_a_run_that_fails_is_an_error_with_the_text_so_far(play: Play) -> None:
    seen = play("error", ["send", WORDS])

    assert (seen.last["status"], seen.last["error"]) == ("error", "The agent raised an error: RuntimeError.")
    assert text_of(seen.answer) == "This will not end well. "
    assert seen.answer["metadata"]["error"] == {"code": "AGENT_ERROR", "retryable": True}
    assert [finish["isError"] for finish in seen.rest["finishes"]] == [True]


def test_a_tool_of_the_clients_goes_there_and_back_in_one_message(play: Play) -> None:
    seen = play("ctool", ["send", "Bern"], body={"tools": TOOLS})

    assert [message["role"] for message in seen.messages] == ["user", "assistant"]
    assert kinds(seen.answer) == ["step-start", "text", "tool-map", "step-start", "text"]
    [call] = tools(seen.answer)
    assert (call["state"], call["output"]) == ("output-available", {"seen": {"text": "Bern"}})
    assert text_of(seen.answer) == 'Your turn. Your tool map said: {"seen":{"text":"Bern"}}'
    assert (seen.last["status"], seen.requests) == ("ready", ["POST 200", "POST 200"])
    assert seen.rest["finishes"][0]["finishReason"] == "tool-calls"


def test_a_message_is_answered_anew_by_regenerating_and_by_editing(play: Play) -> None:
    seen = play("echo", ["send", WORDS], ["regenerate"])
    user, first = seen.steps[0]["messages"]
    again = seen.messages
    assert [message["role"] for message in again] == ["user", "assistant"]
    assert (again[0]["id"], text_of(again[1]).strip()) == (user["id"], WORDS)
    assert again[1]["id"] != first["id"]

    given = {"id": "u1", "role": "user", "parts": [{"type": "text", "text": "old"}]}
    seen = play("echo", ["edit", "u1", "new"], messages=[given])
    assert [text_of(message).strip() for message in seen.messages] == ["new", "new"]


@pytest.mark.parametrize(("approved", "state"), [(True, "output-available"), (False, "output-denied")])
async def test_an_approval_is_asked_for_and_its_answer_goes_on_with_the_message(
    play: Play, approved: object, state: str
) -> None:
    seen = play("approve", ["send", WORDS], ["approve", approved, "because"])

    asked, answered = (step["messages"][1] for step in seen.steps)
    assert [part["state"] for part in tools(asked)] == ["approval-requested"]
    assert [part["state"] for part in tools(answered)] == [state]
    assert (seen.last["status"], answered["id"], len(seen.messages)) == ("ready", asked["id"], 2)
    assert text_of(answered).startswith(text_of(asked))
    assert text_of(answered) != text_of(asked)
    assert seen.requests == ["POST 200", "POST 200"]


# ── stopping and coming back ─────────────────────────────────────────────────────────────────────────────────────────


async def test_stopping_on_the_page_stops_only_the_page(play: Play, penstock_up: Up) -> None:
    seen = play("slow", ["begin", "go", "water"], ["stop"], ["call", "GET", "/no-such-chat/stream"])

    run_id = seen.answer["id"]
    assert (seen.steps[1]["status"], seen.rest["finishes"][0]["isAbort"]) == ("ready", True)
    assert seen.rest["requests"][-1]["status"] == 204
    run = await get(f"{penstock_up.base_url}/v1/runs/{run_id}")
    assert run["state"] in ("running", "succeeded")


def test_stopping_on_the_server_ends_the_stream_and_leaves_nothing_to_resume(play: Play) -> None:
    chat_id = f"stop-{uuid.uuid4().hex}"
    stop = ["call", "DELETE", f"/{chat_id}/stream"]

    seen = play("slow", ["begin", "go", "water"], stop, ["resume"], id=chat_id)

    assert (seen.last["status"], seen.last.get("error")) == ("ready", None)
    assert SLOW.startswith(text_of(seen.answer))
    assert text_of(seen.answer) != SLOW
    assert seen.requests == ["POST 200", "DELETE 200", "GET 204"]


def test_a_page_that_is_loaded_again_in_the_middle_of_an_answer_shows_all_of_it_once(play: Play) -> None:
    seen = play("slow", ["begin", "go", "water"], ["stop"], ["reload", 1], ["resume"], ["resume"])

    assert [message["role"] for message in seen.messages] == ["user", "assistant"]
    assert text_of(seen.answer) == SLOW
    assert seen.answer["id"] == seen.steps[0]["messages"][1]["id"]
    assert seen.requests == ["POST 200", "GET 200", "GET 204"]


def test_a_page_that_had_kept_half_of_the_answer_begins_it_anew(play: Play, request: pytest.FixtureRequest) -> None:
    seen = play("slow", ["begin", "go", "water"], ["stop"], ["reload", 2], ["resume"])

    # The first 6 appends a replay to what it had kept, whatever a server does.
    kept = text_of(seen.steps[1]["messages"][1]) if "ai-6-first" in request.node.name else ""
    assert [text_of(message) for message in seen.messages] == ["go", kept + SLOW]


# ── what goes wrong ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_refused_reaches_the_person_in_words(play: Play) -> None:
    unknown = play("nobody", ["send", WORDS])
    malformed = play("echo", ["send", WORDS], body={"tools": "all of them"})
    too_long = play("echo", ["send", WORDS], id="x" * 200)

    assert (unknown.last["status"], unknown.last["error"]) == ("error", "No worker ever declared an agent 'nobody'.")
    assert malformed.last["error"] == "tools must be a list of tools, or tools by their names."
    assert "thread_id must be 1 to 128" in too_long.last["error"]
    assert [unknown.requests, malformed.requests, too_long.requests] == [["POST 404"], ["POST 400"], ["POST 400"]]


def test_an_answer_that_is_sent_back_without_anything_new_is_refused(play: Play) -> None:
    seen = play("echo", ["send", WORDS], ["answer", {}])

    assert (seen.last["status"], seen.requests) == ("error", ["POST 200", "POST 400"])
    assert seen.last["error"].startswith("The last message is an answer")


# ── plain text ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_text_and_completions_are_read(play: Play) -> None:
    chat = play("echo?protocol=text", ["send", WORDS], transport="text")
    data = play("echo", ["complete", "data", WORDS])
    text = play("echo?protocol=text", ["complete", "text", WORDS])
    failed = play("error?protocol=text", ["complete", "text", WORDS])

    assert text_of(chat.answer).strip() == WORDS
    assert data.rest["completion"].strip() == WORDS
    assert text.rest["completion"].strip() == WORDS
    assert failed.rest["completion"] == "This will not end well. "
    assert failed.rest["completionError"]  # the connection is cut: that is all that text can say
