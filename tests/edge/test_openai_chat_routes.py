"""The chat routes over HTTP: a real edge between a real HTTP client and a scripted core."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import aiohttp
import grpc
import pytest

from edge.core import CoreClient
from edge.lifeline import run_of_client, watch_of_client
from penstock.v1.run_pb2 import EndReason, InputKind, InputRequest
from penstock.v1.run_service_pb2 import CancelRunRequest, CreateRunRequest, SubmitInputRequest
from tests.edge.conftest import StartEdge
from tests.edge.handmade_log import HandmadeLog
from tests.edge.scripted_calls import Refuse
from tests.edge.scripted_core import ScriptedCore

LIMIT = 10.0
OfClient = Callable[..., AbstractAsyncContextManager[object]]
HELLO = {"role": "user", "content": "Hello"}
URL = "/v1/chat/completions"


class GatedCore(ScriptedCore):
    """A core that can be held before it creates a run, and tells when it is asked to cancel one."""

    def __init__(self) -> None:
        super().__init__()
        self.creating = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.cancelled: asyncio.Future[CancelRunRequest] = asyncio.get_running_loop().create_future()

    async def hear(self, rpc: str, request: object, metadata: Mapping[str, str]) -> Refuse | None:
        refusal = await super().hear(rpc, request, metadata)
        if isinstance(request, CreateRunRequest):
            self.creating.set()
            await self.gate.wait()
        if isinstance(request, CancelRunRequest):
            self.cancelled.set_result(request)
        return refusal


@dataclass(frozen=True, slots=True)
class Setup:
    core: GatedCore
    http: aiohttp.ClientSession

    @property
    def creates(self) -> list[CreateRunRequest]:
        return [request for request in self.core.requests if isinstance(request, CreateRunRequest)]

    async def ask(self, asked: dict[str, Any], headers: dict[str, str] | None = None) -> str:
        async with self.http.post(URL, json=asked, headers=headers) as response:
            return await response.text()


@pytest.fixture
async def core() -> AsyncIterator[GatedCore]:
    gated = GatedCore()
    await gated.start()
    yield gated
    await gated.stop()


@pytest.fixture
async def setup(core: GatedCore, start_edge: StartEdge) -> AsyncIterator[Setup]:
    edge = await start_edge(reattach_for=0)
    async with aiohttp.ClientSession(f"http://{edge.address}") as http:
        yield Setup(core, http)


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "echo", "messages": [HELLO], **fields}


def finished() -> HandmadeLog:
    log = HandmadeLog()
    log.text("Hi ", "there")
    log.ended()
    return log


async def test_a_blocking_call_returns_the_completion_and_names_run_and_thread(setup: Setup) -> None:
    setup.core.append(*finished().events)

    async with setup.http.post(URL, json=body()) as response:
        answer = await response.json()

    assert response.status == 200
    assert (response.headers["X-Run-Id"], response.headers["X-Thread-Id"]) == ("run_1", "thr_1")
    assert response.headers["X-Request-Id"]
    assert answer["object"] == "chat.completion"
    assert (answer["id"], answer["created"], answer["model"]) == ("chatcmpl-run_1", 1_700_000_000, "echo")
    assert answer["choices"][0]["message"]["content"] == "Hi there"


@pytest.mark.parametrize("prefix", ["/v1", "/openai/v1"])
async def test_a_stream_ends_with_done_and_has_no_ids(setup: Setup, prefix: str) -> None:
    setup.core.append(*finished().events)

    async with setup.http.post(f"{prefix}/chat/completions", json=body(stream=True)) as response:
        stream = await response.text()

    assert response.content_type == "text/event-stream"
    assert response.headers["X-Accel-Buffering"] == "no"
    assert response.headers["X-Run-Id"] == "run_1"
    assert stream.endswith("data: [DONE]\n\n")
    assert "id:" not in [line[:3] for line in stream.splitlines()]
    assert stream.count('"delta":{"content":') == 2


async def test_a_stream_ends_when_the_run_waits_though_the_run_goes_on(setup: Setup) -> None:
    log = HandmadeLog()
    log.waiting(InputRequest(id="inp_1", message="Sure?"))
    setup.core.append(*log.events)

    async with asyncio.timeout(LIMIT), setup.http.post(URL, json=body(stream=True)) as response:
        stream = await response.text()

    assert "Sure?" in stream
    assert stream.endswith("data: [DONE]\n\n")
    assert not setup.core.cancelled.done()


@pytest.mark.parametrize(
    ("reason", "status", "kind"),
    [
        (EndReason.END_REASON_AGENT_ERROR, 500, "server_error"),
        (EndReason.END_REASON_REJECTED, 400, "invalid_request_error"),
        (EndReason.END_REASON_TIMEOUT, 504, "server_error"),
        (EndReason.END_REASON_QUEUE_TIMEOUT, 503, "server_error"),
    ],
)
async def test_a_failed_run_is_an_http_error_when_blocking(
    setup: Setup, reason: EndReason.ValueType, status: int, kind: str
) -> None:
    log = HandmadeLog()
    log.ended(reason)
    setup.core.append(*log.events)

    async with setup.http.post(URL, json=body()) as response:
        error = (await response.json())["error"]

    assert response.status == status
    assert response.headers["x-should-retry"] == "false"
    code = EndReason.Name(reason).removeprefix("END_REASON_")
    assert error == {"message": f"The run failed: {code}.", "type": kind, "param": None, "code": code}


@pytest.mark.parametrize(
    ("request_body", "status", "code", "param"),
    [
        (b"{", 400, "INVALID_JSON", None),
        (b'{"messages":' + b"[" * 100 + b"]" * 100 + b"}", 400, "JSON_TOO_DEEP", None),
        (b'{"model":"echo"}', 400, "INVALID_ARGUMENT", None),
        (b'{"model":"echo","messages":[{"role":"user","content":1}]}', 400, "INVALID_ARGUMENT", "messages[0].content"),
        (b'{"model":"nobody","messages":[{"role":"user","content":"x"}]}', 404, "model_not_found", None),
    ],
)
async def test_a_refusal_is_an_openai_error_that_no_client_repeats(
    setup: Setup, request_body: bytes, status: int, code: str, param: str | None
) -> None:
    headers = {"Content-Type": "application/json"}
    async with setup.http.post(URL, data=request_body, headers=headers) as response:
        error = (await response.json())["error"]

    assert response.status == status
    assert response.headers["x-should-retry"] == "false"
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", code, param)
    assert error["message"]
    assert not setup.core.logs


async def test_a_busy_thread_is_a_conflict_before_any_stream(setup: Setup) -> None:
    setup.core.script["CreateRun"] = [Refuse(grpc.StatusCode.FAILED_PRECONDITION, "THREAD_WAITING")]

    async with setup.http.post(URL, json=body(stream=True)) as response:
        error = (await response.json())["error"]

    assert (response.status, error["code"]) == (409, "THREAD_WAITING")
    assert response.headers["x-should-retry"] == "false"


async def test_a_watch_that_is_refused_becomes_an_error(setup: Setup) -> None:
    setup.core.append(*finished().events)
    setup.core.script["WatchMany"] = [Refuse(grpc.StatusCode.DATA_LOSS, "LOG_DAMAGED")]

    async with setup.http.post(URL, json=body()) as response:
        error = (await response.json())["error"]

    assert (response.status, error["type"], error["code"]) == (500, "server_error", "LOG_DAMAGED")


async def test_models_are_the_agents(setup: Setup) -> None:
    async with setup.http.get("/v1/models") as response:
        models = await response.json()
    async with setup.http.get("/v1/models/echo") as response:
        model = await response.json()
    async with setup.http.get("/openai/v1/models/no%2Fbody") as response:
        error = (await response.json())["error"]

    assert model == {"id": "echo", "object": "model", "created": 0, "owned_by": "penstock"}
    assert models == {"object": "list", "data": [model]}
    assert (response.status, error["code"]) == (404, "model_not_found")


CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "1"},
    {"role": "user", "content": "two"},
]


@pytest.mark.parametrize(
    ("thread", "new"),
    [
        ({}, 4),  # no thread: the request is all there is
        ({"X-Thread-Id": "thr_1"}, 1),  # the thread knows the rest
        ({"X-Thread-Id": "thr_new"}, 4),  # a conversation that began elsewhere
    ],
)
async def test_a_thread_gets_only_what_it_does_not_hold(setup: Setup, thread: dict[str, str], new: int) -> None:
    setup.core.append(*finished().events)

    async with setup.http.post(URL, json=body(messages=CONVERSATION), headers=thread) as response:
        assert response.status == 200

    [create] = setup.creates
    assert len(create.input) == new
    assert create.input[-1].parts[0].text.text == "two"


async def test_a_thread_that_holds_everything_has_nothing_to_answer(setup: Setup) -> None:
    said = body(messages=CONVERSATION[:3], metadata={"thread_id": "thr_1"})

    async with setup.http.post(URL, json=said) as response:
        error = (await response.json())["error"]

    assert (response.status, error["param"]) == (400, "messages")
    assert not setup.creates


RESULT = {"role": "tool", "tool_call_id": "call_a", "content": '{"seen": 1}'}
CALLED = {"id": "call_a", "type": "function", "function": {"name": "look", "arguments": "{}"}}
ON_THREAD = {"X-Thread-Id": "thr_1"}
TOOL = InputRequest(id="inp_1", kind=InputKind.INPUT_KIND_CLIENT_TOOL, call_id="call_a")
QUESTION = InputRequest(id="inp_2", message="Which?", schema_json='{"properties":{"answer":{"type":"string"}}}')
APPROVAL = InputRequest(id="inp_3", kind=InputKind.INPUT_KIND_APPROVAL)


@pytest.mark.parametrize("is_stream", [True, False])
@pytest.mark.parametrize(
    ("question", "said", "answer"),
    [
        (TOOL, [HELLO, {"role": "assistant", "tool_calls": [CALLED]}, RESULT], '{"output":{"seen":1}}'),
        (QUESTION, [{"role": "user", "content": "the red one"}], '{"answer":"the red one"}'),
    ],
    ids=["tool", "question"],
)
async def test_a_thread_that_waits_gets_its_answer_and_goes_on(
    setup: Setup, question: InputRequest, said: list[Any], answer: str, *, is_stream: bool
) -> None:
    log = HandmadeLog()
    log.waiting(question)
    setup.core.append(*log.events)
    setup.core.thread.thread.active_run_id = "run_1"
    asking = asyncio.create_task(setup.ask(body(messages=said, stream=is_stream), ON_THREAD))
    seen = len(log.events)
    async with asyncio.timeout(LIMIT):
        await setup.core.until_watched(starts=1)
        log.resumed()
        log.text("Thanks.")
        log.ended()
        setup.core.append(*log.events[seen:])
        completion = await asking

    [submit] = [asked for asked in setup.core.requests if isinstance(asked, SubmitInputRequest)]
    assert [(given.input_id, given.answer_json) for given in submit.answers] == [(question.id, answer)]
    assert not setup.creates
    assert '"content":"Thanks."' in completion
    assert "chatcmpl-run_1-1" in completion


@pytest.mark.parametrize("question", [TOOL, APPROVAL], ids=["tool", "approval"])
async def test_what_answers_nothing_is_for_the_core_to_refuse(setup: Setup, question: InputRequest) -> None:
    log = HandmadeLog()
    log.waiting(question)
    setup.core.append(*log.events)
    setup.core.thread.thread.active_run_id = "run_1"
    setup.core.script["CreateRun"] = [Refuse(grpc.StatusCode.FAILED_PRECONDITION, "THREAD_WAITING")]

    async with setup.http.post(URL, json=body(), headers=ON_THREAD) as response:
        error = (await response.json())["error"]

    assert (response.status, error["code"]) == (409, "THREAD_WAITING")


@pytest.mark.parametrize("asked", [body(stream=True), body()])
async def test_a_client_that_goes_away_cancels_its_run(setup: Setup, asked: dict[str, Any]) -> None:
    setup.core.append(*HandmadeLog().events)
    asking = asyncio.create_task(setup.ask(asked))
    async with asyncio.timeout(LIMIT):
        await setup.core.until_watched(starts=1)
        asking.cancel()
        cancel = await setup.core.cancelled

    assert (cancel.run_id, cancel.reason) == ("run_1", EndReason.END_REASON_DISCONNECTED)


@pytest.mark.parametrize("of_client", [run_of_client, watch_of_client])
async def test_a_client_that_goes_away_before_its_run_has_an_id_cancels_it_all_the_same(
    setup: Setup, of_client: OfClient
) -> None:
    setup.core.gate.clear()
    asking = asyncio.create_task(started(setup.core, of_client, ends_with_client=True))
    async with asyncio.timeout(LIMIT):
        await setup.core.creating.wait()
        asking.cancel()
        await asyncio.sleep(0)  # the cancel reaches the handler first
        setup.core.gate.set()
        with pytest.raises(asyncio.CancelledError):
            await asking

    assert (await setup.core.cancelled).run_id == "run_1"


@pytest.mark.parametrize("of_client", [run_of_client, watch_of_client])
async def test_a_run_may_be_told_to_go_on_without_its_client(setup: Setup, of_client: OfClient) -> None:
    with pytest.raises(ConnectionResetError):
        await started(setup.core, of_client, ends_with_client=False)

    assert not setup.core.cancelled.done()


@pytest.mark.parametrize("of_client", [run_of_client, watch_of_client])
async def test_a_client_that_is_lost_twice_cancels_its_run_all_the_same(setup: Setup, of_client: OfClient) -> None:
    losing = asyncio.create_task(started(setup.core, of_client, ends_with_client=True, lost_twice=True))
    async with asyncio.timeout(LIMIT):
        with pytest.raises(ConnectionResetError):
            await losing

    assert (await setup.core.cancelled).run_id == "run_1"


async def started(core: GatedCore, of_client: OfClient, *, ends_with_client: bool, lost_twice: bool = False) -> None:
    """Create a run, and lose the client at once: a write fails, and then the connection is seen to be lost too."""
    create = CreateRunRequest(agent_id="echo")
    async with CoreClient(core.address) as client, of_client(client, create, ends_with_client=ends_with_client):
        task = asyncio.current_task()
        if lost_twice and task is not None:
            task.cancel()
        raise ConnectionResetError


async def test_a_client_that_goes_away_while_its_run_is_created_cancels_it_over_http(setup: Setup) -> None:
    setup.core.append(*HandmadeLog().events)
    setup.core.gate.clear()
    asking = asyncio.create_task(setup.ask(body(stream=True)))
    async with asyncio.timeout(LIMIT):
        await setup.core.creating.wait()
        asking.cancel()
        await asyncio.wait([asking])
        setup.core.gate.set()
        cancel = await setup.core.cancelled

    assert (cancel.run_id, cancel.reason) == ("run_1", EndReason.END_REASON_DISCONNECTED)


async def test_a_stream_whose_core_stays_away_ends_with_an_error_and_done(setup: Setup) -> None:
    setup.core.append(*HandmadeLog().events)

    async with asyncio.timeout(LIMIT), setup.http.post(URL, json=body(stream=True)) as response:
        await response.content.readuntil(b"\n\n")
        await setup.core.stop()
        rest = await response.text()

    assert '"code":"CORE_UNAVAILABLE"' in rest
    assert rest.endswith("data: [DONE]\n\n")
