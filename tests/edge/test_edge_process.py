"""The edge around its routes: health, metrics, ids, and how it comes and goes."""

import asyncio
import json
import os
import signal
import sys
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import aiohttp
import pytest
from grpc_health.v1.health_pb2 import HealthCheckResponse

from edge.app import Edge
from tests.edge.conftest import StartEdge
from tests.edge.frames import ACCEPT, read, read_on
from tests.edge.hello_log import HEAD, beginning, whole
from tests.edge.scripted_core import ScriptedCore


async def status(http: aiohttp.ClientSession, path: str) -> int:
    async with http.get(path) as response:
        return response.status


async def test_ready_is_what_the_core_says_and_alive_asks_nobody(
    core: ScriptedCore, http: aiohttp.ClientSession
) -> None:
    assert (await status(http, "/livez"), await status(http, "/readyz")) == (200, 200)
    await core.health.set("", HealthCheckResponse.NOT_SERVING)
    assert (await status(http, "/livez"), await status(http, "/readyz")) == (200, 503)
    await core.stop()
    assert (await status(http, "/livez"), await status(http, "/readyz")) == (200, 503)
    async with http.get("/health") as response:
        assert (await response.json())["status"] == "degraded"
    await core.start()


async def test_health_sums_up_for_people(core: ScriptedCore, http: aiohttp.ClientSession) -> None:
    async with http.get("/health") as response:
        summary = await response.json()

    assert summary["status"] == "ok"
    assert summary["core"] == {
        "serving": True,
        "core_id": "core_1",
        "version": "1",
        "store": "sqlite",
        "store_available": True,
    }


async def test_metrics_count_requests_by_template_and_what_streams_carried(
    core: ScriptedCore, http: aiohttp.ClientSession
) -> None:
    core.append(*whole(deltas=3))
    async with http.post("/v1/runs", json={"agent_id": "echo"}, headers=ACCEPT) as response:
        await read(response)
    await status(http, "/v1/runs/run_1")
    await status(http, "/v1/runs/run_8")
    await status(http, "/nowhere/at/all")

    async with http.get("/metrics") as response:
        lines = (await response.text()).splitlines()

    assert 'penstock_edge_requests_total{method="GET",route="/v1/runs/{run_id}",status="200"} 1.0' in lines
    assert 'penstock_edge_requests_total{method="GET",route="/v1/runs/{run_id}",status="404"} 1.0' in lines
    assert 'penstock_edge_requests_total{method="GET",route="unmatched",status="404"} 1.0' in lines
    assert "penstock_edge_events_sent_total 10.0" in lines
    assert "penstock_edge_open_streams 0.0" in lines
    assert "penstock_edge_first_event_seconds_count 1.0" in lines


@pytest.mark.parametrize(("sent", "kept"), [("req-1", True), ("", False), ("a b", False), ("x" * 200, False)])
async def test_request_ids_are_kept_or_made_and_travel_to_the_core(
    core: ScriptedCore, http: aiohttp.ClientSession, *, sent: str, kept: bool
) -> None:
    async with http.get("/v1/agents", headers={"X-Request-Id": sent}) as response:
        echoed = response.headers["X-Request-Id"]

    assert (echoed == sent) is kept
    assert echoed
    assert core.metadata[0]["x-request-id"] == echoed


async def test_streams_carry_the_request_id_too(core: ScriptedCore, http: aiohttp.ClientSession) -> None:
    core.append(*whole(deltas=1))
    async with http.get("/v1/runs/run_1/events", headers=ACCEPT | {"X-Request-Id": "r"}) as response:
        assert response.headers["X-Request-Id"] == "r"
        assert "aiohttp" not in response.headers["Server"]


async def test_what_is_not_http_is_answered_and_leaves_the_edge_well(edge: Edge, http: aiohttp.ClientSession) -> None:
    host, port = edge.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"\x16\x03\x01 this is TLS, is it not?\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.0 400")
    writer.close()
    assert await status(http, "/livez") == 200


async def test_leaving_fails_readiness_first_and_sends_streams_elsewhere(
    core: ScriptedCore, start_edge: StartEdge
) -> None:
    core.append(*beginning())
    edge = await start_edge(settle=0.2)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession(f"http://{edge.address}"))
        stream = await stack.enter_async_context(http.get("/v1/runs/run_1/events", headers=ACCEPT))
        frames = await read(stream, until=HEAD)

        leaving = asyncio.create_task(edge.leave())
        await asyncio.sleep(0)  # it has begun
        assert (await status(http, "/readyz"), await status(http, "/livez")) == (503, 200)
        await read_on(stream, frames)
        await leaving

        assert frames.seqs == [1, 2, 3, 4]
        assert frames.retries == [1000, 1000]
        host, port = edge.address.split(":")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(host, int(port))

        other = await start_edge()
        core.append(*list(whole(deltas=0))[4:])
        resumed = ACCEPT | {"Last-Event-ID": "4"}
        async with http.get(f"http://{other.address}/v1/runs/run_1/events", headers=resumed) as response:
            assert (await read(response)).seqs == [5, 6, 7]


ROOT = Path(__file__).parents[2]

MAIN = """
import sys
from edge.app import main
from edge.config import EdgeSettings
from penstock import logs
logs.configure("edge", json=True)
main(EdgeSettings.load(port=0, core=sys.argv[1], settle=0, drain=0, request_grace=1))
"""


async def test_the_process_says_where_it_serves_and_goes_when_told(core: ScriptedCore) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", MAIN, core.address),
        stderr=asyncio.subprocess.PIPE,
        env=environment | {"PYTHONPATH": str(ROOT)},
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(20):
            ready = json.loads(await process.stderr.readline())
            async with aiohttp.ClientSession(f"http://{ready['address']}") as http:
                assert await status(http, "/v1/agents?page_size=3") == 200
            request = json.loads(await process.stderr.readline())
            process.send_signal(signal.SIGTERM)
            lines = [json.loads(line) for line in (await process.stderr.read()).splitlines()]
            assert await process.wait() == 0
    finally:
        with suppress(ProcessLookupError):
            process.kill()

    assert ready["event"] == "ready"
    assert (request["method"], request["path"], request["status"]) == ("GET", "/v1/agents", 200)
    assert request["request_id"]
    assert [line["event"] for line in lines] == ["leaving", "stopped"]
