"""Streams of encoders that must see all events: what protocols with numbered frames, or with one leg, rely on."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from edge.app import build
from edge.config import EdgeSettings
from edge.core import CoreClient
from edge.health import Readiness
from edge.sse import stream_run
from edge.streams import Streams
from penstock.v1.event_pb2 import Event
from tests.edge.hello_log import beginning, delta, whole
from tests.edge.scripted_core import ScriptedCore


class Numbering:
    """Numbers its frames from 0 and shows deltas only; over at a chosen seq."""

    def __init__(self, over_at: int) -> None:
        self.ended = False
        self._over_at = over_at
        self._number = 0

    def feed(self, event: Event) -> bytes:
        assert not self.ended, "an encoder that has ended is left alone"
        self.ended = event.seq == self._over_at
        if not event.HasField("part_delta"):
            return b""
        self._number += 1
        return b"data: %d\n\n" % (self._number - 1)


@asynccontextmanager
async def folding_edge(core: ScriptedCore, *, catch_ups: int = 4) -> AsyncIterator[aiohttp.ClientSession]:
    settings = EdgeSettings.load(core=core.address)
    streams = Streams(heartbeat=10, stall=2, retry=1, catch_ups=catch_ups)
    async with CoreClient(core.address) as client, streams:

        async def handle(request: web.Request) -> web.StreamResponse:
            number = {name: int(value) for name, value in request.query.items()}
            encoder = Numbering(number.get("over_at", 0))
            return await stream_run(request, client, "run_1", encoder, after=number.get("after", 0), from_start=True)

        app = build(settings, client, streams, Readiness())
        app.router.add_get("/folded", handle)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.2, access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as http:
                yield http
        finally:
            await runner.cleanup()


@pytest.mark.parametrize("after", [0, 1, 4, 5, 600, 3003, 3004, 3007])
async def test_frames_behind_a_cursor_are_those_of_an_unbroken_stream(core: ScriptedCore, after: int) -> None:
    core.append(*whole(deltas=3000))

    async with folding_edge(core) as http, http.get("/folded", params={"after": after}) as response:
        body = await response.text()

    skipped = min(max(after - 4, 0), 3000)
    frames = [frame for frame in body.split("\n\n") if frame and not frame.startswith(":")]
    assert frames == [f"data: {number}" for number in range(skipped, 3000)]


async def test_a_stream_is_over_when_its_protocol_says_so(core: ScriptedCore) -> None:
    core.append(*beginning(), *(delta(seq) for seq in range(5, 20)))

    async with folding_edge(core) as http, http.get("/folded", params={"over_at": 7}) as response:
        assert await response.text() == "data: 0\n\ndata: 1\n\ndata: 2\n\n"
    async with folding_edge(core) as http, http.get("/folded", params={"over_at": 7, "after": 9}) as response:
        assert await response.text() == ": ping\n\n"


async def test_catching_up_with_a_live_run_gives_the_slot_back(core: ScriptedCore) -> None:
    core.append(*beginning(), delta(5))

    async with folding_edge(core, catch_ups=1) as http:
        first = await http.get("/folded", params={"after": 5})
        ahead = await http.get("/folded", params={"after": 7})
        second = await http.get("/folded", params={"after": 4})
        assert await second.content.readuntil(b"data: 0\n\n")
        core.append(*list(whole(deltas=4))[5:])
        texts = [await response.text() for response in (first, ahead)]

    assert [text.removeprefix(": ping\n\n") for text in texts] == [
        "data: 1\n\ndata: 2\n\ndata: 3\n\n",
        "data: 3\n\n",
    ]
