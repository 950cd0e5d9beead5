"""How much each scenario does. The figures of DESIGN.md, section 8, are those of FULL."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sizes:
    """Counts and seconds of all scenarios."""

    warm_up: float
    burst_seconds: float
    burst_clients: int
    burst_deltas: int
    paced_runs: int
    paced_ramp: float
    """Seconds over which the runs start."""
    paced_seconds: float
    first_event_runs: int
    rested_runs: int
    short_seconds: float
    short_connections: int
    idle_streams: int
    replay_deltas: int
    replay_seconds: float
    """Of each of the four readings: two protocols, before and after folding."""
    answers: int


FULL = Sizes(
    warm_up=2.0,
    burst_seconds=10.0,
    burst_clients=20,
    burst_deltas=200,
    paced_runs=1_000,
    paced_ramp=3.0,
    paced_seconds=15.0,
    first_event_runs=500,
    rested_runs=100,
    short_seconds=8.0,
    short_connections=32,
    idle_streams=5_000,
    replay_deltas=100_000,
    replay_seconds=2.0,
    answers=60,
)

QUICK = Sizes(
    warm_up=0.5,
    burst_seconds=2.0,
    burst_clients=20,
    burst_deltas=200,
    paced_runs=200,
    paced_ramp=0.5,
    paced_seconds=2.0,
    first_event_runs=40,
    rested_runs=10,
    short_seconds=2.0,
    short_connections=32,
    idle_streams=300,
    replay_deltas=20_000,
    replay_seconds=0.5,
    answers=20,
)
