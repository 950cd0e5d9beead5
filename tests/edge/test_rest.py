"""The native routes: exact answers, what they ask of the core, and refusals that name their reason."""

import asyncio
from typing import Any

import aiohttp
import grpc
import pytest

from penstock.v1.message_pb2 import Role
from penstock.v1.run_pb2 import BusyPolicy, EndReason, RunState
from penstock.v1.run_service_pb2 import (
    CancelRunRequest,
    CreateRunRequest,
    GetRunRequest,
    ListEventsRequest,
    ListRunsRequest,
    WaitRunRequest,
)
from penstock.v1.thread_service_pb2 import CreateThreadRequest, ListMessagesRequest
from tests.edge.frames import ACCEPT, read
from tests.edge.hello_log import beginning, ending, whole
from tests.edge.scripted_calls import Refuse
from tests.edge.scripted_core import ScriptedCore

AGENT = {"id": "echo", "name": "Echo", "description": "Repeats.", "online": True, "metadata": {"team": "a"}}
THREAD = {"id": "thr_1", "state": {"n": 1.0}, "message_count": 2}
SAID = {"id": "msg_9", "role": "assistant", "parts": [{"ordinal": 1, "kind": "text", "text": "Said."}]}
RUN = {"id": "run_1", "agent_id": "echo", "thread_id": "thr_1", "state": "running"}
CREATE = {"agent_id": "echo", "input": "Hi"}


async def get(http: aiohttp.ClientSession, path: str, **params: str) -> tuple[int, Any]:
    async with http.get(path, params=params) as response:
        return response.status, await response.json(content_type=None)


async def post(http: aiohttp.ClientSession, path: str, body: object, **headers: str) -> tuple[int, Any]:
    async with http.post(path, json=body, headers=headers) as response:
        return response.status, await response.json(content_type=None)


def asked(core: ScriptedCore, kind: type[Any]) -> Any:
    """Return the one request of this kind that the core got."""
    [request] = [request for request in core.requests if isinstance(request, kind)]
    return request


async def test_agents_threads_and_messages_are_flat_json(core: ScriptedCore, http: aiohttp.ClientSession) -> None:
    assert await get(http, "/v1/agents") == (200, {"agents": [AGENT], "next_page_token": ""})
    assert await get(http, "/v1/agents/echo") == (200, AGENT)
    assert await get(http, "/v1/threads") == (200, {"threads": [THREAD], "next_page_token": ""})
    assert await get(http, "/v1/threads/thr_1") == (200, THREAD)
    messages = await get(http, "/v1/threads/thr_1/messages", page_size="5", page_token="t")
    assert messages == (200, {"messages": [SAID], "next_page_token": ""})
    page = asked(core, ListMessagesRequest)
    assert (page.thread_id, page.page_size, page.page_token) == ("thr_1", 5, "t")


async def test_a_thread_is_created_with_an_id_of_the_clients_choice(
    core: ScriptedCore, http: aiohttp.ClientSession
) -> None:
    async with http.post("/v1/threads", json={"thread_id": "mine", "metadata": {"a": "b"}}) as response:
        assert (response.status, response.headers["Location"]) == (201, "/v1/threads/mine")
        assert await response.json() == {"id": "mine", "metadata": {"a": "b"}}
    assert asked(core, CreateThreadRequest).request_id
    async with http.post("/v1/threads") as response:
        assert response.status == 201


@pytest.mark.parametrize(("steers", "told"), [(True, "true"), (False, None)])
async def test_input_that_went_to_the_active_run_is_told_from_a_new_run(
    core: ScriptedCore, http: aiohttp.ClientSession, *, steers: bool, told: str | None
) -> None:
    core.steers = steers
    async with http.post("/v1/runs", json=CREATE) as response:
        assert (response.status, response.headers.get("X-Run-Steered")) == (202, told)


async def test_runs_are_listed_with_filters(core: ScriptedCore, http: aiohttp.ClientSession) -> None:
    core.log()
    query = {
        "page_size": "1",
        "thread_id": "thr_1",
        "state": "running,waiting",
        "created_since": "2030-01-01T00:00:00Z",
        "metadata.user": "u1",
    }
    assert await get(http, "/v1/runs", **query) == (200, {"runs": [RUN], "next_page_token": "more"})

    filters = asked(core, ListRunsRequest)
    assert list(filters.states) == [RunState.RUN_STATE_RUNNING, RunState.RUN_STATE_WAITING]
    assert dict(filters.metadata) == {"user": "u1"}
    assert filters.created_since.ToJsonString() == "2030-01-01T00:00:00Z"
    assert (filters.thread_id, filters.page_size) == ("thr_1", 1)


async def test_the_runs_of_a_thread_are_there_only_if_the_thread_is(
    core: ScriptedCore, http: aiohttp.ClientSession
) -> None:
    core.log()
    assert (await get(http, "/v1/threads/thr_1/runs"))[0] == 200
    status, problem = await get(http, "/v1/threads/thr_9/runs")
    assert (status, problem["reason"]) == (404, "THREAD_NOT_FOUND")


async def test_a_created_run_is_answered_at_once(core: ScriptedCore, http: aiohttp.ClientSession) -> None:
    body = CREATE | {
        "thread_id": "thr_1",
        "options": {"busy_policy": "reject", "run_timeout": 2.5},
        "metadata": {"user": "u1"},
    }
    async with http.post("/v1/runs", json=body) as response:
        assert (response.status, await response.json()) == (202, RUN)
        assert response.headers["Location"] == "/v1/runs/run_1"
        assert response.headers["X-Run-Id"] == "run_1"

    create = asked(core, CreateRunRequest)
    assert (create.agent_id, create.thread_id, dict(create.metadata)) == ("echo", "thr_1", {"user": "u1"})
    assert create.options.busy_policy == BusyPolicy.BUSY_POLICY_REJECT
    assert create.options.run_timeout.ToMilliseconds() == 2500
    assert (create.input[0].role, create.input[0].parts[0].text.text) == (Role.ROLE_USER, "Hi")
    assert len(create.request_id) == 32


async def test_a_created_run_streams_when_events_are_accepted(core: ScriptedCore, http: aiohttp.ClientSession) -> None:
    core.append(*whole(deltas=2))

    async with http.post("/v1/runs", json=CREATE, headers=ACCEPT) as response:
        assert response.status == 200
        assert response.headers["X-Run-Id"] == "run_1"
        assert response.headers["Location"] == "/v1/runs/run_1"
        assert (await read(response)).seqs == list(range(1, 10))


async def test_a_run_that_is_refused_is_a_status_and_no_stream(core: ScriptedCore, http: aiohttp.ClientSession) -> None:
    core.script["CreateRun"] = [Refuse(grpc.StatusCode.FAILED_PRECONDITION, "THREAD_BUSY", {"run_id": "run_7"})]

    status, problem = await post(http, "/v1/runs", CREATE, **ACCEPT)

    assert (status, problem["reason"], problem["run_id"]) == (409, "THREAD_BUSY", "run_7")
    assert core.logs == {}


async def test_a_client_that_leaves_before_its_run_is_there_does_not_stop_it(
    core: ScriptedCore, http: aiohttp.ClientSession
) -> None:
    core.is_mute = True
    asking = asyncio.create_task(post(http, "/v1/runs", CREATE, **ACCEPT))
    async with asyncio.timeout(10):
        await core.until_watched(starts=1)
        asking.cancel()
        await core.until_watched(stops=1)

    assert list(core.logs) == ["run_1"]
    assert not [request for request in core.requests if isinstance(request, CancelRunRequest)]


async def test_a_repeat_with_the_same_key_and_body_is_the_same_run(
    core: ScriptedCore, http: aiohttp.ClientSession
) -> None:
    body = CREATE | {"metadata": {"a": "1", "b": "2", "c": "3"}, "options": {"agent_options": {"x": 1.0}}}
    runs = [await post(http, "/v1/runs", body, **{"Idempotency-Key": "k1"}) for _ in range(2)]
    core.append(*whole(deltas=1))
    async with http.post("/v1/runs", json=body, headers=ACCEPT | {"Idempotency-Key": "k1"}) as response:
        streamed = (response.headers["X-Run-Id"], (await read(response)).seqs)

    assert [run["id"] for _, run in runs] == ["run_1", "run_1"]
    assert streamed == ("run_1", list(range(1, 9)))
    assert {request.request_id for request in core.requests if isinstance(request, CreateRunRequest)} == {"k1"}

    status, problem = await post(http, "/v1/runs", CREATE | {"input": "Other"}, **{"Idempotency-Key": "k1"})
    assert (status, problem["reason"]) == (409, "IDEMPOTENCY_MISMATCH")
    assert len(core.logs) == 1


async def test_waiting_answers_with_the_ended_run_and_what_was_said(
    core: ScriptedCore, http: aiohttp.ClientSession
) -> None:
    core.append(*beginning())
    creating = asyncio.create_task(post(http, "/v1/runs?wait=10", CREATE))
    while not any(isinstance(request, WaitRunRequest) for request in core.requests):
        await asyncio.sleep(0)  # until the edge waits
    core.append(*ending(5))

    status, run = await creating

    assert (status, run["state"], run["reason"]) == (200, "succeeded", "completed")
    assert run["messages"] == [SAID]


async def test_waiting_in_vain_answers_with_the_run_as_it_is(core: ScriptedCore, http: aiohttp.ClientSession) -> None:
    core.append(*beginning())

    status, run = await post(http, "/v1/runs?wait=0.05", CREATE)

    assert (status, run["state"]) == (202, "running")
    assert "messages" not in run


async def test_a_run_is_shown_briefly_or_whole(core: ScriptedCore, http: aiohttp.ClientSession) -> None:
    core.log()
    assert await get(http, "/v1/runs/run_1") == (200, RUN)
    assert await get(http, "/v1/runs/run_1", view="full") == (200, RUN | {"messages": [SAID]})


async def test_a_cancel_is_accepted_and_of_an_ended_run_is_a_look_at_it(
    core: ScriptedCore, http: aiohttp.ClientSession
) -> None:
    core.append(*beginning())
    async with http.post("/v1/runs/run_1/cancel", headers={"Idempotency-Key": "c1"}) as response:
        assert (response.status, (await response.json())["cancel_requested"]) == (202, True)
    cancel = asked(core, CancelRunRequest)
    assert (cancel.run_id, cancel.request_id, cancel.reason) == ("run_1", "c1", EndReason.END_REASON_UNSPECIFIED)

    core.append(*ending(5))
    assert (await post(http, "/v1/runs/run_1/cancel", {"reason": "superseded"}))[0] == 200


async def test_events_are_a_page_of_json(core: ScriptedCore, http: aiohttp.ClientSession) -> None:
    core.append(*whole(deltas=3))

    status, page = await get(http, "/v1/runs/run_1/events", after="4", page_size="2")

    piece = {"type": "part.delta", "part": 1, "kind": "text", "text": "piece "}
    assert (status, page) == (200, {"events": [piece | {"seq": 5}, piece | {"seq": 6}], "head_seq": 10})
    assert asked(core, ListEventsRequest).page_size == 2


async def test_a_stream_asks_with_the_callers_credentials_whether_it_may(
    core: ScriptedCore, http: aiohttp.ClientSession
) -> None:
    core.append(*whole(deltas=1))
    core.script["GetRun"] = [Refuse(grpc.StatusCode.PERMISSION_DENIED, "FORBIDDEN")]
    headers = ACCEPT | {"Authorization": "Bearer abc"}

    async with http.get("/v1/runs/run_1/events", headers=headers) as response:
        assert (response.status, (await response.json(content_type=None))["reason"]) == (403, "FORBIDDEN")

    assert asked(core, GetRunRequest).run_id == "run_1"
    assert core.metadata[0]["authorization"] == "Bearer abc"
    assert core.starts == []


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "reason"),
    [
        ("GET", "/v1/agents/nobody", None, 404, "AGENT_NOT_FOUND"),
        ("GET", "/v1/threads/nowhere", None, 404, "THREAD_NOT_FOUND"),
        ("GET", "/v1/runs/run_9", None, 404, "RUN_NOT_FOUND"),
        ("GET", "/v1/runs/run_9/events", None, 404, "RUN_NOT_FOUND"),
        ("POST", "/v1/runs/run_9/cancel", None, 404, "RUN_NOT_FOUND"),
        ("POST", "/v1/runs", {"agent_id": "nobody"}, 404, "AGENT_NOT_FOUND"),
        ("GET", "/v1/nothing", None, 404, "NO_SUCH_ROUTE"),
        ("DELETE", "/v1/runs", None, 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/v1/runs?page_size=many", None, 400, "INVALID_ARGUMENT"),
        ("GET", "/v1/runs?page_size=-1", None, 400, "INVALID_ARGUMENT"),
        ("GET", "/v1/runs?page_sice=1", None, 400, "INVALID_ARGUMENT"),
        ("GET", "/v1/runs?page_size=1&page_size=2", None, 400, "INVALID_ARGUMENT"),
        ("GET", "/v1/runs?state=asleep", None, 400, "INVALID_ARGUMENT"),
        ("GET", "/v1/runs?created_since=today", None, 400, "INVALID_ARGUMENT"),
        ("GET", "/v1/runs/run_1?view=all", None, 400, "INVALID_ARGUMENT"),
        ("GET", "/v1/runs/run_1/events?after=x", None, 400, "INVALID_CURSOR"),
        ("GET", "/v1/runs/run_1/events?after=-1", None, 400, "INVALID_CURSOR"),
        ("GET", "/v1/runs/run_1/events?after=2147483648", None, 400, "INVALID_CURSOR"),
        ("GET", "/v1/runs/run_1/events?after=٣", None, 400, "INVALID_CURSOR"),
        ("POST", "/v1/runs?wait=soon", CREATE, 400, "INVALID_ARGUMENT"),
        ("POST", "/v1/runs?wait=601", CREATE, 400, "INVALID_ARGUMENT"),
        ("POST", "/v1/runs?wait=nan", CREATE, 400, "INVALID_ARGUMENT"),
        ("POST", "/v1/runs", {}, 400, "INVALID_ARGUMENT"),
        ("POST", "/v1/runs", [], 400, "INVALID_ARGUMENT"),
        ("POST", "/v1/runs", {"agent_id": 5}, 400, "INVALID_ARGUMENT"),
        ("POST", "/v1/runs", CREATE | {"inputs": "x"}, 400, "INVALID_ARGUMENT"),
        ("POST", "/v1/runs", CREATE | {"request_id": "x"}, 400, "INVALID_ARGUMENT"),
        ("POST", "/v1/runs", CREATE | {"metadata": {"a": 1}}, 400, "INVALID_ARGUMENT"),
        ("POST", "/v1/runs", CREATE | {"input": [{"role": "boss"}]}, 400, "INVALID_ARGUMENT"),
        ("POST", "/v1/runs/run_1/cancel", {"reason": "boredom"}, 400, "INVALID_ARGUMENT"),
        ("POST", "/v1/threads", {"id": "x"}, 400, "INVALID_ARGUMENT"),
    ],
)
async def test_a_bad_request_is_a_problem_with_a_reason(
    core: ScriptedCore,
    http: aiohttp.ClientSession,
    method: str,
    path: str,
    body: object,
    status: int,
    reason: str,
) -> None:
    async with http.request(method, path, json=body) as response:
        problem = await response.json(content_type="application/problem+json")

    assert (response.status, problem["reason"]) == (status, reason)
    assert problem["status"] == status
    assert problem["type"] == "about:blank"
    assert problem["title"]
    assert problem["detail"]
    assert core.logs == {}, "no half-made run"


@pytest.mark.parametrize(
    ("body", "headers", "status", "reason"),
    [
        (b"{", {}, 400, "INVALID_JSON"),
        (b'{"agent_id": "echo", "input": "\xff"}', {}, 400, "INVALID_JSON"),
        (b'{"agent_id": "\\ud800"}', {}, 400, "INVALID_JSON"),
        (b"", {}, 400, "INVALID_JSON"),
        (b'{"agent_id": "echo", "input": ' + b"[" * 70 + b"]" * 70 + b"}", {}, 400, "JSON_TOO_DEEP"),
        (b"[" * 500_000, {}, 400, "JSON_TOO_DEEP"),
        (b'{"agent_id": "' + b"x" * (1 << 20) + b'"}', {}, 413, "BODY_TOO_LARGE"),
        (b'{"agent_id": "echo"}', {"Content-Type": "text/plain"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        (b'{"agent_id": "echo"}', {"Idempotency-Key": "a b"}, 400, "INVALID_IDEMPOTENCY_KEY"),
        (b'{"agent_id": "echo"}', {"Idempotency-Key": "k" * 129}, 400, "INVALID_IDEMPOTENCY_KEY"),
        (b'{"agent_id": "echo"}', {"X-Long": "h" * 9000}, 431, "HEADERS_TOO_LARGE"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_a_body_that_cannot_be_used_makes_no_run(
    core: ScriptedCore, http: aiohttp.ClientSession, body: bytes, headers: dict[str, str], status: int, reason: str
) -> None:
    sent = {"Content-Type": "application/json"} | headers
    async with http.post("/v1/runs", data=body, headers=sent) as response:
        problem = await response.json(content_type="application/problem+json")

    assert (response.status, problem["reason"]) == (status, reason)
    assert core.requests == []


async def test_a_body_without_a_length_is_measured_as_it_comes(core: ScriptedCore, http: aiohttp.ClientSession) -> None:
    async def endless() -> Any:
        for _ in range(40):
            yield b" " * (64 << 10)

    async with http.post("/v1/runs", data=endless(), headers={"Content-Type": "application/json"}) as response:
        assert (response.status, (await response.json(content_type=None))["reason"]) == (413, "BODY_TOO_LARGE")
    assert core.requests == []


async def test_a_path_that_is_too_long_is_refused(http: aiohttp.ClientSession) -> None:
    status, problem = await get(http, "/v1/agents/" + "a" * 9000)

    assert (status, problem["reason"]) == (414, "URL_TOO_LONG")


@pytest.mark.parametrize(
    ("refusal", "status", "retry_after"),
    [
        (Refuse(grpc.StatusCode.FAILED_PRECONDITION, "THREAD_BUSY", {"run_id": "run_7"}), 409, None),
        (Refuse(grpc.StatusCode.FAILED_PRECONDITION, "THREAD_WAITING"), 409, None),
        (Refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL"), 429, "1"),
        (Refuse(grpc.StatusCode.UNAVAILABLE, "NO_WORKER"), 503, "1"),
        (Refuse(grpc.StatusCode.UNAVAILABLE, "STORE_FULL"), 503, "1"),
        (Refuse(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", {"field": "thread_id"}), 400, None),
        (Refuse(grpc.StatusCode.UNIMPLEMENTED, "NOT_SERVED"), 501, None),
        (Refuse(grpc.StatusCode.UNAUTHENTICATED, "NO_TOKEN"), 401, None),
    ],
    ids=lambda value: value.reason if isinstance(value, Refuse) else "",
)
async def test_a_refusal_of_the_core_keeps_its_reason_and_what_it_says(
    core: ScriptedCore, http: aiohttp.ClientSession, refusal: Refuse, status: int, retry_after: str | None
) -> None:
    core.script["CreateRun"] = [refusal]

    async with http.post("/v1/runs", json=CREATE) as response:
        problem = await response.json(content_type="application/problem+json")

    assert (response.status, response.headers.get("Retry-After")) == (status, retry_after)
    assert problem["reason"] == refusal.reason
    assert problem["detail"] == f"refused: {refusal.reason}"
    assert refusal.metadata.items() <= problem.items()


async def test_head_and_options_are_answered_without_a_body(core: ScriptedCore, http: aiohttp.ClientSession) -> None:
    core.append(*beginning())

    async with http.head("/v1/runs/run_1/events", headers=ACCEPT) as response:
        assert (response.status, response.headers["Content-Type"]) == (200, "text/event-stream")
    async with http.options("/v1/runs") as response:
        assert (response.status, await response.read()) == (204, b"")
        assert set(response.headers["Allow"].split(",")) >= {"GET", "POST"}
    async with http.delete("/v1/runs") as response:
        assert response.headers["Allow"]
    assert core.starts == []
