"""OpenAI's own Python SDK against the responses and conversations of a running Penstock."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI
from openai.types.responses import (
    FunctionToolParam,
    Response,
    ResponseFunctionToolCall,
    ResponseInputParam,
    ResponseReasoningItem,
    ResponseStreamEvent,
)
from openai.types.responses.response_output_item import McpApprovalRequest, McpCall
from pydantic import TypeAdapter

if TYPE_CHECKING:
    from tests.cli.up import Up

LIMIT = 30.0
WORDS = "one two three four"
EVENT: TypeAdapter[object] = TypeAdapter(ResponseStreamEvent)
SLOW_TEXT = "The water comes down from the lake through a gate, and what passes the gate turns the wheels below it."

LOOK: FunctionToolParam = {
    "type": "function",
    "name": "look",
    "description": "Looks.",
    "parameters": {"type": "object", "properties": {"text": {"type": "string"}}},
    "strict": False,
}


@pytest.fixture
async def client(penstock_up: Up) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{penstock_up.base_url}/v1", api_key="none", timeout=LIMIT) as sdk:
        yield sdk


async def events_of(stream: AsyncIterator[ResponseStreamEvent]) -> list[Any]:
    """Read a stream to its end; each event must be of the SDK's types, and the numbers contiguous."""
    events: list[Any] = []
    async for event in stream:
        EVENT.validate_python(event.to_dict())
        assert not events or event.sequence_number == events[-1].sequence_number + 1
        events.append(event)
    return events


def text_of(events: list[Any]) -> str:
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")


async def get(url: str) -> Any:
    """Read a native route."""
    async with aiohttp.request("GET", url, timeout=aiohttp.ClientTimeout(total=LIMIT)) as response:
        return await response.json()


def run_id(response: Response) -> str:
    return "run_" + response.id.removeprefix("resp_").partition("-")[0]


# ── text ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_blocking_call_returns_the_whole_answer(client: AsyncOpenAI) -> None:
    response = await client.responses.create(
        model="echo", input=WORDS, instructions="Be brief.", metadata={"team": "a"}, temperature=0.5
    )

    Response.model_validate(response.to_dict())
    assert (response.status, response.output_text.split()) == ("completed", WORDS.split())
    assert (response.instructions, response.metadata, response.temperature) == ("Be brief.", {"team": "a"}, 0.5)
    assert response.created_at > 1_600_000_000
    assert response.usage is not None
    assert await client.responses.retrieve(response.id) == response


async def test_a_stream_counts_from_zero_and_ends_with_what_a_look_up_shows(client: AsyncOpenAI) -> None:
    events = await events_of(await client.responses.create(model="echo", input=WORDS, stream=True))

    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events[:3]] == ["response.created", "response.queued", "response.in_progress"]
    assert text_of(events).split() == WORDS.split()
    assert events[-1].type == "response.completed"
    assert await client.responses.retrieve(events[-1].response.id) == events[-1].response


async def test_the_stream_helper_builds_the_response(client: AsyncOpenAI) -> None:
    async with client.responses.stream(model="echo", input=WORDS) as stream:
        kinds = [event.type async for event in stream]
        response = await stream.get_final_response()

    assert kinds.count("response.output_text.delta") == len(WORDS.split())
    assert response.output_text.split() == WORDS.split()


async def test_many_deltas_arrive_in_order_and_complete(client: AsyncOpenAI) -> None:
    words = " ".join(str(number) for number in range(5000))

    events = await events_of(await client.responses.create(model="echo", input=words, stream=True))

    assert text_of(events).split() == words.split()


async def test_a_conversation_may_come_whole_and_only_its_last_turn_is_answered(client: AsyncOpenAI) -> None:
    history: ResponseInputParam = [{"role": "user", "content": "one"}]
    first = await client.responses.create(model="echo", input=history)
    history += [item.to_dict() for item in first.output]  # type: ignore[misc]
    history.append({"role": "user", "content": [{"type": "input_text", "text": "two"}]})

    second = await client.responses.create(model="echo", input=history, store=False)

    assert (first.output_text.strip(), second.output_text.strip()) == ("one", "two")


async def test_reasoning_is_an_item_of_its_own(client: AsyncOpenAI) -> None:
    events = await events_of(await client.responses.create(model="think", input=WORDS, stream=True))

    thought = "".join(event.delta for event in events if event.type == "response.reasoning_summary_text.delta")
    item = events[-1].response.output[0]
    assert isinstance(item, ResponseReasoningItem)
    assert [summary.text for summary in item.summary] == [thought]
    assert thought
    assert text_of(events) == events[-1].response.output_text == "You said 4 words."


# ── tools ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_agents_own_tool_is_a_call_that_the_server_runs(client: AsyncOpenAI) -> None:
    async with client.responses.stream(model="tool", input="Bern") as stream:
        response = await stream.get_final_response()

    assert [item.type for item in response.output] == ["message", "mcp_call", "message"]
    call = response.output[1]
    assert isinstance(call, McpCall)
    assert (call.name, call.status, call.error) == ("get_weather", "completed", None)
    assert json.loads(call.arguments) == {"place": "Bern", "unit": "celsius"}
    assert json.loads(call.output or "") == {"place": "Bern", "temperature": 17, "sky": "clear"}
    assert response.output_text.endswith("and clear.")


async def test_a_tool_of_the_client_goes_round_by_the_previous_response(client: AsyncOpenAI) -> None:
    first = await client.responses.create(model="ctool", input=WORDS, tools=[LOOK])
    call = first.output[-1]
    assert isinstance(call, ResponseFunctionToolCall)
    second = await client.responses.create(
        model="ctool",
        previous_response_id=first.id,
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": '{"sky": "marbled"}'}],
        tools=[LOOK],
    )

    assert (first.status, call.name, json.loads(call.arguments)) == ("completed", "look", {"text": WORDS})
    assert second.output_text == 'Your tool look said: {"sky":"marbled"}'
    assert second.previous_response_id == first.id


async def test_a_tool_of_the_client_goes_round_without_the_servers_memory(client: AsyncOpenAI) -> None:
    history: ResponseInputParam = [{"role": "user", "content": WORDS}]
    async with client.responses.stream(model="ctool", input=history, tools=[LOOK]) as stream:
        first = await stream.get_final_response()
    [call] = [item for item in first.output if item.type == "function_call"]
    history += [
        {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments},
        {"type": "function_call_output", "call_id": call.call_id, "output": "marbled"},
    ]
    second = await client.responses.create(model="ctool", input=history, tools=[LOOK], store=False)

    assert second.output_text == 'Your tool look said: "marbled"'


async def test_tools_that_no_agent_can_run_are_refused(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await client.responses.create(model="echo", input=WORDS, tools=[{"type": "web_search"}])

    assert refused.value.param == "tools[0].type"


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_failed_run_is_a_failed_response(client: AsyncOpenAI) -> None:
    response = await client.responses.create(model="error", input=WORDS)

    Response.model_validate(response.to_dict())
    assert response.status == "failed"
    assert response.error is not None
    assert (response.error.code, response.error.type) == ("server_error", "AGENT_ERROR")
    assert response.output_text.startswith("This will not")


async def test_a_run_that_fails_in_a_stream_ends_with_the_failure(client: AsyncOpenAI) -> None:
    events = await events_of(await client.responses.create(model="error", input=WORDS, stream=True))

    assert (events[-1].type, events[-1].response.error.code) == ("response.failed", "server_error")
    assert text_of(events) == events[-1].response.output_text


async def test_an_unknown_model_is_not_found(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        await client.responses.create(model="nobody", input=WORDS)

    assert refused.value.code == "model_not_found"
    assert refused.value.request.headers["x-stainless-retry-count"] == "0"


async def test_an_unknown_response_is_not_found(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve("resp_01m7wnske9ampep9w4ap2y51e6")
    with pytest.raises(openai.BadRequestError) as refused:
        await client.responses.create(model="echo", input="a", previous_response_id="resp_01m7wnske9ampep9w4ap2y51e6")

    assert (refused.value.code, refused.value.param) == ("previous_response_not_found", "previous_response_id")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": 3}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"type": "message", "role": "user"}]}, "input[0]"),
        ({"input": "a", "stream": "yes"}, "stream"),
        ({"input": "a", "conversation": "c", "previous_response_id": "resp_1"}, "previous_response_id"),
    ],
)
async def test_a_bad_request_names_the_parameter(client: AsyncOpenAI, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await client.post("/responses", body={"model": "echo", **fields}, cast_to=Response)

    assert (refused.value.param, refused.value.type) == (param, "invalid_request_error")


# ── background, resume, cancel ───────────────────────────────────────────────────────────────────────────────────────


async def test_a_background_response_is_looked_up_and_streamed_later(client: AsyncOpenAI) -> None:
    begun = await client.responses.create(model="slow", input=WORDS, background=True)
    events = await events_of(await client.responses.retrieve(begun.id, stream=True))
    done = await client.responses.retrieve(begun.id)

    assert begun.status in ("queued", "in_progress")
    assert (begun.background, begun.output) == (True, [])
    assert events[0].sequence_number == 0
    assert text_of(events) == SLOW_TEXT
    assert (done.status, done.output_text) == ("completed", SLOW_TEXT)


async def test_a_stream_that_was_left_in_the_middle_goes_on_behind_any_number(client: AsyncOpenAI) -> None:
    stream = await client.responses.create(model="slow", input=WORDS, stream=True)
    head: list[Any] = []
    async for event in stream:
        head.append(event)
        if len(text_of(head).split()) == 4:
            break
    await stream.close()
    tail = await events_of(
        await client.responses.retrieve(head[0].response.id, stream=True, starting_after=head[-1].sequence_number)
    )

    assert [event.sequence_number for event in head + tail] == list(range(len(head) + len(tail)))
    assert text_of(head) + text_of(tail) == SLOW_TEXT
    assert tail[-1].type == "response.completed"


async def test_the_helper_resumes_by_a_replay(client: AsyncOpenAI) -> None:
    begun = await client.responses.create(model="echo", input=WORDS)
    async with client.responses.stream(response_id=begun.id, starting_after=6) as stream:
        numbers = [event.sequence_number async for event in stream]
        response = await stream.get_final_response()

    assert numbers[0] == 7
    assert response.output_text == begun.output_text


async def test_a_cancelled_response_says_so_to_everybody(client: AsyncOpenAI) -> None:
    begun = await client.responses.create(model="slow", input=WORDS, background=True)
    stream = await client.responses.retrieve(begun.id, stream=True)
    cancelled = await client.responses.cancel(begun.id)
    events = await events_of(stream)

    assert cancelled.status == "cancelled"
    assert (events[-1].type, events[-1].response.status) == ("response.incomplete", "cancelled")
    assert await client.responses.cancel(begun.id) == cancelled == await client.responses.retrieve(begun.id)


async def test_closing_a_stored_stream_leaves_its_run_alone(client: AsyncOpenAI) -> None:
    stream = await client.responses.create(model="slow", input=WORDS, stream=True)
    created = await anext(aiter(stream))
    assert created.type == "response.created"
    await stream.close()

    events = await events_of(await client.responses.retrieve(created.response.id, stream=True))

    assert events[-1].type == "response.completed"


async def test_closing_a_stream_that_is_not_stored_cancels_its_run(client: AsyncOpenAI, penstock_up: Up) -> None:
    stream = await client.responses.create(model="slow", input=WORDS, stream=True, store=False)
    created = await anext(aiter(stream))
    assert created.type == "response.created"
    await stream.close()

    log = await events_of_run(f"{penstock_up.base_url}/v1/runs/{run_id(created.response)}/events")

    assert '"reason":"disconnected"' in log[log.index("event: run.ended") :]


async def events_of_run(url: str) -> str:
    """Read a native stream to its end."""
    timeout, accept = aiohttp.ClientTimeout(total=LIMIT), {"Accept": "text/event-stream"}
    async with aiohttp.request("GET", url, headers=accept, timeout=timeout) as response:
        return await response.text()


async def test_a_response_that_is_not_stored_cannot_be_had_again(client: AsyncOpenAI) -> None:
    response = await client.responses.create(model="echo", input=WORDS, store=False)

    assert response.output_text.split() == WORDS.split()
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(response.id)


async def test_a_deleted_response_is_gone(client: AsyncOpenAI) -> None:
    response = await client.responses.create(model="echo", input=WORDS)
    await client.responses.delete(response.id)

    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(response.id)


# ── going on ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_responses_that_follow_each_other_share_a_thread(client: AsyncOpenAI, penstock_up: Up) -> None:
    first = await client.responses.create(model="echo", input="one")
    second = await client.responses.create(model="think", input="two", previous_response_id=first.id)

    runs = [await get(f"{penstock_up.base_url}/v1/runs/{run_id(response)}") for response in (first, second)]
    messages = (await get(f"{penstock_up.base_url}/v1/threads/{runs[0]['thread_id']}/messages"))["messages"]
    assert runs[0]["thread_id"] == runs[1]["thread_id"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user", "assistant"]


async def test_a_response_can_be_gone_on_with_twice(client: AsyncOpenAI, penstock_up: Up) -> None:
    root = await client.responses.create(model="echo", input="root")
    one = await client.responses.create(model="echo", input="one", previous_response_id=root.id)
    two = await client.responses.create(model="echo", input="two", previous_response_id=root.id)

    run = await get(f"{penstock_up.base_url}/v1/runs/{run_id(two)}")
    messages = (await get(f"{penstock_up.base_url}/v1/threads/{run['thread_id']}/messages"))["messages"]
    texts = ["".join(part.get("text", "") for part in message["parts"]).strip() for message in messages]
    assert (one.output_text.strip(), two.output_text.strip()) == ("one", "two")
    assert texts == ["root", "root", "two", "two"]  # what was said in the other branch is not among them


async def test_a_conversation_holds_what_was_said_in_it(client: AsyncOpenAI) -> None:
    conversation = await client.conversations.create(metadata={"topic": "water"})
    for model, text in (("echo", "one"), ("tool", "Bern")):
        await client.responses.create(model=model, input=text, conversation=conversation.id, instructions="Be brief.")

    shown = await client.conversations.retrieve(conversation.id)
    items = [item async for item in client.conversations.items.list(conversation.id, order="asc", limit=2)]

    assert (shown.id, shown.metadata, shown.object) == (conversation.id, {"topic": "water"}, "conversation")
    assert [item.type for item in items] == ["message", "message", "message", "message", "mcp_call", "message"]
    assert items[2].to_dict()["content"] == [{"type": "input_text", "text": "Bern"}]
    one = await client.conversations.items.retrieve(str(items[4].id), conversation_id=conversation.id)
    assert one == items[4]


async def test_a_deleted_conversation_is_gone(client: AsyncOpenAI) -> None:
    conversation = await client.conversations.create()
    deleted = await client.conversations.delete(conversation.id)

    assert (deleted.id, deleted.deleted) == (conversation.id, True)
    with pytest.raises(openai.NotFoundError):
        await client.conversations.retrieve(conversation.id)


async def test_the_input_items_are_what_was_sent(client: AsyncOpenAI) -> None:
    content: Any = [
        {"type": "input_text", "text": "See: "},
        {"type": "input_image", "image_url": "https://a.example/b.png", "detail": "auto"},
        {"type": "input_file", "filename": "a.txt", "file_data": "data:text/plain;base64,aGk="},
    ]
    response = await client.responses.create(model="echo", input=[{"role": "user", "content": content}])

    [item] = [item async for item in client.responses.input_items.list(response.id)]

    shown = item.to_dict()["content"]
    assert isinstance(shown, list)
    assert [piece["type"] for piece in shown] == ["input_text", "input_image", "input_file"]
    assert shown[2]["file_data"] == "data:text/plain;base64,aGk="


async def test_what_an_agent_said_can_be_referred_to(client: AsyncOpenAI) -> None:
    first = await client.responses.create(model="tool", input="Bern")
    history: Any = [{"role": "user", "content": "Bern"}]
    history += [{"type": "item_reference", "id": item.to_dict()["id"]} for item in first.output]
    second = await client.responses.create(model="echo", input=[*history, {"role": "user", "content": "thanks"}])

    listed = [item.type async for item in client.responses.input_items.list(second.id, order="asc")]

    assert second.output_text.strip() == "thanks"
    assert listed == ["message", "message", "mcp_call", "message", "message"]


# ── a human in the loop ──────────────────────────────────────────────────────────────────────────────────────────────


async def approval_of(client: AsyncOpenAI) -> tuple[Response, McpApprovalRequest]:
    """Run the demo agent that asks before it acts."""
    response = await client.responses.create(model="approve", input="Book two seats.")
    requests = [item for item in response.output if isinstance(item, McpApprovalRequest)]
    assert (response.status, len(requests)) == ("completed", 1)
    return response, requests[0]


@pytest.mark.parametrize("approve", [True, False])
@pytest.mark.parametrize("names_response", [True, False])
async def test_an_approval_begins_the_next_response(
    client: AsyncOpenAI, *, approve: bool, names_response: bool
) -> None:
    asked, request = await approval_of(client)
    answer: ResponseInputParam = [
        {"type": "mcp_approval_response", "approval_request_id": request.id, "approve": approve}
    ]
    named: Any = {"previous_response_id": asked.id} if names_response else {}
    events = await events_of(await client.responses.create(model="approve", input=answer, stream=True, **named))

    final = events[-1].response
    assert (events[0].sequence_number, final.status) == (0, "completed")
    assert final.id == f"{asked.id}-1"
    assert final.output_text
    assert await client.responses.retrieve(final.id) == final
    assert await client.responses.retrieve(asked.id) == asked
    calls = [item for item in final.output if isinstance(item, McpCall)]
    assert [call.approval_request_id for call in calls] == [request.id] * len(calls)


async def test_a_response_that_waits_takes_nothing_but_its_answer(client: AsyncOpenAI) -> None:
    asked, _ = await approval_of(client)

    with pytest.raises(openai.BadRequestError) as refused:
        await client.responses.create(model="approve", input="Hello?", previous_response_id=asked.id)

    assert refused.value.param == "input"
    await client.responses.cancel(asked.id)
