"""The chat routes over HTTP: a real edge between a real HTTP client and a scripted core."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
import grpc
import pytest

from edge.protocols.ai_sdk.origin import origin_after
from penstock.v1.message_pb2 import Message, Role, ToolRunner
from penstock.v1.run_pb2 import EndReason, InputKind, InputRequest, Run, RunState
from penstock.v1.run_service_pb2 import CancelRunRequest, CreateRunRequest, ListRunsRequest, SubmitInputRequest
from penstock.v1.thread_service_pb2 import ListMessagesRequest
from tests.edge.conftest import StartEdge
from tests.edge.handmade_log import HandmadeLog
from tests.edge.scripted_calls import Refuse
from tests.edge.scripted_core import ScriptedCore

LIMIT = 10.0
URL = "/v1/ai-sdk/echo"
HEADER = "x-vercel-ai-ui-message-stream"

RUNNING, WAITING = RunState.RUN_STATE_RUNNING, RunState.RUN_STATE_WAITING
QUEUED = RunState.RUN_STATE_QUEUED

APPROVAL = InputRequest(id="inp_1", kind=InputKind.INPUT_KIND_APPROVAL, call_id="call_1")
SECOND = InputRequest(id="inp_2", kind=InputKind.INPUT_KIND_APPROVAL, call_id="call_2")

Asked = TypeVar("Asked")


@dataclass(frozen=True, slots=True)
class Setup:
    core: ScriptedCore
    http: aiohttp.ClientSession

    def asked(self, kind: type[Asked]) -> list[Asked]:
        """Return the requests of this kind that the core got."""
        return [request for request in self.core.requests if isinstance(request, kind)]

    async def post(self, body: dict[str, Any], url: str = URL, **headers: str) -> tuple[aiohttp.ClientResponse, str]:
        async with asyncio.timeout(LIMIT), self.http.post(url, json=body, headers=headers) as response:
            return response, await response.text()

    async def get(self, url: str) -> tuple[aiohttp.ClientResponse, str]:
        async with asyncio.timeout(LIMIT), self.http.get(url) as response:
            return response, await response.text()


@pytest.fixture
async def setup(core: ScriptedCore, start_edge: StartEdge) -> AsyncIterator[Setup]:
    edge = await start_edge(reattach_for=0, heartbeat=0.2)
    async with aiohttp.ClientSession(f"http://{edge.address}") as http:
        yield Setup(core, http)


def chat(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"id": "thr_1", "trigger": "submit-message", "messages": messages, **fields}


def user(message_id: str, text: str = "Hello") -> dict[str, Any]:
    return {"id": message_id, "role": "user", "parts": [{"type": "text", "text": text}]}


def assistant(message_id: str, *parts: dict[str, Any]) -> dict[str, Any]:
    return {"id": message_id, "role": "assistant", "parts": parts}


def approved(input_id: str) -> dict[str, Any]:
    approval = {"id": input_id, "approved": True}
    part = {"type": "dynamic-tool", "toolName": "book", "toolCallId": "call_1", "state": "approval-responded"}
    return {**part, "approval": approval}


def finished(*pieces: str) -> HandmadeLog:
    log = HandmadeLog()
    log.text(*pieces)
    log.ended()
    return log


def asked(*questions: InputRequest) -> HandmadeLog:
    """The log of a run that waits."""
    log = HandmadeLog()
    log.calls({question.call_id: ("book", "{}") for question in questions}, ToolRunner.TOOL_RUNNER_AGENT)
    log.waiting(*questions)
    return log


async def heartbeats(setup: Setup, count: int) -> None:
    """Wait until a stream that has comments, opened beside the one that has none, has had so many."""
    async with setup.http.get("/v1/runs/run_1/events", headers={"Accept": "text/event-stream"}) as response:
        while count:
            count -= (await response.content.readline()).startswith(b":")


def types(stream: str) -> list[str]:
    blocks = [block.removeprefix("data: ") for block in stream.split("\n\n") if block.startswith("data: ")]
    return [block if block == "[DONE]" else json.loads(block)["type"] for block in blocks]


def text_of(stream: str) -> str:
    blocks = [block.removeprefix("data: ") for block in stream.split("\n\n")]
    return "".join(json.loads(block)["delta"] for block in blocks if "text-delta" in block)


# ── posting ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("url", "agent_id", "thread_id"),
    [
        ("/v1/ai-sdk/think", "think", "thr_1"),
        ("/v1/ai-sdk/agents/think/runs", "think", "thr_1"),
        ("/v1/ai-sdk/chat", "tool", "thr_1"),
        ("/v1/ai-sdk/threads/thr_7/runs", "tool", "thr_7"),
    ],
)
async def test_a_chat_is_streamed_under_all_its_names(setup: Setup, url: str, agent_id: str, thread_id: str) -> None:
    setup.core.append(*finished("Hi ", "there").events)

    response, stream = await setup.post(chat(user("u1"), agent="tool"), url)

    assert (response.status, response.content_type, response.headers[HEADER]) == (200, "text/event-stream", "v1")
    assert (response.headers["Cache-Control"], response.headers["X-Accel-Buffering"]) == ("no-cache", "no")
    assert (response.headers["X-Run-Id"], response.headers["X-Thread-Id"]) == ("run_1", "thr_1")
    assert text_of(stream) == "Hi there"
    assert stream.endswith("data: [DONE]\n\n")
    [create] = setup.asked(CreateRunRequest)
    assert (create.agent_id, create.thread_id) == (agent_id, thread_id)


async def test_the_default_agent_answers_where_none_is_named(core: ScriptedCore, start_edge: StartEdge) -> None:
    edge = await start_edge(default_agent="echo")
    core.append(*finished("Hi").events)

    async with aiohttp.ClientSession(f"http://{edge.address}") as http:
        _, stream = await Setup(core, http).post({"prompt": "x"}, "/v1/ai-sdk/chat")

    assert text_of(stream) == "Hi"


@pytest.mark.parametrize(
    ("url", "body", "status", "reason", "message"),
    [
        (URL, b"{", 400, "INVALID_JSON", "The body is not JSON"),
        (URL, b'{"messages":' + b"[" * 100 + b"]" * 100 + b"}", 400, "JSON_TOO_DEEP", "The JSON is nested deeper"),
        (URL, b"{}", 400, "INVALID_ARGUMENT", "Nothing was said"),
        ("/v1/ai-sdk/chat", b'{"prompt":"x"}', 400, "INVALID_ARGUMENT", "Which agent?"),
        ("/v1/ai-sdk/nobody", b'{"prompt":"x"}', 404, "AGENT_NOT_FOUND", "refused: AGENT_NOT_FOUND"),
    ],
)
async def test_a_refusal_is_a_readable_text(
    setup: Setup, url: str, body: bytes, status: int, reason: str, message: str
) -> None:
    async with setup.http.post(url, data=body, headers={"Content-Type": "application/json"}) as response:
        text = await response.text()

    assert (response.status, response.content_type, response.headers["X-Reason"]) == (status, "text/plain", reason)
    assert text.startswith(message)
    assert not setup.core.logs


async def test_a_thread_that_waits_refuses_what_is_no_answer_before_any_stream(setup: Setup) -> None:
    setup.core.script["CreateRun"] = [Refuse(grpc.StatusCode.FAILED_PRECONDITION, "THREAD_WAITING")]

    response, text = await setup.post(chat(user("u1")))

    assert (response.status, text) == (409, "refused: THREAD_WAITING")


async def test_a_message_that_is_posted_again_is_answered_by_the_run_that_it_made(setup: Setup) -> None:
    setup.core.append(*finished("Hi").events)

    answers = [await setup.post(chat(user("u1"))) for _ in range(2)]

    assert [(response.headers["X-Run-Id"], text_of(stream)) for response, stream in answers] == [("run_1", "Hi")] * 2
    assert len(setup.core.created) == 1
    assert setup.asked(ListMessagesRequest) == []  # a long thread is not read for it


async def test_of_several_messages_those_that_were_asked_are_found_in_the_thread(setup: Setup) -> None:
    known = [Message(id=f"msg_{n}", client_id=f"u{n}", role=Role.ROLE_USER, run_id=f"run_{n}") for n in (1, 2)]
    setup.core.threads.messages = known
    setup.core.append(*finished("Hi").events, run_id="run_2")

    _, stream = await setup.post(chat(user("u1"), user("u2")))

    assert (text_of(stream), setup.asked(CreateRunRequest)) == ("Hi", [])


@pytest.mark.parametrize(
    ("state", "order"),
    [(RUNNING, [CreateRunRequest, CancelRunRequest]), (WAITING, [CancelRunRequest, CreateRunRequest])],
)
async def test_regenerating_cancels_the_run_whose_place_the_new_one_takes(
    setup: Setup, state: RunState.ValueType, order: list[type]
) -> None:
    setup.core.threads.messages = [Message(id="msg_1", client_id="u1", role=Role.ROLE_USER, run_id="run_9")]
    setup.core.append(*finished("Again").events)
    setup.core.log("run_9").run.state = state

    _, stream = await setup.post(chat(user("u1"), trigger="regenerate-message"))

    assert text_of(stream) == "Again"
    [cancel] = setup.asked(CancelRunRequest)
    assert (cancel.run_id, cancel.reason) == ("run_9", EndReason.END_REASON_SUPERSEDED)
    assert [type(request) for request in setup.core.requests if type(request) in order] == order


async def test_a_client_that_goes_away_stops_nothing(setup: Setup) -> None:
    setup.core.append(*HandmadeLog().events)
    async with asyncio.timeout(LIMIT):
        async with setup.http.post(URL, json=chat(user("u1"))) as response:
            await response.content.readuntil(b"\n\n")
            response.close()
        await setup.core.until_watched(starts=1, stops=1)

    assert setup.asked(CancelRunRequest) == []


async def test_a_stream_whose_core_stays_away_ends_with_an_error_and_done(setup: Setup) -> None:
    setup.core.append(*HandmadeLog().events)

    async with asyncio.timeout(LIMIT), setup.http.post(URL, json=chat(user("u1"))) as response:
        await response.content.readuntil(b"\n\n")
        await setup.core.stop()
        rest = await response.text()

    assert types(rest)[-2:] == ["error", "[DONE]"]


# ── answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_approval_is_submitted_and_answered_by_the_next_leg_of_the_same_message(setup: Setup) -> None:
    log = asked(APPROVAL)
    setup.core.append(*log.events)
    posting = asyncio.create_task(setup.post(chat(user("u1"), assistant("run_1", approved("inp_1")))))
    async with asyncio.timeout(LIMIT):
        await setup.core.until_watched(starts=1)
    told = len(log.events)
    log.resumed()
    log.result("call_1", "book", "7")
    log.text("Booked.")
    log.ended()
    setup.core.append(*log.events[told:])

    response, stream = await posting

    [submit] = setup.asked(SubmitInputRequest)
    assert [(answer.input_id, answer.answer_json) for answer in submit.answers] == [("inp_1", '{"approved":true}')]
    assert submit.request_id  # so that a repeat over a restart of the core is harmless
    assert json.loads(stream.split("\n\n")[0].removeprefix("data: "))["messageId"] == "run_1"
    assert types(stream)[1:4] == ["tool-output-available", "start-step", "text-start"]
    assert (text_of(stream), types(stream)[-2:]) == ("Booked.", ["finish", "[DONE]"])
    assert (response.headers[HEADER], setup.asked(CreateRunRequest)) == ("v1", [])


async def test_an_answer_in_part_ends_at_once_because_the_rest_is_waited_for(setup: Setup) -> None:
    setup.core.append(*asked(APPROVAL, SECOND).events)

    response, stream = await setup.post(chat(assistant("run_1", approved("inp_1"))))

    assert types(stream) == ["start", "finish", "[DONE]"]
    assert (response.content_type, response.headers[HEADER]) == ("text/event-stream", "v1")
    assert len(setup.asked(SubmitInputRequest)) == 1


async def test_an_answer_that_came_too_late_is_a_conflict(setup: Setup) -> None:
    setup.core.append(*asked(APPROVAL).events)
    run = setup.core.log().run
    run.state = WAITING
    run.inputs.append(APPROVAL)
    setup.core.script["SubmitInput"] = [Refuse(grpc.StatusCode.FAILED_PRECONDITION, "INPUT_ANSWERED")]

    response, text = await setup.post(chat(assistant("run_1", approved("inp_1"))))

    assert (response.status, text) == (409, "refused: INPUT_ANSWERED")


# ── coming back ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("state", [QUEUED, RUNNING, WAITING])
async def test_a_message_that_is_being_written_is_told_from_its_start(setup: Setup, state: RunState.ValueType) -> None:
    log = finished("Hi ", "there")
    setup.core.append(*log.events[:-3])
    setup.core.log().run.state = state
    getting = asyncio.create_task(setup.get(f"{URL}/thr_1/stream"))
    async with asyncio.timeout(LIMIT):
        await setup.core.until_watched(starts=1)
    setup.core.append(*log.events[-3:])

    response, stream = await getting

    assert (response.status, response.headers[HEADER]) == (200, "v1")
    assert (types(stream)[0], text_of(stream), types(stream)[-1]) == ("start", "Hi there", "[DONE]")
    [listed] = setup.asked(ListRunsRequest)
    assert (listed.thread_id, list(listed.states)) == ("thr_1", [QUEUED, RUNNING, WAITING])


async def test_a_thread_in_the_path_goes_before_the_id_of_the_chat(setup: Setup) -> None:
    setup.core.append(*asked(APPROVAL).events)
    setup.core.log().run.state = WAITING

    response, _ = await setup.get("/v1/ai-sdk/threads/thr_1/runs/some-chat/stream")

    assert response.status == 200


async def test_a_question_that_nobody_has_answered_is_put_again(setup: Setup) -> None:
    setup.core.append(*asked(APPROVAL).events)
    setup.core.log().run.state = WAITING

    _, stream = await setup.get(f"{URL}/thr_1/stream")

    assert types(stream)[-4:] == ["tool-approval-request", "finish-step", "finish", "[DONE]"]


async def test_a_message_of_two_runs_is_told_from_the_start_of_the_first(setup: Setup) -> None:
    first, second = finished("One."), finished("Two.")
    origin = origin_after(Run(id="run_1"))
    second.events[0].run_queued.run.id = "run_2"
    second.events[0].run_queued.run.origin_json = origin
    setup.core.append(*first.events)
    setup.core.append(*second.events, run_id="run_2")
    run = setup.core.log("run_2").run
    run.state, run.origin_json = RUNNING, origin

    _, stream = await setup.get(f"{URL}/thr_1/stream")

    assert json.loads(stream.split("\n\n")[0].removeprefix("data: "))["messageId"] == "run_1"
    assert (types(stream).count("start"), types(stream).count("finish")) == (1, 1)
    assert text_of(stream) == "One.Two."


@pytest.mark.parametrize("chat_id", ["thr_1", "thr_9"])
async def test_where_nothing_is_written_there_is_no_content(setup: Setup, chat_id: str) -> None:
    setup.core.append(*finished("Hi").events)
    about_to_end = setup.core.log("run_2").run
    about_to_end.state, about_to_end.cancel_requested = RUNNING, True

    response, body = await setup.get(f"{URL}/{chat_id}/stream")

    assert (response.status, body) == (204, "")


@pytest.mark.parametrize(("method", "path"), [("DELETE", "stream"), ("POST", "stop")])
@pytest.mark.parametrize("api", [URL, "/v1/ai-sdk/chat"])
async def test_stopping_cancels_what_runs_and_what_waits_behind_it(
    setup: Setup, api: str, method: str, path: str
) -> None:
    setup.core.append(*finished("Hi").events)
    setup.core.log("run_2").run.state = RUNNING
    setup.core.log("run_3").run.state = QUEUED

    async with setup.http.request(method, f"{api}/thr_1/{path}") as response:
        stopped = await response.json()
    async with setup.http.request(method, f"{api}/thr_1/{path}") as response:
        stopped_again = await response.json()

    assert (stopped, stopped_again) == ({"stopped": ["run_3", "run_2"]}, {"stopped": []})
    assert [cancel.reason for cancel in setup.asked(CancelRunRequest)] == [EndReason.END_REASON_USER] * 2


# ── plain text ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("url", "accept"), [(f"{URL}?protocol=text", "*/*"), (URL, "text/plain")])
async def test_text_is_plain_when_it_is_asked_for_and_has_no_comments_in_it(
    setup: Setup, url: str, accept: str
) -> None:
    log = finished("Grüezi ", "da")
    setup.core.append(*log.events[:5])
    posting = asyncio.create_task(setup.post({"prompt": "x"}, url, Accept=accept))
    async with asyncio.timeout(LIMIT):
        await setup.core.until_watched(starts=1)
        await heartbeats(setup, 2)
    setup.core.append(*log.events[5:])

    response, text = await posting

    assert (response.headers["Content-Type"], text) == ("text/plain; charset=utf-8", "Grüezi da")


async def test_text_that_ends_with_a_failure_is_cut_off(setup: Setup) -> None:
    log = HandmadeLog()
    log.text("This will not ")
    log.ended(EndReason.END_REASON_AGENT_ERROR)
    setup.core.append(*log.events)

    with pytest.raises(aiohttp.ClientPayloadError):
        await setup.post({"prompt": "x"}, f"{URL}?protocol=text")
