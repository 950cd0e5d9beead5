"""The AG-UI routes that run an agent, over HTTP: a real edge between a real client and a scripted core."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from edge.protocols.ag_ui.origin import RunIds, ids_of, request_key
from penstock.v1.event_pb2 import StatePatched
from penstock.v1.message_pb2 import Message, Role
from penstock.v1.run_service_pb2 import CancelRunRequest, CreateRunRequest
from tests.edge.ag_ui_client import AgUiClient, frames_of
from tests.edge.ag_ui_stage import HI, LIMIT, URL, Stage, body, finished
from tests.edge.conftest import StartEdge
from tests.edge.handmade_log import HandmadeLog
from tests.edge.scripted_calls import SAID
from tests.edge.scripted_core import Refuse


async def test_a_run_is_streamed_and_can_be_told_again_by_any_edge(stage: Stage) -> None:
    stage.core.append(*finished().events)
    tools = [{"name": "look", "description": "Looks."}]

    frames = await stage.ask(tools=tools, parentRunId="r0")

    [create] = stage.requests(CreateRunRequest)
    assert (create.agent_id, create.thread_id, create.request_id) == ("echo", "t", request_key("t", "r1"))
    assert [(message.client_id, message.parts[0].text.text) for message in create.input] == [("u1", "Hi")]
    assert [tool.name for tool in create.options.tools] == ["look"]
    assert ids_of(create.origin_json, otherwise="") == RunIds("r1", "r0")
    assert [frame["type"] for frame in frames] == [
        *("RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_CONTENT"),
        *("TEXT_MESSAGE_END", "RUN_FINISHED"),
    ]
    assert {frame["threadId"] for frame in frames if "threadId" in frame} == {"t"}


async def test_the_stream_has_the_headers_that_proxies_need_and_no_ids(stage: Stage) -> None:
    stage.core.append(*finished().events)

    async with stage.http.post(URL, json=body()) as response:
        stream = await response.text()

    assert response.headers["X-Accel-Buffering"] == "no"
    assert response.headers["X-Run-Id"] == "run_1"
    assert response.headers["X-Request-Id"]
    assert not [line for line in stream.splitlines() if line.startswith(("id:", "event:", "retry:"))]


@pytest.mark.parametrize(
    "url",
    [
        *("/v1/ag-ui/echo", "/v1/ag-ui/agents/echo/runs", "/v1/ag-ui/agent/echo/run"),
        *("/ag-ui/agent", "/v1/ag-ui/run", "/v1/ag-ui/threads/t/runs"),
    ],
)
async def test_every_path_runs_the_agent_of_the_path_or_of_the_body(stage: Stage, url: str) -> None:
    stage.core.append(*finished().events)

    frames = await stage.ask(url, forwardedProps={"agent": "echo"})

    assert frames[-1]["type"] == "RUN_FINISHED"
    assert stage.requests(CreateRunRequest)[0].agent_id == "echo"


async def test_without_an_agent_the_default_one_runs_and_without_that_none(stage: Stage, start_edge: StartEdge) -> None:
    stage.core.append(*finished().events)
    edge = await start_edge(default_agent="echo")

    async with stage.http.post("/v1/ag-ui/run", json=body()) as response:
        error = await response.json()
    frames = await stage.ask(f"http://{edge.address}/v1/ag-ui/run")

    assert (response.status, error["error"], error["field"]) == (400, "INVALID_ARGUMENT", "agentId")
    assert frames[-1]["type"] == "RUN_FINISHED"


async def test_the_same_run_sent_twice_is_one_run(stage: Stage) -> None:
    stage.core.append(*finished().events)

    first = await stage.ask()
    stage.thread()
    stage.core.threads.messages = [Message(id="msg_0", client_id="u1", role=Role.ROLE_USER)]
    second = await stage.ask()

    assert first == second
    assert len(stage.core.created) == 1


@pytest.mark.parametrize(
    ("request_body", "status", "reason", "field"),
    [
        (b"{", 400, "INVALID_JSON", None),
        (b'{"messages":' + b"[" * 100 + b"]" * 100 + b"}", 400, "JSON_TOO_DEEP", None),
        (b'{"threadId":"t","runId":"r"}', 400, "INVALID_ARGUMENT", ""),
        (b'{"threadId":"t","runId":"r","messages":[]}', 400, "INVALID_ARGUMENT", "messages"),
        (b'{"threadId":"t","runId":"r","messages":[{"role":"user"}]}', 400, "INVALID_ARGUMENT", "messages[0]"),
        (b'{"threadId":"t","runId":"r","messages":["\\ud800"]}', 400, "INVALID_JSON", None),
    ],
)
async def test_a_malformed_request_is_refused_in_json_before_anything_is_made(
    stage: Stage, request_body: bytes, status: int, reason: str, field: str | None
) -> None:
    headers = {"Content-Type": "application/json"}
    async with stage.http.post(URL, data=request_body, headers=headers) as response:
        error = await response.json()

    assert (response.status, response.content_type) == (status, "application/json")
    assert (error["error"], error.get("field")) == (reason, field)
    assert error["message"]
    assert not stage.requests(CreateRunRequest)


async def test_an_unknown_agent_is_not_found(stage: Stage) -> None:
    async with stage.http.post("/v1/ag-ui/nobody", json=body()) as response:
        error = await response.json()

    assert (response.status, error["error"]) == (404, "AGENT_NOT_FOUND")


async def test_a_full_queue_says_when_to_come_back(stage: Stage) -> None:
    stage.core.script["CreateRun"] = [Refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")]

    async with stage.http.post(URL, json=body()) as response:
        error = await response.json()

    assert (response.status, error["error"], response.headers["Retry-After"]) == (429, "QUEUE_FULL", "1")


async def test_only_what_the_thread_does_not_know_goes_into_it(stage: Stage) -> None:
    stage.core.append(*finished().events)
    stage.thread()
    stage.core.threads.messages = [SAID]
    said = {"id": SAID.id, "role": "assistant", "content": "Said."}

    await stage.ask(messages=[said, HI])

    assert [message.client_id for message in stage.requests(CreateRunRequest)[0].input] == ["u1"]


async def test_a_client_that_starts_with_nothing_is_told_the_state_and_only_changes_behind_it(stage: Stage) -> None:
    log = HandmadeLog()
    log.add(StatePatched(patch_json='[{"op":"replace","path":"/n","value":3}]', version=6))
    log.ended()
    stage.core.append(*log.events)
    stage.thread(state_json='{"n":2}', state_version=5)

    fresh = AgUiClient()
    for frame in await stage.ask(state={}):
        fresh.feed(frame)

    assert fresh.state == {"n": 3}


async def test_a_client_that_goes_away_leaves_its_run_alone(stage: Stage) -> None:
    stage.core.append(*HandmadeLog().events)
    asking = asyncio.create_task(stage.ask())
    async with asyncio.timeout(LIMIT):
        await stage.core.until_watched(starts=1)
        asking.cancel()
        await stage.core.until_watched(stops=1)

    assert not stage.requests(CancelRunRequest)


async def test_a_stream_whose_core_stays_away_ends_with_an_error(stage: Stage) -> None:
    stage.core.append(*HandmadeLog().events)

    async with asyncio.timeout(LIMIT), stage.http.post(URL, json=body()) as response:
        await response.content.readuntil(b"\n\n")
        await stage.core.stop()
        [error] = frames_of(await response.read())

    assert (error["type"], error["code"]) == ("RUN_ERROR", "CORE_UNAVAILABLE")
