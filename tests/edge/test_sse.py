"""Streams through a real edge: exact frames, resumes, slow readers, restarts of the core."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import aiohttp
import grpc
import pytest

from edge.app import Edge
from edge.event_json import NativeEncoder
from edge.sse import MAX_EVENTS, cut
from penstock.v1.event_pb2 import Event
from penstock.v1.run_service_pb2 import WatchRunResponse
from tests.edge.conftest import StartEdge
from tests.edge.frames import ACCEPT, FrameReader, read, read_on
from tests.edge.hello_log import HEAD, beginning, delta, ending, whole
from tests.edge.scripted_calls import Refuse
from tests.edge.scripted_core import ScriptedCore
from tests.edge.slow_connection import connect_slowly

EVENTS = "/v1/runs/run_1/events"
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@asynccontextmanager
async def client(edge: Edge) -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(f"http://{edge.address}", headers=ACCEPT, timeout=timeout) as session:
        yield session


async def figure(http: aiohttp.ClientSession, name: str) -> float:
    """Return one figure of /metrics."""
    async with http.get("/metrics") as response:
        lines = (await response.text()).splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(name + " "))


async def test_a_stream_is_the_frames_of_all_events_and_then_ends(
    core: ScriptedCore, http: aiohttp.ClientSession
) -> None:
    core.append(*whole(deltas=3))
    encoder = NativeEncoder()

    async with http.get(EVENTS, headers=ACCEPT) as response:
        body = await response.read()

    assert body == b"retry: 1000\n\n" + b"".join(encoder.feed(event) for event in whole(deltas=3))
    headers = response.headers
    assert response.status == 200
    assert headers["Content-Type"] == "text/event-stream"
    assert (headers["Cache-Control"], headers["X-Accel-Buffering"]) == ("no-cache", "no")
    assert headers["X-Run-Id"] == "run_1"


@pytest.mark.parametrize("after", [1, 4, 7, 20, 9_000, 10_006])
@pytest.mark.parametrize("by_header", [True, False])
async def test_a_resume_after_any_event_brings_exactly_the_rest(
    core: ScriptedCore, http: aiohttp.ClientSession, *, after: int, by_header: bool
) -> None:
    core.append(*whole(deltas=10_000))
    headers = ACCEPT | ({"Last-Event-ID": str(after)} if by_header else {})

    async with http.get(EVENTS, headers=headers, params={} if by_header else {"after": after}) as response:
        reader = await read(response)

    assert reader.seqs == list(range(after + 1, 10_008))
    assert reader.is_at_border


async def test_the_header_of_a_reconnect_is_newer_than_the_address(
    core: ScriptedCore, http: aiohttp.ClientSession
) -> None:
    core.append(*whole(deltas=3))

    async with http.get(EVENTS, params={"after": 2}, headers=ACCEPT | {"Last-Event-ID": "6"}) as response:
        assert (await read(response)).seqs == [7, 8, 9, 10]


async def test_a_reconnect_behind_the_end_is_told_to_stop(core: ScriptedCore, http: aiohttp.ClientSession) -> None:
    core.append(*whole(deltas=1))

    async with http.get(EVENTS, headers=ACCEPT | {"Last-Event-ID": "8"}) as response:
        assert (response.status, await response.read()) == (204, b"")


async def test_live_events_follow_history_without_a_seam(core: ScriptedCore, http: aiohttp.ClientSession) -> None:
    core.append(*beginning())

    async with http.get(EVENTS, headers=ACCEPT) as response:
        reader = await read(response, until=HEAD)
        for seq in range(HEAD + 1, HEAD + 51):
            core.append(delta(seq))
        await read_on(response, reader, until=HEAD + 50)
        core.append(*ending(HEAD + 51))
        await read_on(response, reader)

    assert reader.seqs == list(range(1, HEAD + 54))
    assert reader.frames[-1].event == "run.ended"


async def test_an_open_stream_shows_its_headers_before_there_is_an_event(
    core: ScriptedCore, http: aiohttp.ClientSession
) -> None:
    core.append(*beginning())

    async with http.get(EVENTS, headers=ACCEPT | {"Last-Event-ID": str(HEAD)}) as response:
        reader = FrameReader()
        reader.feed(await response.content.readany())
        assert response.status == 200
        assert (reader.frames, reader.retries) == ([], [1000])


async def test_all_streams_of_an_edge_share_one_watch_stream(core: ScriptedCore, http: aiohttp.ClientSession) -> None:
    for number in range(20):
        core.append(*whole(deltas=50), run_id=f"run_{number}")

    async def ids(run_id: str) -> list[int]:
        async with http.get(f"/v1/runs/{run_id}/events", headers=ACCEPT) as response:
            return (await read(response)).seqs

    seqs = await asyncio.gather(*(ids(f"run_{number}") for number in range(20)))

    assert seqs == [list(range(1, 58))] * 20
    assert core.watch_streams == 1


async def test_a_client_that_leaves_takes_its_watch_along(core: ScriptedCore, http: aiohttp.ClientSession) -> None:
    core.append(*beginning())
    async with http.get(EVENTS, headers=ACCEPT) as response:
        await read(response, until=HEAD)
        response.close()

    async with asyncio.timeout(5):
        await core.until_watched(stops=1)
    assert core.stops == [core.starts[0].watch_id]


async def test_silence_is_filled_with_comments(core: ScriptedCore, start_edge: StartEdge) -> None:
    core.append(*beginning())

    async with client(await start_edge(heartbeat=0.05)) as http, http.get(EVENTS) as response:
        reader = await read(response, until=HEAD)
        while reader.comments < 3:
            reader.feed(await response.content.readany())

    assert reader.seqs == [1, 2, 3, 4]


async def test_a_restart_of_the_core_is_a_pause_and_nothing_else(
    core: ScriptedCore, http: aiohttp.ClientSession
) -> None:
    core.append(*beginning(), *(delta(seq) for seq in range(5, 105)))

    async with http.get(EVENTS, headers=ACCEPT) as response:
        reader = await read(response, until=104)
        await core.stop()
        core.append(*(delta(seq) for seq in range(105, 205)))
        await core.start()
        await read_on(response, reader, until=204)
        core.append(*ending(205))
        await read_on(response, reader)

    assert reader.seqs == list(range(1, 208))
    assert [start.after_seq for start in core.starts] == [0, 104]


async def test_a_silent_watch_stream_is_opened_again(core: ScriptedCore, start_edge: StartEdge) -> None:
    core.append(*beginning())

    async with client(await start_edge(watch_silence=0.3)) as http, http.get(EVENTS) as response:
        reader = await read(response, until=HEAD)
        core.is_mute = True
        core.append(delta(5))
        async with asyncio.timeout(5):
            await core.until_watched(starts=2)
        core.is_mute = False
        core.append(*ending(6))
        await read_on(response, reader)

    assert reader.seqs == list(range(1, 9))


@pytest.mark.parametrize("reason", ["CORE_DRAINING", "STORE_UNAVAILABLE"])
async def test_a_watch_that_is_refused_for_now_is_asked_for_again(
    core: ScriptedCore, http: aiohttp.ClientSession, reason: str
) -> None:
    core.append(*whole(deltas=1))
    core.script["WatchMany"] = [Refuse(UNAVAILABLE, reason)] * 2

    async with http.get(EVENTS, headers=ACCEPT) as response:
        assert (await read(response)).seqs == list(range(1, 9))
    assert len(core.starts) == 3


async def test_a_core_that_stays_away_ends_the_stream_without_a_terminal_frame(
    core: ScriptedCore, start_edge: StartEdge
) -> None:
    core.append(*beginning())

    async with client(await start_edge(reattach_for=0.3)) as http, http.get(EVENTS) as response:
        reader = await read(response, until=HEAD)
        await core.stop()
        await read_on(response, reader)
        await core.start()

    assert reader.seqs == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("refusal", "status", "extra"),
    [
        (Refuse(grpc.StatusCode.OUT_OF_RANGE, "EVENTS_EXPIRED", {"oldest_seq": "40"}), 410, {"oldest_seq": 40}),
        (Refuse(grpc.StatusCode.OUT_OF_RANGE, "CURSOR_AHEAD", {"last_seq": "9"}), 416, {"last_seq": 9}),
        (Refuse(grpc.StatusCode.INTERNAL, "LOG_DAMAGED"), 500, {}),
    ],
)
async def test_a_refused_watch_is_a_status_and_not_a_broken_stream(
    core: ScriptedCore, http: aiohttp.ClientSession, refusal: Refuse, status: int, extra: dict[str, int]
) -> None:
    core.append(*beginning())
    core.script["WatchMany"] = [refusal]

    async with http.get(EVENTS, headers=ACCEPT) as response:
        problem = await response.json(content_type="application/problem+json")

    assert response.status == status
    assert problem["reason"] == refusal.reason
    assert extra.items() <= problem.items()


async def test_a_slow_reader_costs_little_and_gets_every_event(core: ScriptedCore, start_edge: StartEdge) -> None:
    deltas, size = 20_000, 400
    events = [*beginning(), *(delta(HEAD + n, "x" * size) for n in range(1, deltas + 1)), *ending(HEAD + deltas + 1)]
    core.append(*events)
    edge = await start_edge(stall=0.1)

    async with client(edge) as http:
        reader, stream = await open_slowly(edge)
        async with asyncio.timeout(20):
            while await figure(http, "penstock_edge_dropped_buffers_total") < 1:
                pass  # the client does not read: its kernel buffers fill, then the edge's, which is dropped
        held_back = core.sent["run_1"]
        reader_done = asyncio.create_task(read_raw(reader))
        async with asyncio.timeout(30):
            frames = await reader_done
        stream.close()
        assert await figure(http, "penstock_edge_watches") == 0

    assert held_back < deltas * size * 0.8, "the edge swallowed what the client did not read"
    assert frames.seqs == list(range(1, len(events) + 1))
    assert len(core.starts) > 1, "the watch was stopped and started again"
    assert all(before.after_seq <= after.after_seq for before, after in pairwise(core.starts))


async def open_slowly(edge: Edge, path: str = EVENTS) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Ask for the stream on a connection with small buffers, and do not read."""
    reader, writer = await connect_slowly(edge)
    writer.write(f"GET {path} HTTP/1.0\r\nHost: e\r\nAccept: text/event-stream\r\n\r\n".encode())
    return reader, writer


async def read_raw(reader: asyncio.StreamReader) -> FrameReader:
    frames = FrameReader()
    await reader.readuntil(b"\r\n\r\n")
    while chunk := await reader.read(1 << 16):
        frames.feed(chunk)
    return frames


async def test_a_fast_client_is_not_slowed_by_a_stalled_one(core: ScriptedCore, start_edge: StartEdge) -> None:
    core.append(*beginning(), *(delta(HEAD + n, "x" * 400) for n in range(1, 20_001)))
    core.append(*whole(deltas=1000), run_id="run_2")
    edge = await start_edge(stall=60)

    async with client(edge) as http:
        _, stalled = await open_slowly(edge)
        async with asyncio.timeout(20):
            while await figure(http, "penstock_edge_watch_overflows_total") < 1:
                pass
        async with http.get("/v1/runs/run_2/events") as response, asyncio.timeout(10):
            assert (await read(response)).seqs == list(range(1, 1008))
        stalled.close()


@pytest.mark.parametrize("count", [0, 1, 500, MAX_EVENTS, MAX_EVENTS + 1, 5000])
@pytest.mark.parametrize("text", ["x", "some longer text, as models write it " * 9])
def test_pieces_are_small_and_joined_are_the_whole(count: int, text: str) -> None:
    data = WatchRunResponse(events=[delta(1 + n, text) for n in range(count)]).SerializeToString()

    pieces = list(cut(data))

    assert b"".join(pieces) == data
    sizes = [len(WatchRunResponse.FromString(piece).events) for piece in pieces]
    assert sum(sizes) == count
    assert max(sizes, default=0) <= MAX_EVENTS


def test_the_smallest_event_that_streams_is_as_small_as_the_bound_assumes() -> None:
    smallest = WatchRunResponse(events=[delta(1, "x")]).SerializeToString()

    assert len(smallest) == 13
    assert isinstance(WatchRunResponse.FromString(smallest).events[0], Event)
