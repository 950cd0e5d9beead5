"""A fixed number of clients, each of which creates the next run when the one before has ended."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from bench.events import WrongStream
from bench.requests import Edge
from bench.stream import read_run
from bench.verification import verify


@dataclass(slots=True)
class Load:
    """What the clients saw."""

    runs: int = 0
    events: int = 0
    seconds: float = 0.0
    durations: list[float] = field(default_factory=list)
    """Of each run, in seconds, from the connection to the end of its stream."""


async def closed_loop(edge: Edge, *, clients: int, deltas: int, seconds: float, agent: str = "count") -> Load:
    """Let the clients work for so long; runs that are under way then are finished and counted.

    The first run of each client is verified whole; all others must have as many events.
    """
    request = edge.create(agent, {"deltas": deltas})
    begin = time.monotonic()
    load = Load()
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(_client(edge, request, load, deltas=deltas, until=begin + seconds))
    load.seconds = time.monotonic() - begin
    return load


async def _client(edge: Edge, request: bytes, load: Load, *, deltas: int, until: float) -> None:
    expected = await _verified_run(edge, request, load, deltas=deltas)
    while time.monotonic() < until:
        events = await _timed_run(edge, request, load)
        if events != expected:
            raise WrongStream(f"a run of {deltas} deltas has {events} events, one before it had {expected}")


async def _verified_run(edge: Edge, request: bytes, load: Load, *, deltas: int) -> int:
    begin = time.monotonic()
    kept: list[bytes] = []
    stream = await read_run(edge, request, kept.append)
    load.durations.append(time.monotonic() - begin)
    load.runs += 1
    load.events += stream.events.last_seq
    return verify(b"".join(kept), deltas=deltas)


async def _timed_run(edge: Edge, request: bytes, load: Load) -> int:
    begin = time.monotonic()
    stream = await read_run(edge, request)
    load.durations.append(time.monotonic() - begin)
    load.runs += 1
    load.events += stream.events.last_seq
    return stream.events.last_seq
