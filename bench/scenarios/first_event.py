"""Short runs one after another on an idle machine: time from sending the request to the first byte of the first delta.

The client has a connection already, as browsers and HTTP libraries do: when the clock starts, the edge has accepted it.
A processor that has slept is slow for a while, whatever it then does (docs/benchmarks.md): so runs that follow each
other closely and runs after a rest are two figures.
"""

from __future__ import annotations

import time

from bench.costs import CpuMeter
from bench.measurement import Measurement
from bench.requests import Edge
from bench.stage import Stage
from bench.stats import percentile
from bench.stream import read_run

DELTAS = 3
DELTA = b"\nevent: part.delta\n"
PAUSE = 0.002
"""Seconds between connecting and sending: what the last run and the connection left to do is not to meet the next."""
REST = 0.05
"""Seconds in which the machine falls asleep."""


async def first_event(stage: Stage) -> Measurement:
    """Measure it."""
    async with stage.system() as system:
        await stage.warm_up(system)
        request = system.edge.create("count", {"deltas": DELTAS})
        meter = CpuMeter(system)
        waits = [await _wait(system.edge, request, PAUSE) for _ in range(stage.sizes.first_event_runs)]
        cpu = meter.spent()
        rested = [await _wait(system.edge, request, REST) for _ in range(stage.sizes.rested_runs)]
    return Measurement(
        figures={
            "p50_ms": 1e3 * percentile(waits, 50),
            "p99_ms": 1e3 * percentile(waits, 99),
            "rested_p50_ms": 1e3 * percentile(rested, 50),
            "rested_p99_ms": 1e3 * percentile(rested, 99),
        },
        unit="run",
        cpu_micros=cpu.micros_per(len(waits)),
        elsewhere=cpu.elsewhere,
        detail={"runs": len(waits), "max_ms": 1e3 * max(waits), "rested_runs": len(rested)},
    )


async def _wait(edge: Edge, request: bytes, pause: float) -> float:
    first_time = 0.0

    def look(frames: bytes) -> None:
        nonlocal first_time
        if not first_time and DELTA in frames:
            first_time = time.monotonic()

    stream = await read_run(edge, request, look, pause=pause)
    return first_time - stream.sent_time
