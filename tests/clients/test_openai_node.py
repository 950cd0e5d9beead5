"""OpenAI's own JavaScript SDK, with its defaults, against a running Penstock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

if TYPE_CHECKING:
    from tests.cli.up import Up
    from tests.clients.conftest import Node

LIMIT = 30.0
WORDS = "one two three four"

Seen = dict[str, Any]


@pytest.fixture(scope="module")
def seen(penstock_up: Up, node: Node) -> Seen:
    """What the script saw, by scenario."""
    lines = node.run("openai.mjs", f"{penstock_up.base_url}/v1", timeout=120)
    return {line["name"]: line["seen"] for line in lines}


def numbers(events: list[Any]) -> list[int]:
    return [event["sequence_number"] for event in events]


# ── chat completions ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_blocking_chat_returns_the_whole_answer(seen: Seen) -> None:
    [choice] = seen["chat_blocking"]["choices"]

    assert (choice["message"]["content"].split(), choice["finish_reason"]) == (WORDS.split(), "stop")


def test_a_chat_stream_brings_a_chunk_per_word(seen: Seen) -> None:
    choices = [chunk["choices"][0] for chunk in seen["chat_stream"]]

    assert "".join(choice["delta"].get("content", "") for choice in choices).split() == WORDS.split()
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + ["stop"]


def test_the_usage_of_a_chat_comes_last(seen: Seen) -> None:
    *earlier, last = seen["chat_usage"]

    assert {chunk["usage"] for chunk in earlier} == {None}
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], 0)


def test_the_chat_helper_finds_its_finish_reason(seen: Seen) -> None:
    [choice] = seen["chat_helper"]["choices"]

    assert (choice["message"]["content"], choice["finish_reason"]) == ("You said 4 words.", "stop")


def test_a_tool_of_the_client_goes_round_in_a_chat(seen: Seen) -> None:
    first, second = seen["chat_tools"]["first"], seen["chat_tools"]["second"]

    assert first["finish_reason"] == "tool_calls"
    assert [call["function"]["name"] for call in first["message"]["tool_calls"]] == ["look"]
    assert second["message"]["content"] == 'Your tool look said: {"sky":"marbled"}'


def test_errors_of_a_chat_are_those_of_the_sdk(seen: Seen) -> None:
    errors = seen["chat_error"]

    assert (errors["blocking"]["name"], errors["blocking"]["type"]) == ("InternalServerError", "server_error")
    assert (errors["stream"]["name"], errors["stream"]["code"]) == ("APIError", "AGENT_ERROR")
    assert (errors["model"]["name"], errors["model"]["code"]) == ("NotFoundError", "model_not_found")
    assert (errors["request"]["name"], errors["request"]["param"]) == ("BadRequestError", "n")


async def test_leaving_a_chat_stream_cancels_its_run(seen: Seen, penstock_up: Up) -> None:
    url = f"{penstock_up.base_url}/v1/runs/{seen['chat_cancel']['run']}/events"
    timeout = aiohttp.ClientTimeout(total=LIMIT)
    async with aiohttp.request("GET", url, headers={"Accept": "text/event-stream"}, timeout=timeout) as response:
        log = await response.text()

    assert '"reason":"disconnected"' in log[log.index("event: run.ended") :]


def test_agents_are_models(seen: Seen) -> None:
    assert {"echo", "think", "slow"} <= set(seen["models"])


# ── responses ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_blocking_response_is_what_a_look_up_shows(seen: Seen) -> None:
    made, shown = seen["response_blocking"]["made"], seen["response_blocking"]["shown"]

    assert (made["status"], made["output_text"].split()) == ("completed", WORDS.split())
    assert made["instructions"] == "Be brief."
    assert shown == made


def test_a_response_stream_counts_from_zero(seen: Seen) -> None:
    events = seen["response_stream"]

    assert numbers(events) == list(range(len(events)))
    assert (events[0]["type"], events[-1]["type"]) == ("response.created", "response.completed")


def test_the_response_helper_sees_the_agents_own_tool(seen: Seen) -> None:
    response = seen["response_helper"]["response"]

    assert [item["type"] for item in response["output"]] == ["message", "mcp_call", "message"]
    assert response["output"][1]["name"] == "get_weather"
    assert "response.mcp_call.completed" in seen["response_helper"]["kinds"]
    assert response["output_text"].endswith("and clear.")


def test_reasoning_is_an_item_of_its_own(seen: Seen) -> None:
    response = seen["response_reasoning"]

    assert [item["type"] for item in response["output"]] == ["reasoning", "message"]
    assert response["output"][0]["summary"][0]["text"].startswith("Somebody said")
    assert response["output_text"] == "You said 4 words."


def test_a_tool_of_the_client_goes_round_by_the_previous_response(seen: Seen) -> None:
    first, second = seen["response_tools"]["first"], seen["response_tools"]["second"]

    assert (first["output"][-1]["type"], first["output"][-1]["name"]) == ("function_call", "look")
    assert second["output_text"] == 'Your tool look said: "marbled"'


def test_errors_of_responses_are_those_of_the_sdk(seen: Seen) -> None:
    errors = seen["response_error"]

    assert (errors["last"]["type"], errors["helper"]["status"]) == ("response.failed", "failed")
    assert errors["helper"]["error"]["code"] == "server_error"
    assert (errors["model"]["name"], errors["model"]["code"]) == ("NotFoundError", "model_not_found")
    assert (errors["request"]["name"], errors["request"]["param"]) == ("BadRequestError", "input[0].type")
    assert (errors["unknown"]["name"], errors["unknown"]["status"]) == ("NotFoundError", 404)


def test_a_stream_that_was_left_goes_on_behind_its_cursor(seen: Seen) -> None:
    resumed = seen["response_resume"]
    whole = resumed["head"] + resumed["tail"]

    assert numbers(whole) == list(range(len(whole)))
    assert resumed["numbers"] == numbers(resumed["tail"])
    text = "".join(event["delta"] for event in whole if event["type"] == "response.output_text.delta")
    assert text == resumed["response"]["output_text"] == whole[-1]["response"]["output"][0]["content"][0]["text"]


def test_a_background_response_is_looked_up_later(seen: Seen) -> None:
    background = seen["response_background"]

    assert background["first"] in ("queued", "in_progress")
    assert (background["response"]["status"], background["response"]["background"]) == ("completed", True)
    assert background["count"] == 20 + 9  # a delta per piece, and what surrounds one text


def test_a_cancelled_response_says_so(seen: Seen) -> None:
    cancel = seen["response_cancel"]

    assert cancel["cancelled"]["status"] == "cancelled"
    assert (cancel["last"]["type"], cancel["last"]["response"]["status"]) == ("response.incomplete", "cancelled")
    assert cancel["again"] == cancel["cancelled"]


def test_a_deleted_response_is_gone(seen: Seen) -> None:
    assert seen["response_delete"]["after"]["name"] == "NotFoundError"


def test_a_conversation_holds_what_was_said_in_it(seen: Seen) -> None:
    conversation = seen["conversation"]

    assert conversation["shown"]["metadata"] == {"topic": "water"}
    assert [item["role"] for item in conversation["items"]] == ["user", "assistant", "user", "assistant"]
