"""The composition root of the core: the only file that names concrete classes, and the order of start and stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import grpc
import structlog
import uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import start_http_server

from core_service.adapters.bus_memory import MemoryBus
from core_service.adapters.clock_store import StoreClock
from core_service.adapters.clock_system import SystemClock
from core_service.adapters.store_sql import open_postgres, open_sqlite
from core_service.adapters.webhook_sender_aiohttp import open_sender
from core_service.config import CoreSettings
from core_service.domain.errors import Refusal
from core_service.domain.ids import new_id
from core_service.engine.assembly import Engine
from core_service.engine.owned import OwnedRun
from core_service.engine.reaper import Reaper
from core_service.engine.retention import EXPIRED
from core_service.ports import Bus, Clock, Store
from core_service.rpc.agents import AgentServicer
from core_service.rpc.retention import RetentionServicer
from core_service.rpc.runs import RunServicer
from core_service.rpc.schedules import ScheduleServicer
from core_service.rpc.services import add_service
from core_service.rpc.system import SystemServicer
from core_service.rpc.threads import ThreadServicer
from core_service.rpc.workers import WorkerServicer
from penstock.grpc_options import SERVER_OPTIONS
from penstock.v1 import (
    agent_service_pb2,
    retention_service_pb2,
    run_service_pb2,
    schedule_service_pb2,
    system_service_pb2,
    thread_service_pb2,
    worker_service_pb2,
)

log = structlog.get_logger(__name__)

SERVICES = {
    "AgentService": agent_service_pb2.DESCRIPTOR,
    "ThreadService": thread_service_pb2.DESCRIPTOR,
    "RunService": run_service_pb2.DESCRIPTOR,
    "RetentionService": retention_service_pb2.DESCRIPTOR,
    "ScheduleService": schedule_service_pb2.DESCRIPTOR,
    "SystemService": system_service_pb2.DESCRIPTOR,
    "WorkerService": worker_service_pb2.DESCRIPTOR,
}
FLUSH_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Core:
    """A core that serves, as those who started it see it."""

    core_id: str
    address: str
    """host:port of the gRPC server."""
    metrics_address: str
    """host:port of the Prometheus endpoint; empty when there is none."""


def _open_store(settings: CoreSettings, clock: Clock, core_id: str) -> AbstractAsyncContextManager[Store]:
    if settings.database_url:
        return open_postgres(
            settings.database_url,
            pool_size=settings.postgres_connections,
            request_lifetime=settings.request_retention,
        )
    holder = f"core {core_id} (pid {os.getpid()})"
    path = settings.data / "penstock.db"
    return open_sqlite(
        path,
        clock=clock,
        holder=holder,
        synchronous=settings.sqlite_synchronous,
        request_lifetime=settings.request_retention,
    )


@asynccontextmanager
async def _time_of(store: Store, clock: Clock) -> AsyncIterator[Clock]:
    """Yield the clock that the store goes by: on SQLite it is the core's own."""
    if store.name == "sqlite":
        yield clock
        return
    aligned = StoreClock(clock, store.schedules.now)
    await aligned.align()
    keeping = asyncio.create_task(aligned.keep_aligned(), name="clock")
    try:
        yield aligned
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])


@asynccontextmanager
async def serving(
    settings: CoreSettings, *, clock: Clock | None = None, wrap_store: Callable[[Store], Store] = lambda store: store
) -> AsyncIterator[Core]:
    """Run a core while the context is open. Leaving it drains: no run is cancelled or lost by that.

    `wrap_store` lets tests stand between the engine and the database.
    """
    clock = clock or SystemClock()
    core_id = new_id("core")
    async with (
        _open_store(settings, clock, core_id) as opened,
        _time_of(opened, clock) as time,
        open_sender(allow_private=settings.webhook_allow_private, timeout=settings.webhook_timeout) as sender,
    ):
        store = wrap_store(opened)
        bus = MemoryBus()
        engine = Engine(settings, store, bus, time, sender, core_id)
        server = grpc.aio.server(options=SERVER_OPTIONS)
        worker_servicer, health_servicer = _add_services(server, engine)
        port = server.add_insecure_port(f"{settings.grpc_host}:{settings.grpc_port}")
        address = f"{settings.grpc_host}:{port}"
        reaper = _reaper(engine, bus, settings, address)
        reaper.on_health = lambda healthy: _set_health(health_servicer, serving=healthy and not engine.creates.draining)
        await store.renew_core(core_id, address=address, lease=settings.lease)
        disowned = await store.disown_all(core_id=core_id, grace=settings.lease)
        async with _background(engine, bus, reaper), _metrics_endpoint(engine, settings) as metrics_address:
            await server.start()
            await _set_health(health_servicer, serving=True)
            log.info("ready", address=address, core_id=core_id, store=store.name, runs_in_flight=disowned)
            try:
                yield Core(core_id, address, metrics_address)
            finally:
                await _drain(engine, server, worker_servicer, health_servicer, settings)


@asynccontextmanager
async def _metrics_endpoint(engine: Engine, settings: CoreSettings) -> AsyncIterator[str]:
    """Serve Prometheus metrics on a port of their own while the context is open. Yields their address."""
    if not settings.metrics:
        yield ""
        return
    endpoint, thread = start_http_server(settings.metrics_port, settings.metrics_host, engine.metrics.registry)
    address = f"{settings.metrics_host}:{endpoint.server_port}"
    log.info("metrics ready", address=address)
    try:
        yield address
    finally:
        endpoint.shutdown()
        endpoint.server_close()
        thread.join(1.0)


def _add_services(server: grpc.aio.Server, engine: Engine) -> tuple[WorkerServicer, health.aio.HealthServicer]:
    worker_servicer = WorkerServicer(engine.workers, engine.journal)
    servicers: dict[str, object] = {
        "AgentService": AgentServicer(engine.agents),
        "ThreadService": ThreadServicer(
            engine.threads, engine.thread_states, engine.thread_forks, engine.thread_hub, engine.deletions
        ),
        "RunService": RunServicer(
            engine.creates,
            engine.runs,
            engine.inputs,
            engine.hub,
            engine.logs,
            engine.bulk_cancels,
            engine.deletions,
        ),
        "RetentionService": RetentionServicer(engine.retention),
        "ScheduleService": ScheduleServicer(engine.schedules),
        "SystemService": SystemServicer(engine.status),
        "WorkerService": worker_servicer,
    }
    for name, servicer in servicers.items():
        add_service(server, SERVICES[name].services_by_name[name], servicer, engine.metrics)
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    reflection.enable_server_reflection((*_service_names(), health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    return worker_servicer, health_servicer


def _service_names() -> list[str]:
    return [file.services_by_name[name].full_name for name, file in SERVICES.items()]


async def _set_health(servicer: health.aio.HealthServicer, *, serving: bool) -> None:
    status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
    for name in ("", *_service_names()):
        await servicer.set(name, status)


def _reaper(engine: Engine, bus: Bus, settings: CoreSettings, address: str) -> Reaper:
    return Reaper(
        core_id=engine.core_id,
        address=address,
        lease=settings.lease,
        store=engine.store,
        bus=bus,
        clock=engine.clock,
        ownership=engine.ownership,
        journal=engine.journal,
        dispatch=engine.dispatch,
        executions=engine.executions,
        settling=engine.settling,
    )


@asynccontextmanager
async def _background(engine: Engine, bus: Bus, reaper: Reaper) -> AsyncIterator[None]:
    """Run the core's loops while the context is open. A loop that fails ends the core: it is restarted from the log."""
    poisoned: set[asyncio.Task[None]] = set()

    def settle_poisoned(owned: OwnedRun) -> None:
        task = asyncio.create_task(engine.recovery.poisoned(owned))
        poisoned.add(task)
        task.add_done_callback(poisoned.discard)

    engine.executions.on_poisoned = settle_poisoned
    loops: list[Coroutine[None, None, None]] = [
        engine.journal.run(),
        engine.dispatch.run(),
        engine.promotions.run(),
        engine.folding.run(),
        engine.sweeps.run(),
        engine.attendance.run(),
        engine.follow_ups.run(),
        engine.offspring.run(),
        engine.deletions.run(),
        engine.thread_hub.run(),
        engine.schedules.run(),
        engine.retention.run(),
        engine.webhooks.run(),
        reaper.renew(),
        reaper.watch_health(),
        reaper.tick(),
        reaper.sweep(),
    ]
    async with (
        bus.listen("work", engine.dispatch.rung),
        bus.listen(EXPIRED, engine.retention.rung),
        asyncio.TaskGroup() as group,
    ):
        tasks = [group.create_task(loop) for loop in loops]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


async def _drain(
    engine: Engine,
    server: grpc.aio.Server,
    worker_servicer: WorkerServicer,
    health_servicer: health.aio.HealthServicer,
    settings: CoreSettings,
) -> None:
    """Stop in order (ENGINE.md K1): refuse, let workers flush, commit, end the watches, give the runs up."""
    log.info("draining", owned_runs=len(engine.ownership))
    await _set_health(health_servicer, serving=False)
    engine.dispatch.paused = engine.creates.draining = engine.threads.draining = worker_servicer.draining = True
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(min(FLUSH_SECONDS, settings.drain_timeout)):
            await engine.workers.drain()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(settings.drain_timeout):
            await engine.journal.empty()
    engine.hub.drain()
    engine.thread_hub.drain()
    await server.stop(grace=1.0)
    try:
        await engine.store.remove_core(engine.core_id, grace=settings.lease)
    except Refusal as error:  # its lease will be over soon
        log.warning("core not removed", reason=error.reason)
    log.info("stopped")


async def _main(settings: CoreSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serving(settings):
        await stop.wait()


def main(settings: CoreSettings) -> None:
    """Run a core until SIGTERM or SIGINT. The log is set up by the caller."""
    uvloop.run(_main(settings))
