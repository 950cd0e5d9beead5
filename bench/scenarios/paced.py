"""Many runs at once, each at the pace of a language model: does delivery keep up, and how old is a delta on arrival?

The deltas carry the time of their making by the wall clock, which all processes of one machine share.
"""

from __future__ import annotations

import asyncio
import re
import time
from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from bench.costs import CpuMeter
from bench.events import WrongStream
from bench.measurement import Measurement
from bench.requests import Edge
from bench.stage import Stage
from bench.stats import percentile
from bench.stream import OnFrames, RunStream, closing, open_stream
from bench.verification import verify

STAMP = re.compile(rb'"text":"(\d+)')
STAMPED_SHARE = 10
"""Every so many runs have their deltas timed; more would measure the client."""
SETTLE_SECONDS = 1.0
"""Between the last start and the measurement, and at the other end."""
ENDS_WITHIN = 15.0
"""Seconds after their time in which all runs must have ended; behind that the system does not keep up."""


@dataclass(slots=True)
class _Arrivals:
    """Ages of deltas, in seconds, taken while `is_on`."""

    is_on: bool = False
    ages: array[float] = field(default_factory=lambda: array("d"))

    def take(self, frames: bytes) -> None:
        if self.is_on:
            now = time.time_ns()
            self.ages.extend((now - int(stamp)) / 1e9 for stamp in STAMP.findall(frames))


@dataclass(frozen=True, slots=True)
class _Pace:
    runs: int
    rate: int
    ramp: float
    seconds: float

    @property
    def deltas(self) -> int:
        """So many that no run ends before the measurement does."""
        return round(self.rate * (self.ramp + self.seconds + 2 * SETTLE_SECONDS))


async def paced(stage: Stage, *, rate: int) -> Measurement:
    """Measure it at one rate, in deltas per second and run."""
    sizes = stage.sizes
    pace = _Pace(sizes.paced_runs, rate, sizes.paced_ramp, sizes.paced_seconds)
    async with stage.system() as system:
        await stage.warm_up(system)
        async with _Crowd.of(system.edge, pace) as crowd:
            await asyncio.sleep(pace.ramp + SETTLE_SECONDS)
            meter, begin, received = CpuMeter(system), time.monotonic(), crowd.events
            crowd.arrivals.is_on = True
            await asyncio.sleep(pace.seconds)
            crowd.arrivals.is_on = False
            cpu, seconds, events = meter.spent(), time.monotonic() - begin, crowd.events - received
            unfinished = await crowd.finish()
    ages = crowd.arrivals.ages
    return Measurement(
        figures={
            "deltas_per_second": events / seconds,
            "latency_p50_ms": 1e3 * percentile(ages, 50),
            "latency_p99_ms": 1e3 * percentile(ages, 99),
        },
        cpu_micros=cpu.micros_per(events),
        elsewhere=cpu.elsewhere,
        detail={"runs": pace.runs, "offered_per_second": pace.runs * rate, "unfinished_runs": unfinished}
        | {
            "latency_max_ms": 1e3 * max(ages),
            "latencies": len(ages),
            "cores_used": sum(cpu.by_process.values()) / seconds,
        },
    )


class _Crowd:
    """The clients: they start one by one over the ramp, and read to the end."""

    def __init__(self, edge: Edge, pace: _Pace) -> None:
        self.arrivals = _Arrivals()
        self._edge = edge
        self._deltas = pace.deltas
        self._request = edge.create("count", {"deltas": pace.deltas, "rate": pace.rate, "stamp": True})
        self._streams: list[RunStream] = []
        self._kept: list[bytes] = []
        self._clients = [
            asyncio.create_task(self._client(number, after=pace.ramp * number / pace.runs))
            for number in range(pace.runs)
        ]

    @classmethod
    @asynccontextmanager
    async def of(cls, edge: Edge, pace: _Pace) -> AsyncIterator[_Crowd]:
        """Have the clients read while the context is open."""
        crowd = cls(edge, pace)
        try:
            yield crowd
        finally:
            for client in crowd._clients:
                client.cancel()
            await asyncio.gather(*crowd._clients, return_exceptions=True)

    @property
    def events(self) -> int:
        """Received by all clients so far."""
        return sum(stream.events.last_seq for stream in self._streams)

    async def finish(self) -> int:
        """Wait for the ends, check them, and return how many runs had none in time. Raises WrongStream."""
        done, unfinished = await asyncio.wait(self._clients, timeout=ENDS_WITHIN)
        for client in done:
            client.result()
        counts = {stream.events.last_seq for stream in self._streams if stream.events.ended}
        if len(counts) > 1:
            raise WrongStream(f"runs of {self._deltas} deltas have different numbers of events: {sorted(counts)}")
        if self._clients[0] in done:
            verify(b"".join(self._kept), deltas=self._deltas)
        return len(unfinished)

    async def _client(self, number: int, *, after: float) -> None:
        await asyncio.sleep(after)
        stream = await open_stream(self._edge, self._request, self._observer(number))
        self._streams.append(stream)
        with closing(stream):
            await stream.done

    def _observer(self, number: int) -> OnFrames | None:
        if number == 0:
            return self._kept.append
        return self.arrivals.take if number % STAMPED_SHARE == 1 else None
