"""Streams on which nothing happens, each on a running run of its own: what the first and the second of them cost.

The runs are created without a stream; then each gets one: so a stream's memory is known apart from that of its run.
"""

from __future__ import annotations

import asyncio
import time

import aiohttp

from bench.costs import resident_kib
from bench.measurement import Measurement
from bench.requests import Edge
from bench.stage import Stage
from bench.stream import RunStream, closing, open_stream
from bench.system import System

AT_ONCE = 32
"""Connections that are being made at the same time."""
SLOW_RUN = {"deltas": 10, "rate": 1 / 600}
CALM_SECONDS = 1.0
"""Before memory is read."""


async def idle(stage: Stage) -> Measurement:
    """Measure it."""
    count = stage.sizes.idle_streams
    async with stage.system() as system:
        await stage.warm_up(system)
        before = await _memory(system)
        runs = await _create_runs(system.edge, count)
        with_runs = await _memory(system)
        begin = time.monotonic()
        streams = await _open_streams(system.edge, runs)
        seconds = time.monotonic() - begin
        with closing(*streams):
            with_streams = await _memory(system)
            for stream in streams:
                if stream.done.done():
                    stream.done.result()
    per_run = {name: (with_runs[name] - before[name]) / count for name in before}
    per_stream = {name: (with_streams[name] - with_runs[name]) / count for name in before}
    return Measurement(
        figures={
            "streams": len(streams),
            "kib_per_stream": sum(per_stream.values()),
            "kib_per_stream_and_run": sum(per_stream.values()) + sum(per_run.values()),
        },
        detail={f"run_kib.{name}": value for name, value in per_run.items()}
        | {f"stream_kib.{name}": value for name, value in per_stream.items()}
        | {"opened_per_second": count / seconds},
    )


async def _memory(system: System) -> dict[str, float]:
    await asyncio.sleep(CALM_SECONDS)
    return resident_kib(system)


async def _create_runs(edge: Edge, count: int) -> list[str]:
    async with aiohttp.ClientSession(edge.url, connector=aiohttp.TCPConnector(limit=AT_ONCE)) as session:

        async def create() -> str:
            async with session.post("/v1/runs", json={"agent_id": "count", "input": SLOW_RUN}) as response:
                response.raise_for_status()
                return str((await response.json())["id"])

        return await asyncio.gather(*(create() for _ in range(count)))


async def _open_streams(edge: Edge, runs: list[str]) -> list[RunStream]:
    """Open a stream per run, and return once each has delivered something, or failed."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def open_one(run_id: str) -> RunStream:
        arrived = asyncio.Event()
        async with gate:
            stream = await open_stream(edge, edge.watch(run_id), lambda _: arrived.set())
            stream.done.add_done_callback(lambda _: arrived.set())
            await arrived.wait()
        return stream

    return await asyncio.gather(*(open_one(run_id) for run_id in runs))
