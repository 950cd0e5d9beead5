"""Where a response goes on: previous responses, conversations, answers; over HTTP, before a scripted core."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import grpc
import pytest

from edge.protocols.openai_responses.origin import Origin
from penstock.v1.message_pb2 import Message, Part, Role, TextPart, ToolCallPart, ToolOutcome, ToolRunner
from penstock.v1.run_pb2 import InputKind, InputRequest
from penstock.v1.run_service_pb2 import (
    CreateRunRequest,
    SubmitInputRequest,
)
from penstock.v1.thread_service_pb2 import DeleteThreadRequest, EventRef, ForkThreadRequest
from tests.edge.conftest import StartEdge
from tests.edge.responses_setup import LIMIT, URL, Setup, TellingCore, finished, frames, waiting
from tests.edge.scripted_calls import Refuse

APPROVAL = InputRequest(id="inp_7", kind=InputKind.INPUT_KIND_APPROVAL, tool_name="book", arguments_json="{}")


@pytest.fixture
async def core() -> AsyncIterator[TellingCore]:
    telling = TellingCore()
    await telling.start()
    yield telling
    await telling.stop()


@pytest.fixture
async def setup(core: TellingCore, start_edge: StartEdge) -> AsyncIterator[Setup]:
    edge = await start_edge(reattach_for=0)
    async with aiohttp.ClientSession(f"http://{edge.address}") as http:
        yield Setup(core, http)


def user(number: int) -> Message:
    return Message(id=f"msg_{number}", role=Role.ROLE_USER, parts=[Part(text=TextPart(text=f"word {number}"))])


# ── going on ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_newest_response_of_a_thread_is_gone_on_with_on_that_thread(setup: Setup) -> None:
    setup.core.append(*finished().events)

    status, _ = await setup.post(previous_response_id="resp_1", input="And now?")

    [create] = setup.asked(CreateRunRequest)
    assert (status, create.thread_id, len(create.input)) == (200, "thr_1", 1)
    assert create.origin_json == Origin(previous_response_id="resp_1").to_json()


async def test_a_leg_that_is_not_there_cannot_be_gone_on_with(setup: Setup) -> None:
    setup.core.append(*finished().events)

    status, answer = await setup.post(previous_response_id="resp_1-1")

    assert (status, answer["error"]["code"]) == (400, "previous_response_not_found")


async def test_an_older_response_is_branched_off_on_a_fork_of_its_thread(setup: Setup) -> None:
    for run_id in ("run_1", "run_2"):
        setup.core.append(*finished().events, run_id=run_id)

    status, _ = await setup.post(previous_response_id="resp_1", input="three")

    [fork] = setup.asked(ForkThreadRequest)
    [create] = setup.asked(CreateRunRequest)
    assert (fork.thread_id, fork.event) == ("thr_1", EventRef(run_id="run_1", seq=9))
    assert (status, create.thread_id, len(create.input)) == (200, "thr_2", 1)


async def test_nothing_is_forked_for_an_agent_that_is_not_there(setup: Setup) -> None:
    for run_id in ("run_1", "run_2"):
        setup.core.append(*finished().events, run_id=run_id)

    status, answer = await setup.post(previous_response_id="resp_1", model="nobody")

    assert (status, answer["error"]["code"]) == (404, "model_not_found")
    assert not setup.asked(ForkThreadRequest)


async def test_a_conversation_is_gone_on_with_on_its_thread(setup: Setup) -> None:
    setup.core.append(*finished().events)

    _, answer = await setup.post(conversation="conv_1")

    [create] = setup.asked(CreateRunRequest)
    assert create.thread_id == "thr_1"
    assert create.origin_json == Origin(conversation="conv_1").to_json()
    assert answer["id"] == "resp_1"


async def test_a_result_gets_the_name_of_the_tool_from_the_call_that_it_answers(setup: Setup) -> None:
    call = ToolCallPart(call_id="call_a", tool_name="look", runner=ToolRunner.TOOL_RUNNER_CLIENT)
    log = setup.core.log()
    log.append(*finished().events)
    log.messages = [Message(role=Role.ROLE_ASSISTANT, parts=[Part(ordinal=1, tool_call=call)])]
    output = {"type": "function_call_output", "call_id": "call_a", "output": "seen"}

    await setup.post(previous_response_id="resp_1", input=[output])

    [create] = setup.asked(CreateRunRequest)
    result = create.input[0].parts[0].tool_result
    assert (create.thread_id, result.tool_name, result.output_json) == ("thr_1", "look", '"seen"')


async def test_references_are_what_the_agent_said_and_nothing_is_said_twice(setup: Setup) -> None:
    call = Part(ordinal=2, tool_call=ToolCallPart(call_id="call_a", tool_name="own"))
    result = Part(ordinal=3)
    result.tool_result.call_id = "call_a"
    setup.core.append(*finished().events)
    log = setup.core.log("run_5")
    log.run.result_json = '{"n":1}'
    log.messages = [
        Message(role=Role.ROLE_ASSISTANT, parts=[Part(ordinal=1, text=TextPart(text="Hm. ")), call]),
        Message(role=Role.ROLE_TOOL, parts=[result]),
    ]
    ids = ["msg_5_1", "mcp_5_2", "mcp_5_2", "mcp_5_3", "mcpr_5_7", "msg_5_q7", "msg_5_0"]

    await setup.post(input=[{"type": "item_reference", "id": item} for item in ids])

    [create] = setup.asked(CreateRunRequest)
    said = [[part.WhichOneof("content") for part in message.parts] for message in create.input]
    assert said == [["text", "tool_call"], ["tool_result"], ["text"]]
    assert create.input[2].parts[0].text.text == '{"n":1}'


# ── answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────

YES = {"type": "mcp_approval_response", "approval_request_id": "mcpr_1_7", "approve": True}


@pytest.mark.parametrize(
    "fields",
    [
        {"input": [YES], "previous_response_id": "resp_1"},
        {"input": [YES], "conversation": "conv_1"},
        {"input": [{"role": "user", "content": "Book!"}, {"type": "item_reference", "id": "mcpr_1_7"}, YES]},
    ],
)
async def test_an_answer_begins_the_next_response(setup: Setup, fields: dict[str, Any]) -> None:
    log = waiting(APPROVAL)
    setup.core.append(*log.events)
    setup.core.thread.thread.active_run_id = "run_1"
    seen = len(log.events)
    answering = asyncio.create_task(setup.post(**fields))
    async with asyncio.timeout(LIMIT):
        await setup.core.until_watched(starts=1)
        log.resumed(origin_json=setup.asked(SubmitInputRequest)[0].origin_json)
        log.text("Booked.")
        log.ended()
        setup.core.append(*log.events[seen:])
        status, answer = await answering

    [submit] = setup.asked(SubmitInputRequest)
    assert (submit.run_id, [given.input_id for given in submit.answers]) == ("run_1", ["inp_7"])
    assert submit.request_id
    assert (status, answer["id"], answer["status"]) == (200, "resp_1-1", "completed")
    assert [item["content"][0]["text"] for item in answer["output"]] == ["Booked."]
    assert answer["previous_response_id"] == fields.get("previous_response_id")
    assert not setup.asked(CreateRunRequest)


async def test_an_answer_in_the_background_is_queued_until_the_run_resumes(setup: Setup) -> None:
    log = waiting(APPROVAL)
    setup.core.append(*log.events)

    async with asyncio.timeout(LIMIT):
        status, answer = await setup.post(input=[YES], background=True, metadata={"a": "b"})
        setup.core.log().run.ClearField("inputs")
        shown = await setup.get(f"{URL}/resp_1-1")

    assert (status, answer["id"], answer["status"], answer["background"]) == (200, "resp_1-1", "queued", True)
    assert (shown[0], shown[1]["status"]) == (200, "queued")


async def test_an_answer_can_be_streamed(setup: Setup) -> None:
    log = waiting(APPROVAL)
    setup.core.append(*log.events)
    seen = len(log.events)
    body = {"model": "echo", "input": [YES], "stream": True}
    async with asyncio.timeout(LIMIT), setup.http.post(URL, json=body) as response:
        log.resumed()
        log.text("Booked.")
        log.ended()
        setup.core.append(*log.events[seen:])
        stream = frames(await response.text())

    assert [frame["sequence_number"] for frame in stream] == list(range(len(stream)))
    assert (stream[0]["response"]["id"], stream[-1]["type"]) == ("resp_1-1", "response.completed")


async def test_a_request_that_leaves_a_question_open_is_refused(setup: Setup) -> None:
    setup.core.append(*waiting(APPROVAL).events)
    setup.core.thread.thread.active_run_id = "run_1"

    status, answer = await setup.post(previous_response_id="resp_1", input="Hello?")
    missing, named = await setup.post(conversation="thr_1", input=[{"id": "msg_1_1"}])

    assert (status, answer["error"]["param"]) == (400, "input")
    assert (missing, "mcpr_1_7" in named["error"]["message"]) == (400, True)
    assert not setup.asked(SubmitInputRequest)
    assert not setup.asked(CreateRunRequest)


async def test_an_approval_of_nothing_is_refused(setup: Setup) -> None:
    verdict = {**YES, "approval_request_id": "what"}

    status, answer = await setup.post(input=[verdict, {"role": "user", "content": "Go on."}])

    assert (status, answer["error"]["param"]) == (400, "input[0].approval_request_id")


async def test_an_approval_that_was_given_before_is_refused_by_the_core(setup: Setup) -> None:
    log = waiting(APPROVAL)
    log.resumed()
    setup.core.append(*log.events)
    setup.core.script["SubmitInput"] = [Refuse(grpc.StatusCode.FAILED_PRECONDITION, "INPUT_ANSWERED")]

    status, answer = await setup.post(input=[YES])

    assert (status, answer["error"]["code"]) == (409, "INPUT_ANSWERED")


# ── conversations ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_conversation_is_a_thread(setup: Setup) -> None:
    made = await setup.post("/v1/conversations", metadata={"topic": "a"})
    async with setup.http.post("/openai/v1/conversations") as response:
        empty = await response.json()
    shown = await setup.get("/v1/conversations/conv_1")
    missing, refused = await setup.get("/v1/conversations/conv_9")

    assert made == (
        200,
        {"id": "conv_1", "object": "conversation", "created_at": 0, "metadata": {"topic": "a"}},
    )
    assert empty["id"] == "conv_1"
    assert shown[1] == {"id": "conv_1", "object": "conversation", "created_at": 0, "metadata": {}}
    assert (missing, refused["error"]["code"]) == (404, "THREAD_NOT_FOUND")


async def test_the_items_of_a_conversation_are_what_was_said_in_it(setup: Setup) -> None:
    call = Part(ordinal=2)
    call.tool_call.call_id, call.tool_call.tool_name = "call_a", "own"
    result = Part(ordinal=3)
    result.tool_result.call_id = "call_a"
    result.tool_result.outcome = ToolOutcome.TOOL_OUTCOME_SUCCEEDED
    result.tool_result.output_json = '"seen"'
    setup.core.threads.said["thr_1"] = [
        user(1),
        Message(
            id="msg_2",
            run_id="run_5",
            role=Role.ROLE_ASSISTANT,
            parts=[Part(ordinal=1, text=TextPart(text="Hm")), call],
        ),
        Message(id="msg_3", run_id="run_5", role=Role.ROLE_TOOL, parts=[result]),
    ]

    _, listed = await setup.get("/v1/conversations/conv_1/items?order=asc")
    _, one = await setup.get("/v1/conversations/conv_1/items/mcp_5_2")
    missing, refused = await setup.get("/v1/conversations/conv_1/items/mcp_5_9")

    assert [(item["type"], item["id"]) for item in listed["data"]] == [
        ("message", "msg_1"),
        ("message", "msg_5_1"),
        ("mcp_call", "mcp_5_2"),
    ]
    assert one == listed["data"][2]
    assert (one["name"], one["output"], one["status"]) == ("own", "seen", "completed")
    assert (missing, refused["error"]["code"]) == (404, "ITEM_NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/responses/compact"),
        ("POST", "/v1/responses/input_tokens"),
        ("POST", "/v1/conversations/conv_1"),
        ("POST", "/v1/conversations/conv_1/items"),
        ("DELETE", "/v1/conversations/conv_1/items/msg_1"),
    ],
)
async def test_what_no_core_can_do_is_refused_in_openais_words(setup: Setup, method: str, path: str) -> None:
    status, answer = await setup.get(path, method)

    assert (status, answer["error"]["code"]) == (501, "NOT_SERVED")


async def test_a_deleted_conversation_takes_its_thread_along(setup: Setup) -> None:
    status, answer = await setup.get("/v1/conversations/conv_1", "DELETE")
    missing, _ = await setup.get("/v1/conversations/conv_9", "DELETE")

    [delete] = setup.asked(DeleteThreadRequest)
    assert (status, answer) == (200, {"id": "conv_1", "object": "conversation.deleted", "deleted": True})
    assert (delete.thread_id, delete.cancel) == ("thr_1", True)
    assert missing == 404


async def test_a_conversation_cannot_begin_with_items(setup: Setup) -> None:
    status, answer = await setup.post("/v1/conversations", items=[{"role": "user", "content": "Hi"}])

    assert (status, answer["error"]["code"], answer["error"]["param"]) == (501, "NOT_SERVED", "items")
