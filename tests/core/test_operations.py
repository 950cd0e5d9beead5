"""What operators look at: status, health, reflection, metrics, and that a core survives a bad environment."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from core_service.app import SERVICES
from penstock.v1.run_service_pb2 import GetRunRequest
from tests.core.hand_clock import HandClock
from tests.core.places import Place
from tests.core.refusals import refused
from tests.core.running_core import RunningCore, create_request
from tests.core.scripted_worker import agent
from tests.core.waits import until

SERVED = [f"penstock.v1.{name}" for name in SERVICES]


async def test_status_tells_what_goes_on(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(agent("echo"), agent("other"), credit=2)
    job = await any_core.started(worker)
    watch = await any_core.watch(job.run_id).read_to(2)
    await any_core.started(worker)
    await any_core.create("waits")
    status = await any_core.status()
    assert status.core_id == any_core.core.core_id
    assert status.store == ("postgresql" if any_core.place.database_url else "sqlite")
    assert (status.owned_runs, status.queued_runs, status.watches) == (2, 1, 1)
    assert (status.draining, status.store_available) == (False, True)
    assert status.version
    assert status.HasField("start_time")
    (known,) = status.workers
    assert (known.worker_id, list(known.agent_ids)) == (worker.worker_id, ["echo", "other"])
    assert (known.credit, known.runs, known.draining) == (0, 2, False)
    watch.cancel()


async def test_health_is_told_per_service(core: RunningCore) -> None:
    for service in ("", *SERVED):
        assert await core.health(service) == "SERVING"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await core.health("penstock.v1.NoService")
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


async def test_health_follows_the_store(timed_core: RunningCore, clock: HandClock) -> None:
    async def is_said(status: str, service: str) -> bool:
        await clock.forward(1)  # again, as long as it takes: the core's loops may have begun after the first time
        return await timed_core.health(service) == status

    away = timed_core.store.fail("renew_core", times=1_000)
    await until(lambda: is_said("NOT_SERVING", ""))
    away.open()
    await until(lambda: is_said("SERVING", "penstock.v1.RunService"))


async def test_core_without_its_lease_takes_no_runs(timed_core: RunningCore, clock: HandClock) -> None:
    worker = await timed_core.connected_worker(credit=2)
    job = await timed_core.started(worker)
    away = timed_core.store.fail("renew_core", times=1_000)
    await clock.forward(31)
    run = await timed_core.create()
    assert run.attempt == 0
    await job.say_all("what it has goes on")
    away.open()
    await clock.forward(2)
    other = await worker.take()
    assert other.run_id == run.id
    await other.say_all()


async def test_reflection_describes_every_service(core: RunningCore) -> None:
    def questions() -> Iterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        yield reflection_pb2.ServerReflectionRequest(file_containing_symbol="penstock.v1.RunService")

    def ask() -> list[reflection_pb2.ServerReflectionResponse]:
        with grpc.insecure_channel(core.core.address) as channel:
            stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
            return list(stub.ServerReflectionInfo(questions()))

    listed, described = await asyncio.to_thread(ask)
    names = {service.name for service in listed.list_services_response.service}
    assert names >= {*SERVED, health.SERVICE_NAME}
    files = [FileDescriptorProto.FromString(data) for data in described.file_descriptor_response.file_descriptor_proto]
    assert "penstock/v1/run_service.proto" in [file.name for file in files]


async def test_metrics_tell_what_happened(sqlite_place: Place) -> None:
    core = RunningCore(sqlite_place, metrics=True, metrics_port=0)
    await core.start()
    worker = await core.connected_worker()
    job = await core.started(worker)
    watch = await core.watch(job.run_id).read_to(2)
    during = await _metrics(core)
    assert during["penstock_owned_runs"] == during["penstock_watches"] == during["penstock_workers"] == 1
    await job.say_all("a", "b")
    await watch.read_to_end()
    with refused(grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND"):
        await core.runs.GetRun(GetRunRequest(run_id="run_x"))
    many = core.watch_many()
    await many.create(1, create_request(agent_id="nobody"))
    await many.read_until_over(1)
    after = await _metrics(core)
    assert after['penstock_runs_created_total{agent="echo"}'] == 1
    created = "/penstock.v1.RunService/CreateRun"
    assert after[f'penstock_grpc_calls_total{{code="OK",method="{created}"}}'] == 1
    assert after[f'penstock_grpc_calls_total{{code="NOT_FOUND",method="{created}"}}'] == 1
    assert after['penstock_runs_ended_total{reason="completed",state="succeeded"}'] == 1
    assert after["penstock_events_appended_total"] >= 6
    assert after["penstock_owned_runs"] == after["penstock_watches"] == 0
    assert after['penstock_grpc_calls_total{code="NOT_FOUND",method="/penstock.v1.RunService/GetRun"}'] == 1
    assert after['penstock_grpc_calls_total{code="OK",method="/penstock.v1.RunService/WatchRun"}'] == 1
    assert after["penstock_run_seconds_count"] == after["penstock_queue_seconds_count"] == 1
    await core.hang_up()
    await core.stop()


async def test_port_that_is_taken_is_an_error_at_once(core: RunningCore, tmp_path: Path) -> None:
    port = int(core.core.address.rpartition(":")[2])
    second = RunningCore(Place(tmp_path / "second"), grpc_port=port)
    with pytest.raises(RuntimeError, match=str(port)):
        await second.start()


async def _metrics(core: RunningCore) -> dict[str, float]:
    """All figures by name and labels."""
    url = f"http://{core.core.metrics_address}/metrics"
    text = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=5).read().decode())
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}
