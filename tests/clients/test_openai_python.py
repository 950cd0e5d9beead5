"""OpenAI's own Python SDK, with its defaults, against a running Penstock."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import (
    ChatCompletionChunk,
    ChatCompletionMessageParam,
    ChatCompletionToolParam,
)

if TYPE_CHECKING:
    from tests.cli.up import Up

LIMIT = 30.0
WORDS = "one two three four"

WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@pytest.fixture
async def client(penstock_up: Up) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{penstock_up.base_url}/v1", api_key="none", timeout=LIMIT) as sdk:
        yield sdk


def user(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


async def chunks_of(client: AsyncOpenAI, model: str, text: str, **options: Any) -> list[ChatCompletionChunk]:
    stream = await client.chat.completions.create(model=model, messages=user(text), stream=True, **options)
    return [chunk async for chunk in stream]


async def get(url: str, *, accept: str = "application/json") -> str:
    """Read a native route."""
    timeout = aiohttp.ClientTimeout(total=LIMIT)
    async with aiohttp.request("GET", url, headers={"Accept": accept}, timeout=timeout) as response:
        return await response.text()


async def collect(stream: AsyncIterator[ChatCompletionChunk], chunks: list[ChatCompletionChunk]) -> None:
    """Keep what came, also when the stream raises."""
    async for chunk in stream:
        chunks.append(chunk)  # noqa: PERF401  (a comprehension would lose them)


def text_of(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


async def test_a_blocking_call_returns_the_whole_answer(client: AsyncOpenAI) -> None:
    completion = await client.chat.completions.create(model="echo", messages=user(WORDS))

    [choice] = completion.choices
    assert (choice.message.content or "").split() == WORDS.split()
    assert (choice.finish_reason, choice.message.role, choice.message.tool_calls) == ("stop", "assistant", None)
    assert completion.id.startswith("chatcmpl-run_")
    assert completion.usage is not None


async def test_a_stream_brings_a_chunk_per_word_under_one_id(client: AsyncOpenAI) -> None:
    chunks = await chunks_of(client, "echo", WORDS)

    assert text_of(chunks).split() == WORDS.split()
    assert len([chunk for chunk in chunks if chunk.choices[0].delta.content]) == len(WORDS.split())
    assert len({(chunk.id, chunk.created, chunk.model, chunk.object) for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]


async def test_usage_comes_last_when_it_is_asked_for(client: AsyncOpenAI) -> None:
    *earlier, last = await chunks_of(client, "echo", WORDS, stream_options={"include_usage": True})

    assert [chunk.usage for chunk in earlier] == [None] * len(earlier)
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == last.usage.prompt_tokens + last.usage.completion_tokens


async def test_the_stream_helper_sees_the_content_done(client: AsyncOpenAI) -> None:
    async with client.chat.completions.stream(model="echo", messages=user(WORDS)) as stream:
        kinds = [event.type async for event in stream]
        completion = await stream.get_final_completion()

    assert "content.done" in kinds
    assert (completion.choices[0].message.content or "").split() == WORDS.split()


async def test_many_deltas_arrive_in_order_and_complete(client: AsyncOpenAI) -> None:
    words = " ".join(str(number) for number in range(5000))

    chunks = await chunks_of(client, "echo", words)

    assert text_of(chunks).split() == words.split()


async def test_reasoning_comes_beside_the_content(client: AsyncOpenAI) -> None:
    chunks = await chunks_of(client, "think", WORDS)
    completion = await client.chat.completions.create(model="think", messages=user(WORDS))

    deltas = [chunk.choices[0].delta.model_extra or {} for chunk in chunks]
    streamed = "".join(delta.get("reasoning_content", "") for delta in deltas)
    message = completion.choices[0].message
    assert streamed
    assert streamed == (message.model_extra or {})["reasoning_content"]
    assert text_of(chunks) == message.content


async def test_an_agents_own_tools_stay_out_of_sight(client: AsyncOpenAI) -> None:
    chunks = await chunks_of(client, "tool", WORDS)

    assert all(chunk.choices[0].delta.tool_calls is None for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert text_of(chunks)


async def test_a_tool_of_the_client_goes_round_once(client: AsyncOpenAI) -> None:
    first = await client.chat.completions.create(model="ctool", messages=user(WORDS), tools=[WEATHER])
    message = first.choices[0].message
    [call] = message.tool_calls or []
    assert call.type == "function"
    history: list[ChatCompletionMessageParam] = [
        *user(WORDS),
        {
            "role": "assistant",
            "content": message.content,
            "tool_calls": [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.function.name, "arguments": call.function.arguments},
                }
            ],
        },
        {"role": "tool", "tool_call_id": call.id, "content": '{"sky": "marbled"}'},
    ]
    second = await client.chat.completions.create(model="ctool", messages=history, tools=[WEATHER])

    assert (first.choices[0].finish_reason, call.function.name) == ("tool_calls", "weather")
    assert second.choices[0].finish_reason == "stop"
    assert "marbled" in (second.choices[0].message.content or "")


async def test_the_stream_helper_joins_the_pieces_of_a_call(client: AsyncOpenAI) -> None:
    async with client.chat.completions.stream(model="ctool", messages=user(WORDS), tools=[WEATHER]) as stream:
        completion = await stream.get_final_completion()

    [choice] = completion.choices
    assert choice.finish_reason == "tool_calls"
    assert [call.function.name for call in choice.message.tool_calls or []] == ["weather"]


async def test_images_files_and_audio_reach_the_agent_as_files(client: AsyncOpenAI, penstock_up: Up) -> None:
    inline = base64.b64encode(b"bytes").decode()
    parts: Any = [
        {"type": "text", "text": "See:"},
        {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}},
        {"type": "input_audio", "input_audio": {"data": inline, "format": "wav"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{inline}"}},
    ]
    raw = await client.chat.completions.with_raw_response.create(
        model="echo", messages=[{"role": "user", "content": parts}]
    )
    url = f"{penstock_up.base_url}/v1/threads/{raw.headers['x-thread-id']}/messages"
    sent = json.loads(await get(url))["messages"][0]["parts"]

    assert [(part["kind"], part.get("media_type")) for part in sent] == [
        ("text", None),
        ("file", "image/png"),
        ("file", "audio/wav"),
        ("file", "application/pdf"),
    ]
    assert (sent[1]["url"], sent[3]["name"], sent[3]["data"]) == ("https://a.example/b.png", "a.pdf", inline)


async def test_what_tunes_a_model_is_passed_on(client: AsyncOpenAI, penstock_up: Up) -> None:
    raw = await client.chat.completions.with_raw_response.create(
        model="echo",
        messages=user(WORDS),
        response_format={"type": "json_object"},
        temperature=0.5,
        metadata={"thread_id": "thread-of-metadata", "team": "a"},
    )

    run = json.loads(await get(f"{penstock_up.base_url}/v1/runs/{raw.headers['x-run-id']}"))

    assert run["options"]["agent_options"] == {"response_format": {"type": "json_object"}, "temperature": 0.5}
    assert (run["thread_id"], run["metadata"]) == ("thread-of-metadata", {"team": "a"})


async def test_a_run_that_waits_ends_the_completion_with_its_question(client: AsyncOpenAI, penstock_up: Up) -> None:
    chunks = await chunks_of(client, "approve", WORDS)

    assert chunks[-1].choices[0].finish_reason == "stop"
    assert text_of(chunks)
    run = chunks[0].id.removeprefix("chatcmpl-")
    assert json.loads(await get(f"{penstock_up.base_url}/v1/runs/{run}"))["state"] == "waiting"


async def test_a_failed_run_is_an_error_and_is_not_run_again(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as failed:
        await client.chat.completions.create(model="error", messages=user(WORDS))

    assert failed.value.type == "server_error"
    assert failed.value.code
    assert failed.value.request.headers["x-stainless-retry-count"] == "0"


async def test_a_run_that_fails_in_a_stream_raises_after_its_text(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(model="error", messages=user(WORDS), stream=True)
    chunks: list[ChatCompletionChunk] = []

    with pytest.raises(openai.APIError) as failed:
        await collect(stream, chunks)

    assert text_of(chunks)
    assert failed.value.code


async def test_an_unknown_model_is_not_found(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        await client.chat.completions.create(model="nobody", messages=user(WORDS))

    assert refused.value.code == "model_not_found"


async def test_a_bad_request_names_the_parameter(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(model="echo", messages=user(WORDS), n=2)

    assert (refused.value.param, refused.value.type) == ("n", "invalid_request_error")


async def test_agents_are_listed_as_models(client: AsyncOpenAI) -> None:
    listed = {model.id: model async for model in client.models.list()}

    assert {"echo", "think", "slow"} <= set(listed)
    assert await client.models.retrieve("echo") == listed["echo"]
    assert listed["echo"].created > 1_600_000_000


async def test_closing_a_stream_cancels_its_run(client: AsyncOpenAI, penstock_up: Up) -> None:
    stream = await client.chat.completions.create(model="slow", messages=user(WORDS), stream=True)
    async for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    run_id = stream.response.headers["x-run-id"]
    await stream.close()

    log = await get(f"{penstock_up.base_url}/v1/runs/{run_id}/events", accept="text/event-stream")  # to its end

    end = log[log.index("event: run.ended") :]
    assert '"state":"cancelled"' in end
    assert '"reason":"disconnected"' in end


async def test_a_named_thread_takes_nothing_twice(client: AsyncOpenAI, penstock_up: Up) -> None:
    first = await client.chat.completions.with_raw_response.create(model="echo", messages=user("one"))
    thread_id = first.headers["x-thread-id"]
    history: list[ChatCompletionMessageParam] = [
        *user("one"),
        {"role": "assistant", "content": first.parse().choices[0].message.content},
        *user("two"),
    ]
    second = await client.chat.completions.create(
        model="echo", messages=history, extra_headers={"X-Thread-Id": thread_id}
    )

    messages = json.loads(await get(f"{penstock_up.base_url}/v1/threads/{thread_id}/messages"))["messages"]

    assert (second.choices[0].message.content or "").split() == ["two"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user", "assistant"]
