"""The load client against a server whose answers are known."""

from __future__ import annotations

import asyncio
import time

import pytest
import uvloop

from bench.closed_loop import closed_loop
from bench.events import WrongStream
from bench.stream import read_run
from tests.bench.sse_server import HEAD, blocks, chunked, delta, run_of, serving

DELTAS = 200
FULL_SPEED = 400_000
"""Events per second that the client must be able to take, several times what it is to measure."""
BOUND = 20.0

GOOD = HEAD + chunked(blocks(run_of(DELTAS), 32))


async def test_a_stream_is_read_to_its_end_and_shown_whole() -> None:
    shown: list[bytes] = []
    async with asyncio.timeout(BOUND), serving(GOOD) as edge:
        stream = await read_run(edge, edge.create("count", {"deltas": DELTAS}), shown.append)
    assert stream.events.last_seq == DELTAS + 1
    assert b"".join(shown) == b"".join(run_of(DELTAS))


async def test_a_closed_loop_counts_runs_and_events() -> None:
    async with asyncio.timeout(BOUND), serving(GOOD) as edge:
        load = await closed_loop(edge, clients=3, deltas=DELTAS, seconds=0.1)
    assert load.runs >= 3
    assert load.events == load.runs * (DELTAS + 1)
    assert len(load.durations) == load.runs
    assert 0.1 <= load.seconds < BOUND


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}", "refused: HTTP/1.1 404 Not Found"),
        (HEAD + chunked([delta(1)]), "the response ended behind seq 1, before run.ended"),
        (HEAD + b"not hexadecimal\r\n", "invalid literal"),
        (HEAD + chunked([delta(1), delta(3)]), "2 events behind seq 0 end at seq 3"),
        (HEAD + chunked([delta(1)])[:-5], "the connection broke behind seq 1"),
    ],
)
async def test_a_stream_that_goes_wrong_says_why(response: bytes, reason: str) -> None:
    async with asyncio.timeout(BOUND), serving(response, hang_up=True) as edge:
        with pytest.raises(WrongStream, match=f"^{reason}"):
            await read_run(edge, edge.watch("run_1"))


async def test_a_closed_loop_notices_a_run_without_all_deltas() -> None:
    async with asyncio.timeout(BOUND), serving(GOOD) as edge:
        with pytest.RaisesGroup(pytest.RaisesExc(WrongStream, match="^deltas: expected 201, found 200")):
            await closed_loop(edge, clients=1, deltas=DELTAS + 1, seconds=0.1)


def test_the_client_is_not_the_bottleneck() -> None:
    """CPU time counts, not time: the tests may have neighbours. The server's is in it, and is next to nothing."""

    async def measure() -> float:
        async with asyncio.timeout(BOUND), serving(GOOD) as edge:
            before = time.process_time()
            load = await closed_loop(edge, clients=20, deltas=DELTAS, seconds=0.5)
            return load.events / (time.process_time() - before)

    assert uvloop.run(measure()) > FULL_SPEED
