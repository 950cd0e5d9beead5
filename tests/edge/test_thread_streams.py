"""Streams of threads through a real edge: exact frames, resumes, restarts of the core, slow readers, shutdown."""

from __future__ import annotations

import asyncio

import aiohttp
import grpc
import pytest

from edge.event_json import ThreadEncoder
from penstock.v1.event_pb2 import Event
from tests.edge.conftest import StartEdge
from tests.edge.frames import ACCEPT, FrameReader, read, read_on
from tests.edge.hello_log import HEAD, beginning, delta, ending, whole
from tests.edge.scripted_calls import Refuse
from tests.edge.scripted_core import ScriptedCore
from tests.edge.test_sse import client, figure, open_slowly

EVENTS = "/v1/threads/thr_1/events"
SEEN = 9
"""Events of a run with two deltas."""


def two_runs(core: ScriptedCore) -> list[str]:
    """Two runs that have ended; returns the ids of their frames."""
    for place in (1, 3):
        core.thread.append(place, *whole(deltas=2))
    return [f"{place}-{seq}" for place in (1, 3) for seq in range(1, SEEN + 1)]


async def test_a_stream_is_the_frames_of_one_run_after_the_other(
    core: ScriptedCore, http: aiohttp.ClientSession
) -> None:
    ids = two_runs(core)
    encoder = ThreadEncoder()
    expected = b"retry: 1000\n\n"
    for place, run_id, event in core.thread.events:
        encoder.enter(run_id, f"{place}-")
        expected += encoder.feed(event)

    async with http.get(EVENTS, headers=ACCEPT) as response:
        body = await response.content.readexactly(len(expected))
        headers = response.headers

    assert body == expected
    assert response.status == 200
    assert headers["Content-Type"] == "text/event-stream"
    assert (headers["Cache-Control"], headers["X-Accel-Buffering"]) == ("no-cache", "no")
    reader = FrameReader()
    reader.feed(body)
    assert reader.ids == ids


async def test_every_frame_tells_its_run_and_a_cursor(core: ScriptedCore, http: aiohttp.ClientSession) -> None:
    core.thread.append(12, *whole(deltas=1))

    async with http.get(EVENTS) as response:
        reader = await read(response, until="12-8")

    assert reader.frames[1].data == {"type": "run.started", "seq": 2, "run_id": "run_12", "attempt": 1}
    assert reader.frames[4].data == {
        "type": "part.delta",
        "seq": 5,
        "run_id": "run_12",
        "part": 1,
        "kind": "text",
        "text": "piece ",
    }
    assert {frame.data["run_id"] for frame in reader.frames} == {"run_12"}
    assert [frame.data["type"] for frame in reader.frames] == [frame.event for frame in reader.frames]


def test_a_frame_of_an_unknown_event_is_left_out() -> None:
    encoder = ThreadEncoder()
    encoder.enter("run_1", "1-")
    assert encoder.feed(Event(seq=7)) == b""
    assert b"\n".join(encoder.feed(event) for event in ending(8)).count(b"id: 1-") == 3
    assert not encoder.ended, "the next run comes"


@pytest.mark.parametrize("by_header", [True, False])
@pytest.mark.parametrize("seen", [1, 8, 9, 10, 17])
async def test_a_resume_behind_any_frame_brings_exactly_the_rest(
    core: ScriptedCore, http: aiohttp.ClientSession, *, seen: int, by_header: bool
) -> None:
    ids = two_runs(core)
    cursor = ids[seen - 1]
    headers = {"Last-Event-ID": cursor} if by_header else {}

    async with http.get(EVENTS, headers=headers, params={} if by_header else {"after": cursor}) as response:
        reader = await read(response, until=ids[-1])

    assert reader.ids == ids[seen:]
    assert core.thread.watches == [cursor]


async def test_live_events_and_new_runs_follow_without_a_seam(core: ScriptedCore, http: aiohttp.ClientSession) -> None:
    core.thread.append(1, *beginning())

    async with http.get(EVENTS) as response:
        reader = await read(response, until=f"1-{HEAD}")
        core.thread.append(1, delta(5), *ending(6))
        await read_on(response, reader, until="1-8")
        core.thread.append(2, *whole(deltas=1))
        await read_on(response, reader, until="2-8")

    assert reader.ids == [f"{place}-{seq}" for place in (1, 2) for seq in range(1, 9)]
    assert core.thread.watches == [""]


async def test_a_thread_without_events_shows_its_headers_at_once(
    core: ScriptedCore, http: aiohttp.ClientSession
) -> None:
    async with http.get(EVENTS) as response:
        reader = FrameReader()
        reader.feed(await response.content.readany())
        assert (response.status, reader.frames, reader.retries) == (200, [], [1000])


async def test_silence_is_filled_with_comments(core: ScriptedCore, start_edge: StartEdge) -> None:
    two_runs(core)
    async with client(await start_edge(heartbeat=0.05)) as http, http.get(EVENTS) as response:
        reader = await read(response, until="3-9")
        while reader.comments < 3:
            reader.feed(await response.content.readany())


async def test_a_restart_of_the_core_is_a_pause_and_nothing_else(
    core: ScriptedCore, http: aiohttp.ClientSession
) -> None:
    ids = two_runs(core)

    async with http.get(EVENTS) as response:
        reader = await read(response, until=ids[-1])
        await core.stop()
        core.thread.append(4, *whole(deltas=2))
        await core.start()
        await read_on(response, reader, until=f"4-{SEEN}")

    assert reader.ids == [*ids, *(f"4-{seq}" for seq in range(1, SEEN + 1))]
    assert core.thread.watches == ["", ids[-1]]


async def test_a_silent_core_is_asked_again(core: ScriptedCore, start_edge: StartEdge) -> None:
    ids = two_runs(core)

    async with client(await start_edge(watch_silence=0.2)) as http, http.get(EVENTS) as response:
        reader = await read(response, until=ids[-1])
        core.thread.is_mute = True
        core.thread.append(4, *whole(deltas=2))
        async with asyncio.timeout(5):
            while len(core.thread.watches) < 2:
                await asyncio.sleep(0.01)
        core.thread.is_mute = False
        core.thread.ring()
        await read_on(response, reader, until=f"4-{SEEN}")

    assert set(core.thread.watches) == {"", ids[-1]}
    assert reader.ids == [*ids, *(f"4-{seq}" for seq in range(1, SEEN + 1))]


@pytest.mark.parametrize("reason", ["CORE_DRAINING", "STORE_UNAVAILABLE"])
async def test_a_watch_that_is_refused_for_now_is_asked_for_again(
    core: ScriptedCore, http: aiohttp.ClientSession, reason: str
) -> None:
    ids = two_runs(core)
    core.script["WatchThread"] = [Refuse(grpc.StatusCode.UNAVAILABLE, reason)] * 2

    async with http.get(EVENTS) as response:
        assert (await read(response, until=ids[-1])).ids == ids


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (Refuse(grpc.StatusCode.OUT_OF_RANGE, "EVENTS_EXPIRED", {"oldest_seq": "40"}), 410),
        (Refuse(grpc.StatusCode.OUT_OF_RANGE, "CURSOR_AHEAD"), 416),
        (Refuse(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", {"field": "after"}), 400),
        (Refuse(grpc.StatusCode.PERMISSION_DENIED, "FORBIDDEN"), 403),
        (Refuse(grpc.StatusCode.DATA_LOSS, "LOG_DAMAGED"), 500),
    ],
)
async def test_a_refused_watch_is_a_status_and_not_a_broken_stream(
    core: ScriptedCore, http: aiohttp.ClientSession, refusal: Refuse, status: int
) -> None:
    core.script["WatchThread"] = [refusal]
    headers = {"Authorization": "Bearer abc"}

    async with http.get(EVENTS, headers=headers) as response:
        problem = await response.json(content_type="application/problem+json")

    assert (response.status, problem["reason"]) == (status, refusal.reason)
    assert core.metadata[0]["authorization"] == "Bearer abc"


@pytest.mark.parametrize("cursor", ["a b", "x" * 65, "1-٣"])
async def test_a_cursor_that_no_core_gave_is_refused(
    core: ScriptedCore, http: aiohttp.ClientSession, cursor: str
) -> None:
    async with http.get(EVENTS, params={"after": cursor}) as response:
        problem = await response.json(content_type="application/problem+json")
    assert (response.status, problem["reason"]) == (400, "INVALID_CURSOR")
    assert core.requests == []


async def test_a_thread_that_is_deleted_ends_the_stream(core: ScriptedCore, http: aiohttp.ClientSession) -> None:
    ids = two_runs(core)

    async with http.get(EVENTS) as response:
        reader = await read(response, until=ids[-1])
        core.script["WatchThread"] = [Refuse(grpc.StatusCode.NOT_FOUND, "THREAD_NOT_FOUND")]
        await core.stop()
        await core.start()
        await read_on(response, reader)

    assert reader.ids == ids


async def test_a_core_that_stays_away_ends_the_stream(core: ScriptedCore, start_edge: StartEdge) -> None:
    ids = two_runs(core)

    async with client(await start_edge(reattach_for=0.3)) as http, http.get(EVENTS) as response:
        reader = await read(response, until=ids[-1])
        await core.stop()
        await read_on(response, reader)
        await core.start()

    assert reader.ids == ids


async def test_a_client_that_leaves_takes_its_watch_along(core: ScriptedCore, http: aiohttp.ClientSession) -> None:
    ids = two_runs(core)
    async with http.get(EVENTS) as response:
        await read(response, until=ids[-1])
        assert len(core.thread.bells) == 1
        response.close()
    async with asyncio.timeout(5):
        while core.thread.bells:
            await asyncio.sleep(0.01)


async def test_a_slow_reader_costs_little_and_gets_every_event(core: ScriptedCore, start_edge: StartEdge) -> None:
    deltas, size = 20_000, 400
    long = [*beginning(), *(delta(HEAD + n, "x" * size) for n in range(1, deltas + 1)), *ending(HEAD + deltas + 1)]
    core.thread.append(1, *long)
    core.thread.append(2, *whole(deltas=1))
    edge = await start_edge(stall=0.1)

    async with client(edge) as http:
        reader, writer = await open_slowly(edge, EVENTS)
        async with asyncio.timeout(20):
            while await figure(http, "penstock_edge_dropped_buffers_total") < 1:
                await asyncio.sleep(0.01)  # the client does not read: its kernel buffers fill, then nothing is taken
        held_back = core.thread.sent
        frames = FrameReader()
        await reader.readuntil(b"\r\n\r\n")
        async with asyncio.timeout(30):
            while not frames.frames or frames.frames[-1].id != "2-8":
                frames.feed(await reader.read(1 << 16))
        writer.close()

    assert held_back < deltas * 0.5, "the edge swallowed what the client did not read"
    assert frames.seqs == [*range(1, len(long) + 1), *range(1, 9)]
    assert len(core.thread.watches) > 1, "the watch was given up and opened again"


async def test_a_leaving_edge_closes_the_stream_and_another_one_goes_on(
    core: ScriptedCore, start_edge: StartEdge
) -> None:
    ids = two_runs(core)
    first, second = await start_edge(), await start_edge()

    async with client(first) as http, http.get(EVENTS) as response:
        reader = await read(response, until=ids[4])
        await first.leave()
        await read_on(response, reader)
    last = reader.ids[-1]
    async with client(second) as http, http.get(EVENTS, headers={"Last-Event-ID": last}) as response:
        core.thread.append(4, *whole(deltas=2))
        rest = await read(response, until=f"4-{SEEN}")

    assert reader.ids + rest.ids == [*ids, *(f"4-{seq}" for seq in range(1, SEEN + 1))]


async def test_head_is_answered_without_a_watch(core: ScriptedCore, http: aiohttp.ClientSession) -> None:
    async with http.head(EVENTS) as response:
        assert (response.status, response.headers["Content-Type"]) == (200, "text/event-stream")
    assert core.thread.watches == []
