"""AG-UI: threads that are replayed and stopped, and what is told of agents."""

from __future__ import annotations

import asyncio

import pytest
from ag_ui.core.capabilities import AgentCapabilities

from penstock.v1.message_pb2 import Message, Part, Role, TextPart
from penstock.v1.run_pb2 import EndReason, InputRequest
from penstock.v1.run_service_pb2 import CancelRunRequest
from penstock.v1.thread_service_pb2 import ListMessagesRequest
from tests.edge.ag_ui_client import AgUiClient, frames_of
from tests.edge.ag_ui_stage import HI, LIMIT, URL, Stage, body, finished, put_run
from tests.edge.scripted_calls import SAID

USER = Message(id="msg_0", client_id="u1", role=Role.ROLE_USER, parts=[Part(text=TextPart(text="Hi"))])


@pytest.mark.parametrize("url", [f"{URL}/connect", "/v1/ag-ui/agent/echo/connect"])
async def test_an_idle_thread_is_replayed_in_snapshots(stage: Stage, url: str) -> None:
    stage.thread(state_json='{"n":1.0}', state_version=2)
    stage.core.threads.messages = [USER, SAID]

    client = AgUiClient()
    frames = [client.feed(frame) for frame in await stage.ask(url, messages=[])]

    assert frames[0] == {"type": "RUN_STARTED", "threadId": "t", "runId": "r1", "protocolVersion": "1.0"}
    assert client.messages == [HI, {"id": "msg_9", "role": "assistant", "content": "Said."}]
    assert client.state == {"n": 1.0}
    assert client.end["outcome"] == {"type": "success"}


async def test_a_thread_that_nobody_has_used_takes_nothing_from_its_client(stage: Stage) -> None:
    frames = await stage.ask(f"{URL}/connect")

    assert [frame["type"] for frame in frames] == ["RUN_STARTED", "RUN_FINISHED"]


async def test_a_running_thread_is_replayed_and_then_followed(stage: Stage) -> None:
    log = finished("Half ", "a sentence.")
    stage.core.append(*log.events[:5])  # up to the first piece
    stage.thread(active_run_id="run_1")
    stage.core.threads.messages = [USER]
    stale = {"id": "msg_2", "role": "assistant", "content": "Hal"}
    client = AgUiClient(HI, stale)

    async with asyncio.timeout(LIMIT), stage.http.post(f"{URL}/connect", json=body(messages=[HI, stale])) as response:
        begun = await response.content.readuntil(b"TEXT_MESSAGE_START")
        stage.core.append(*log.events[5:])
        client.read(begun + await response.read())

    assert client.text() == "Half a sentence."
    assert [message["id"] for message in client.messages] == ["u1", "msg_2"]


async def test_a_waiting_thread_is_replayed_to_its_interrupt(stage: Stage) -> None:
    stage.waiting(InputRequest(id="inp_2"))
    stage.core.threads.messages = [USER]

    frames = await stage.ask(f"{URL}/connect", messages=[])

    assert [frame["type"] for frame in frames] == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "RUN_FINISHED"]
    assert frames[1]["messages"] == [HI]
    assert [one["id"] for one in frames[2]["outcome"]["interrupts"]] == ["inp_2"]


async def test_a_run_that_ends_while_its_thread_is_read_is_not_told_twice(stage: Stage) -> None:
    stage.core.append(*finished().events)
    stage.thread(active_run_id="run_1")
    stage.core.threads.messages = [USER, SAID]

    frames = await stage.ask(f"{URL}/connect", messages=[])

    assert [frame["type"] for frame in frames] == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "RUN_FINISHED"]
    assert len(stage.requests(ListMessagesRequest)) == 2  # the second time it is sure to have all


@pytest.mark.parametrize(
    ("stop", "stopped"),
    [(None, ["run_2", "run_1"]), ({}, ["run_2", "run_1"]), ({"runId": "r2"}, ["run_2"]), ({"runId": "r9"}, [])],
)
@pytest.mark.parametrize("prefix", ["/v1/ag-ui/echo", "/v1/ag-ui/agent/echo"])
async def test_a_stop_cancels_what_runs_and_waits_or_the_one_that_it_names(
    stage: Stage, prefix: str, stop: object, stopped: list[str]
) -> None:
    for number in (1, 2):
        put_run(stage.core, f"run_{number}", f"r{number}")
    stage.core.append(*finished().events, run_id="run_3")

    async with stage.http.post(f"{prefix}/stop/t", json=stop) as response:
        answer = await response.json()

    cancels = stage.requests(CancelRunRequest)
    assert answer == {"stopped": bool(stopped), "runs": stopped}
    assert [(cancel.run_id, cancel.reason) for cancel in cancels] == [
        (run_id, EndReason.END_REASON_USER) for run_id in stopped
    ]


async def test_capabilities_are_those_of_the_official_models(stage: Stage) -> None:
    async with stage.http.get("/v1/ag-ui/echo/capabilities") as response:
        told = await response.json()
    async with stage.http.get("/v1/ag-ui/nobody/capabilities") as response:
        error = await response.json()

    capabilities = AgentCapabilities.model_validate(told)
    assert capabilities.identity is not None
    assert (capabilities.identity.name, capabilities.identity.description) == ("Echo", "Repeats.")
    assert AgentCapabilities.model_validate(told).model_dump(by_alias=True) == told
    assert (response.status, error["error"]) == (404, "AGENT_NOT_FOUND")


async def test_copilotkits_client_finds_the_agents(stage: Stage) -> None:
    async with stage.http.get("/v1/ag-ui/info") as response:
        info = await response.json()
    async with stage.http.post("/v1/ag-ui", json={"method": "info"}) as response:
        same = await response.json()

    assert info == same
    assert info["mode"] == "sse"
    assert (info["agents"]["echo"]["name"], info["agents"]["echo"]["description"]) == ("echo", "Repeats.")


async def test_copilotkits_client_may_send_all_to_one_url(stage: Stage) -> None:
    stage.core.append(*finished().events)
    params = {"agentId": "echo", "threadId": "t"}

    async def send(method: str, payload: object) -> bytes:
        envelope = {"method": method, "params": params, "body": payload}
        async with stage.http.post("/v1/ag-ui", json=envelope) as response:
            return await response.read()

    ran = frames_of(await send("agent/run", body()))
    connected = frames_of(await send("agent/connect", body()))

    assert (ran[-1]["type"], connected[-1]["type"]) == ("RUN_FINISHED", "RUN_FINISHED")
    assert await send("agent/stop", None) == b'{"stopped":false,"runs":[]}'
    assert b"INVALID_ARGUMENT" in await send("agent/dance", None)
