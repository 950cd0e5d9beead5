"""State, forks, storage and deletion over REST: exact answers, what is asked of the core, refusals with a reason."""

from __future__ import annotations

from typing import Any

import aiohttp
import grpc
import pytest

from penstock.v1.run_pb2 import EndReason, RunState
from penstock.v1.run_service_pb2 import CancelRunsRequest, DeleteRunRequest
from penstock.v1.thread_service_pb2 import (
    DeleteThreadRequest,
    EventRef,
    ForkThreadRequest,
    PatchStateRequest,
    SetStateRequest,
)
from tests.edge.hello_log import beginning, whole
from tests.edge.scripted_calls import Refuse
from tests.edge.scripted_core import ScriptedCore

STATE = "/v1/threads/thr_1/state"
PATCH = {"Content-Type": "application/json-patch+json"}
BUSY = Refuse(grpc.StatusCode.FAILED_PRECONDITION, "THREAD_BUSY", {"run_id": "run_7"})


def asked(core: ScriptedCore, kind: type[Any]) -> Any:
    """Return the one request of this kind that the core got."""
    [request] = [request for request in core.requests if isinstance(request, kind)]
    return request


async def problem(response: aiohttp.ClientResponse) -> tuple[int, str, dict[str, Any]]:
    body = await response.json(content_type="application/problem+json")
    return response.status, body["reason"], body


# ── state ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_state_is_a_resource_with_a_tag(core: ScriptedCore, http: aiohttp.ClientSession) -> None:
    core.thread.thread.state_version = 3
    async with http.get(STATE) as response:
        assert (response.status, await response.read()) == (200, b'{"n":1.0}')
        assert response.headers["Content-Type"] == "application/json"
        assert (response.headers["ETag"], response.headers["Cache-Control"]) == ('"3"', "no-cache")
    async with http.head(STATE) as response:
        assert (response.status, response.headers["ETag"]) == (200, '"3"')


@pytest.mark.parametrize("known", ['"3"', 'W/"3"', '"1", "3"', "*"])
async def test_who_knows_the_state_gets_no_body(core: ScriptedCore, http: aiohttp.ClientSession, known: str) -> None:
    core.thread.thread.state_version = 3
    async with http.get(STATE, headers={"If-None-Match": known}) as response:
        assert (response.status, await response.read(), response.headers["ETag"]) == (304, b"", '"3"')


@pytest.mark.parametrize("known", ['"2"', '"33"', "3", ""])
async def test_who_knows_another_state_gets_this_one(
    core: ScriptedCore, http: aiohttp.ClientSession, known: str
) -> None:
    core.thread.thread.state_version = 3
    async with http.get(STATE, headers={"If-None-Match": known}) as response:
        assert (response.status, await response.json()) == (200, {"n": 1.0})


async def test_a_state_that_was_never_set_is_an_empty_object(core: ScriptedCore, http: aiohttp.ClientSession) -> None:
    core.thread.thread.state_json = ""
    async with http.get(STATE) as response:
        assert (await response.read(), response.headers["ETag"]) == (b"{}", '"0"')


async def test_a_state_is_replaced_as_it_was_written(core: ScriptedCore, http: aiohttp.ClientSession) -> None:
    body = b' { "n" : 1.50, "big": 9007199254740993 } '
    headers = {"Content-Type": "application/json", "If-Match": '"4"', "Idempotency-Key": "k1"}
    async with http.put(STATE, data=body, headers=headers) as response:
        assert (response.status, await response.read()) == (200, b'{"n":1.50,"big":9007199254740993}')
        assert response.headers["ETag"] == '"1"'
    change = asked(core, SetStateRequest)
    assert (change.thread_id, change.request_id, change.expected_version) == ("thr_1", "k1", 4)


@pytest.mark.parametrize("content_type", ["application/json-patch+json", "application/json"])
async def test_a_patch_is_passed_on_compact(core: ScriptedCore, http: aiohttp.ClientSession, content_type: str) -> None:
    headers = {"Content-Type": content_type}
    async with http.patch(STATE, data=b'[ {"op": "remove", "path": "/a"} ]', headers=headers) as response:
        assert (response.status, await response.json()) == (200, {"patched": True})
        assert response.headers["ETag"] == '"1"'
    change = asked(core, PatchStateRequest)
    assert change.patch_json == '[{"op":"remove","path":"/a"}]'
    assert not change.HasField("expected_version")
    assert len(change.request_id) == 32, "a repeat of this very call must not patch twice"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"If-Match": "*"}, None),
        ({"If-Match": '"0"'}, 0),
        ({"If-Match": 'W/"12"'}, 12),
        ({"If-None-Match": "*"}, 0),
        ({}, None),
    ],
)
async def test_a_change_may_expect_a_version(
    core: ScriptedCore, http: aiohttp.ClientSession, headers: dict[str, str], expected: int | None
) -> None:
    async with http.put(STATE, json=1, headers=headers) as response:
        assert response.status == 200
    change = asked(core, SetStateRequest)
    assert (change.expected_version if change.HasField("expected_version") else None) == expected


async def test_a_change_of_another_version_is_a_failed_precondition(
    core: ScriptedCore, http: aiohttp.ClientSession
) -> None:
    changed = Refuse(grpc.StatusCode.FAILED_PRECONDITION, "STATE_CHANGED", {"version": "5"})
    core.script["SetState"] = core.script["PatchState"] = [changed, changed]
    for call in (http.put(STATE, json={}), http.patch(STATE, json=[])):
        async with call as response:
            status, reason, body = await problem(response)
        assert (status, reason, body["version"]) == (412, "STATE_CHANGED", "5")


async def test_a_change_while_a_run_is_active_is_a_conflict(core: ScriptedCore, http: aiohttp.ClientSession) -> None:
    core.script["SetState"] = [BUSY]
    async with http.put(STATE, json={}) as response:
        status, reason, body = await problem(response)
    assert (status, reason, body["run_id"]) == (409, "THREAD_BUSY", "run_7")


@pytest.mark.parametrize(
    ("method", "headers", "body", "status", "reason"),
    [
        ("PUT", {"If-Match": "3"}, b"1", 400, "INVALID_ARGUMENT"),
        ("PUT", {"If-Match": '"abc"'}, b"1", 400, "INVALID_ARGUMENT"),
        ("PUT", {"If-Match": '"1", "2"'}, b"1", 400, "INVALID_ARGUMENT"),
        ("PUT", {"If-None-Match": '"1"'}, b"1", 400, "INVALID_ARGUMENT"),
        ("PUT", {"If-None-Match": "*", "If-Match": "*"}, b"1", 400, "INVALID_ARGUMENT"),
        ("PUT", {}, b"{", 400, "INVALID_JSON"),
        ("PUT", {}, b"", 400, "INVALID_JSON"),
        ("PUT", {}, b"[" * 70 + b"]" * 70, 400, "JSON_TOO_DEEP"),
        ("PUT", {"Content-Type": "text/plain"}, b"1", 415, "UNSUPPORTED_MEDIA_TYPE"),
        ("PATCH", {"Content-Type": "application/merge-patch+json"}, b"{}", 415, "UNSUPPORTED_MEDIA_TYPE"),
        ("PATCH", {"Content-Type": "text/plain"}, b"[]", 415, "UNSUPPORTED_MEDIA_TYPE"),
        ("PATCH", PATCH, b"[", 400, "INVALID_JSON"),
        ("PUT", {"Idempotency-Key": "a b"}, b"1", 400, "INVALID_IDEMPOTENCY_KEY"),
    ],
)
async def test_a_change_that_cannot_be_used_is_refused(
    core: ScriptedCore,
    http: aiohttp.ClientSession,
    method: str,
    headers: dict[str, str],
    body: bytes,
    status: int,
    reason: str,
) -> None:
    sent = {"Content-Type": "application/json"} | headers
    async with http.request(method, STATE, data=body, headers=sent) as response:
        assert (await problem(response))[:2] == (status, reason)
    assert core.requests == []


# ── fork, storage ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_fork_is_a_new_thread(core: ScriptedCore, http: aiohttp.ClientSession) -> None:
    async with http.post("/v1/threads/thr_1/fork") as response:
        assert (response.status, response.headers["Location"]) == (201, "/v1/threads/thr_2")
        assert await response.json() == {"id": "thr_2", "forked_from_thread_id": "thr_1"}
    fork = asked(core, ForkThreadRequest)
    assert (fork.thread_id, fork.WhichOneof("at"), len(fork.request_id)) == ("thr_1", None, 32)


@pytest.mark.parametrize(
    ("body", "at"),
    [
        ({"message_id": "msg_9"}, ForkThreadRequest(message_id="msg_9")),
        ({"event": {"run_id": "run_1", "seq": 7}}, ForkThreadRequest(event=EventRef(run_id="run_1", seq=7))),
    ],
)
async def test_a_fork_says_where(
    core: ScriptedCore, http: aiohttp.ClientSession, body: dict[str, Any], at: ForkThreadRequest
) -> None:
    body |= {"new_thread_id": "mine", "metadata": {"a": "b"}}
    async with http.post("/v1/threads/thr_1/fork", json=body, headers={"Idempotency-Key": "f1"}) as response:
        assert response.headers["Location"] == "/v1/threads/mine"
    at.MergeFrom(ForkThreadRequest(request_id="f1", thread_id="thr_1", new_thread_id="mine", metadata={"a": "b"}))
    assert asked(core, ForkThreadRequest) == at


@pytest.mark.parametrize(
    "body",
    [
        {"message_id": "msg_1", "event": {"run_id": "run_1", "seq": 1}},
        {"event": {"run_id": "run_1", "seq": "1"}},
        {"event": "run_1"},
        {"thread_id": "mine"},
        {"at": 1},
    ],
)
async def test_a_fork_that_cannot_be_understood_is_refused(
    core: ScriptedCore, http: aiohttp.ClientSession, body: dict[str, Any]
) -> None:
    async with http.post("/v1/threads/thr_1/fork", json=body) as response:
        assert (await problem(response))[:2] == (400, "INVALID_ARGUMENT")
    assert core.requests == []


async def test_storage_tells_all_figures(core: ScriptedCore, http: aiohttp.ClientSession) -> None:
    async with http.get("/v1/threads/thr_1/storage") as response:
        assert await response.json() == {
            "thread_id": "thr_1",
            "runs": 2,
            "events": 0,
            "event_bytes": 1 << 40,
            "messages": 0,
            "message_bytes": 0,
            "state_bytes": 0,
            "record_bytes": 0,
        }


# ── deletion, bulk cancel ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("path", "kind"), [("/v1/threads/thr_1", DeleteThreadRequest), ("/v1/runs/run_1", DeleteRunRequest)]
)
async def test_a_delete_is_answered_without_a_body(
    core: ScriptedCore, http: aiohttp.ClientSession, path: str, kind: type[Any]
) -> None:
    core.append(*whole(deltas=1))
    async with http.delete(path, headers={"Idempotency-Key": "d1"}) as response:
        assert (response.status, await response.read()) == (204, b"")
    delete = asked(core, kind)
    assert (delete.request_id, delete.cancel) == ("d1", False)


async def test_a_delete_may_cancel_first(core: ScriptedCore, http: aiohttp.ClientSession) -> None:
    core.append(*beginning())
    core.script["DeleteThread"] = [BUSY]
    async with http.delete("/v1/threads/thr_1") as response:
        assert (await problem(response))[:2] == (409, "THREAD_BUSY")
    async with http.delete("/v1/runs/run_1?cancel=true") as response:
        assert response.status == 204
    assert asked(core, DeleteRunRequest).cancel


async def test_a_delete_whose_core_restarts_is_repeated_as_the_same(
    core: ScriptedCore, http: aiohttp.ClientSession
) -> None:
    core.script["DeleteThread"] = [Refuse(grpc.StatusCode.UNAVAILABLE, "CORE_DRAINING")]
    async with http.delete("/v1/threads/thr_1?cancel=false") as response:
        assert response.status == 204
    first, second = [request for request in core.requests if isinstance(request, DeleteThreadRequest)]
    assert first == second
    assert len(first.request_id) == 32


async def test_many_runs_are_cancelled_by_what_they_have_in_common(
    core: ScriptedCore, http: aiohttp.ClientSession
) -> None:
    core.append(*beginning())
    core.append(*whole(deltas=1), run_id="run_2")
    body = {
        "thread_id": "thr_1",
        "agent_id": "echo",
        "states": ["queued", "waiting"],
        "created_before": "2030-01-01T00:00:00Z",
        "metadata": {"team": "a"},
        "reason": "superseded",
    }
    async with http.post("/v1/runs/cancel", json=body, headers={"Idempotency-Key": "c1"}) as response:
        assert (response.status, await response.json()) == (202, {"run_ids": ["run_1"], "more": False})
    cancel = asked(core, CancelRunsRequest)
    assert list(cancel.states) == [RunState.RUN_STATE_QUEUED, RunState.RUN_STATE_WAITING]
    assert (cancel.request_id, cancel.thread_id, cancel.agent_id) == ("c1", "thr_1", "echo")
    assert (dict(cancel.metadata), cancel.reason) == ({"team": "a"}, EndReason.END_REASON_SUPERSEDED)
    assert cancel.created_before.ToJsonString() == "2030-01-01T00:00:00Z"
    core.logs.clear()
    async with http.post("/v1/runs/cancel", json={"all": True}) as response:
        assert (response.status, await response.json()) == (200, {"run_ids": [], "more": False})


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "reason"),
    [
        ("GET", "/v1/threads/nowhere/state", None, 404, "THREAD_NOT_FOUND"),
        ("GET", "/v1/threads/nowhere/storage", None, 404, "THREAD_NOT_FOUND"),
        ("GET", "/v1/threads/nowhere/events", None, 404, "THREAD_NOT_FOUND"),
        ("PUT", "/v1/threads/nowhere/state", {}, 404, "THREAD_NOT_FOUND"),
        ("PATCH", "/v1/threads/nowhere/state", [], 404, "THREAD_NOT_FOUND"),
        ("POST", "/v1/threads/nowhere/fork", None, 404, "THREAD_NOT_FOUND"),
        ("DELETE", "/v1/threads/nowhere", None, 404, "THREAD_NOT_FOUND"),
        ("DELETE", "/v1/runs/nowhere", None, 404, "RUN_NOT_FOUND"),
        ("DELETE", "/v1/runs/run_1?cancel=yes", None, 400, "INVALID_ARGUMENT"),
        ("DELETE", "/v1/threads/thr_1?force=true", None, 400, "INVALID_ARGUMENT"),
        ("GET", "/v1/threads/thr_1/state?version=1", None, 400, "INVALID_ARGUMENT"),
        ("POST", "/v1/runs/cancel", {"state": "queued"}, 400, "INVALID_ARGUMENT"),
        ("POST", "/v1/runs/cancel", {"states": ["asleep"]}, 400, "INVALID_ARGUMENT"),
        ("POST", "/v1/runs/cancel", [], 400, "INVALID_ARGUMENT"),
        ("POST", "/v1/threads/thr_1/state", {}, 405, "METHOD_NOT_ALLOWED"),
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
        assert (await problem(response))[:2] == (status, reason)
    assert bool(core.requests) == (status == 404), "what is malformed never gets to the core"
