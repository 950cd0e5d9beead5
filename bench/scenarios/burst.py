"""20 clients, runs of 200 deltas without delay, each on a new TCP connection: events per second end to end."""

from __future__ import annotations

from bench.closed_loop import closed_loop
from bench.costs import CpuMeter
from bench.measurement import Measurement
from bench.stage import Stage
from bench.stats import percentile


async def burst(stage: Stage) -> Measurement:
    """Measure it."""
    sizes = stage.sizes
    async with stage.system() as system:
        await stage.warm_up(system)
        meter = CpuMeter(system)
        load = await closed_loop(
            system.edge, clients=sizes.burst_clients, deltas=sizes.burst_deltas, seconds=sizes.burst_seconds
        )
        cpu = meter.spent()
    return Measurement(
        figures={
            "events_per_second": load.events / load.seconds,
            "run_p50_ms": 1e3 * percentile(load.durations, 50),
            "run_p99_ms": 1e3 * percentile(load.durations, 99),
        },
        cpu_micros=cpu.micros_per(load.events),
        elsewhere=cpu.elsewhere,
        detail={"runs": load.runs, "events": load.events, "seconds": load.seconds},
    )
