"""What DESIGN.md, section 8, asks for: one row per figure of the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bench.databases import POSTGRESQL

KEEPS_UP = 0.98
"""Share of the offered deltas that must arrive while they are offered."""


@dataclass(frozen=True, slots=True)
class Target:
    """How a figure is called, and what it should reach; None where the design asks for nothing."""

    title: str
    unit: str
    must: float | None = None
    aim: float | None = None
    better: Literal["more", "less"] = "more"

    def on(self, store: str) -> Target:
        """PostgreSQL has to reach 60 % of what must be, and is to reach 80 % of the aim; a time or size 1/60 %."""
        if store != POSTGRESQL:
            return self
        must, aim = (0.6, 0.8) if self.better == "more" else (1 / 0.6, 1 / 0.8)
        return Target(self.title, self.unit, _times(self.must, must), _times(self.aim, aim), self.better)

    def is_met_by(self, value: float, bound: float) -> bool:
        """Compare with one of its bounds."""
        return value >= bound if self.better == "more" else value <= bound


def _times(bound: float | None, factor: float) -> float | None:
    return None if bound is None else bound * factor


TARGETS = {
    "burst.events_per_second": Target("burst: events delivered", "/s", 60_000, 120_000),
    "burst.run_p50_ms": Target("burst: a run of 200 deltas, p50", "ms"),
    "burst.run_p99_ms": Target("burst: a run of 200 deltas, p99", "ms"),
    "paced_25.deltas_per_second": Target("paced 25/s: deltas delivered", "/s", KEEPS_UP * 25_000),
    "paced_25.latency_p50_ms": Target("paced 25/s: latency, p50", "ms", better="less"),
    "paced_25.latency_p99_ms": Target("paced 25/s: latency, p99", "ms", 300, better="less"),
    "paced_50.deltas_per_second": Target("paced 50/s: deltas delivered", "/s", None, KEEPS_UP * 50_000),
    "paced_50.latency_p50_ms": Target("paced 50/s: latency, p50", "ms", better="less"),
    "paced_50.latency_p99_ms": Target("paced 50/s: latency, p99", "ms", None, 250, better="less"),
    "first_event.p50_ms": Target("first event, idle machine, p50", "ms", 5, 2, better="less"),
    "first_event.p99_ms": Target("first event, idle machine, p99", "ms", better="less"),
    "first_event.rested_p50_ms": Target("first event, after 50 ms of rest, p50", "ms", better="less"),
    "first_event.rested_p99_ms": Target("first event, after 50 ms of rest, p99", "ms", better="less"),
    "short_runs.runs_per_second": Target("short runs: runs ended", "/s", 600, 1_000),
    "short_runs.run_p50_ms": Target("short runs: duration, p50", "ms", better="less"),
    "short_runs.run_p99_ms": Target("short runs: duration, p99", "ms", better="less"),
    "idle.streams": Target("idle: streams open", "", 5_000, 10_000),
    "idle.kib_per_stream": Target("idle: memory of a stream", "KiB", 40, 20, better="less"),
    "idle.kib_per_stream_and_run": Target("idle: memory of a stream and its run", "KiB", better="less"),
    "replay.sse_per_second": Target("replay over SSE, as written", "/s", 200_000),
    "replay.sse_folded_per_second": Target("replay over SSE, folded", "/s", 200_000),
    "replay.grpc_per_second": Target("replay over gRPC, as written", "/s", None, 1_000_000),
    "replay.grpc_folded_per_second": Target("replay over gRPC, folded", "/s", None, 1_000_000),
    "storage.answer_bytes": Target("storage: log of a 500-token answer, as written", "B", better="less"),
    "storage.answer_folded_bytes": Target(
        "storage: log of a 500-token answer, folded", "B", 10_000, 3_500, better="less"
    ),
    "storage.run_folded_bytes": Target("storage: all tables and indexes, per such run", "B", better="less"),
}
