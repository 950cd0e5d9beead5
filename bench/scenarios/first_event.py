"""Short runs one after another on an idle machine: time from sending the request to the first byte of the first delta.

The connection is there already when the clock starts.
"""

from __future__ import annotations

import asyncio
import time

from bench.costs import CpuMeter
from bench.measurement import Measurement
from bench.requests import Edge
from bench.stage import Stage
from bench.stats import percentile
from bench.stream import read_run

DELTAS = 3
DELTA = b"\nevent: part.delta\n"
PAUSE = 0.01
"""Seconds between two runs: what the last one left to do is not to meet the next."""


async def first_event(stage: Stage) -> Measurement:
    """Measure it."""
    runs = stage.sizes.first_event_runs
    async with stage.system() as system:
        await stage.warm_up(system)
        request = system.edge.create("count", {"deltas": DELTAS})
        meter = CpuMeter(system)
        waits = []
        for _ in range(runs):
            await asyncio.sleep(PAUSE)
            waits.append(await _wait(system.edge, request))
        cpu = meter.spent()
    return Measurement(
        figures={"p50_ms": 1e3 * percentile(waits, 50), "p99_ms": 1e3 * percentile(waits, 99)},
        unit="run",
        cpu_micros=cpu.micros_per(runs),
        elsewhere=cpu.elsewhere,
        detail={"runs": runs, "max_ms": 1e3 * max(waits)},
    )


async def _wait(edge: Edge, request: bytes) -> float:
    first_time = 0.0

    def look(frames: bytes) -> None:
        nonlocal first_time
        if not first_time and DELTA in frames:
            first_time = time.monotonic()

    stream = await read_run(edge, request, look)
    return first_time - stream.sent_time
