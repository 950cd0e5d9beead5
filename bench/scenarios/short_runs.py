"""Runs of three deltas by 32 clients, each run on a new TCP connection: runs per second."""

from __future__ import annotations

from bench.closed_loop import closed_loop
from bench.costs import CpuMeter
from bench.measurement import Measurement
from bench.stage import Stage
from bench.stats import percentile

DELTAS = 3


async def short_runs(stage: Stage) -> Measurement:
    """Measure it."""
    sizes = stage.sizes
    async with stage.system() as system:
        await stage.warm_up(system)
        meter = CpuMeter(system)
        load = await closed_loop(
            system.edge, clients=sizes.short_connections, deltas=DELTAS, seconds=sizes.short_seconds
        )
        cpu = meter.spent()
    return Measurement(
        figures={
            "runs_per_second": load.runs / load.seconds,
            "run_p50_ms": 1e3 * percentile(load.durations, 50),
            "run_p99_ms": 1e3 * percentile(load.durations, 99),
        },
        unit="run",
        cpu_micros=cpu.micros_per(load.runs),
        elsewhere=cpu.elsewhere,
        detail={"runs": load.runs, "events": load.events, "seconds": load.seconds},
    )
