"""The scenarios by name, in the order in which they run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from bench.measurement import Measurement
from bench.scenarios.burst import burst
from bench.scenarios.first_event import first_event
from bench.scenarios.idle import idle
from bench.scenarios.paced import paced
from bench.scenarios.replay import replay
from bench.scenarios.short_runs import short_runs
from bench.scenarios.storage import storage
from bench.stage import Stage

Scenario = Callable[[Stage], Awaitable[Measurement]]

SCENARIOS: dict[str, Scenario] = {
    "burst": burst,
    "paced_25": partial(paced, rate=25),
    "paced_50": partial(paced, rate=50),
    "first_event": first_event,
    "short_runs": short_runs,
    "idle": idle,
    "replay": replay,
    "storage": storage,
}
