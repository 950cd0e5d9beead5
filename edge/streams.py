"""All event streams that this edge has open: their heartbeat, their stalls, their orderly end.

Owns one clock for all of them, since a timer per idle stream costs more than the stream's own news, and the plain
counters that /metrics shows. It writes comments and hints only; the frames of a run are `edge/sse.py`'s.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

import structlog
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from edge.watch import Held

log = structlog.get_logger(__name__)

PING = b": ping\n\n"
HIGH_WATER = 32 << 10
"""Unsent bytes at which a stream waits for its client: about one write of a replay, half of the usual."""


class StreamClosing(Exception):
    """The edge shuts down: the stream ends here, and its client goes on elsewhere."""


class OpenStream:
    """One response that streams a run, the runs of a thread, or whatever a socket watches."""

    __slots__ = ("_request", "_writer", "comment", "held", "is_closing", "is_resumable", "is_writing", "last_write")

    def __init__(
        self,
        request: web.Request,
        writer: AbstractStreamWriter,
        held: Held,
        *,
        is_resumable: bool,
        comment: bytes = PING,
    ) -> None:
        self.held = held
        self.is_resumable = is_resumable
        self.comment = comment
        """What the client gets after silence; may be empty."""
        self.is_closing = False
        self.is_writing = False
        self.last_write = asyncio.get_running_loop().time()
        self._request = request
        self._writer = writer
        if request.transport is not None:
            request.transport.set_write_buffer_limits(high=HIGH_WATER)

    async def write(self, frames: bytes) -> None:
        """Send whole frames; returns once the client has read enough of the earlier ones."""
        self.last_write = asyncio.get_running_loop().time()
        self.is_writing = True
        try:
            await self._writer.write(frames)
            await self._writer.drain()  # aiohttp itself looks only every 64 KiB
        finally:
            self.is_writing = False

    async def ping(self) -> None:
        """Send a comment, unless the client has yet to read what was sent."""
        if not self._request.protocol.writing_paused:
            with suppress(ConnectionError):  # its handler hears of it at the same moment
                await self.write(self.comment)

    def close(self) -> None:
        """Have the stream end after what it is writing."""
        self.is_closing = True
        self.held.fail(StreamClosing())

    def abort(self) -> None:
        """Cut the connection of a client that reads nothing, and so would never see the end."""
        if self.is_writing and self._request.transport is not None:
            self._request.transport.abort()


class Streams:
    """The open streams. An async context manager that keeps their clock."""

    def __init__(self, *, heartbeat: float, stall: float, retry: float, catch_ups: int) -> None:
        self._open: set[OpenStream] = set()
        self._heartbeat = heartbeat
        self._stall = stall
        self._task: asyncio.Task[None] | None = None
        self.retry = retry
        """Seconds that a resumable client is told to wait before it comes back."""
        self.catch_ups = asyncio.Semaphore(catch_ups)
        """Held while a run is folded from its start to a client's cursor."""
        self.is_draining = False
        self.events = self.bytes = self.stalls = 0

    def __len__(self) -> int:
        return len(self._open)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._keep_time(), name="heartbeats")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])

    @contextmanager
    def opened(self, stream: OpenStream) -> Iterator[OpenStream]:
        """Look after the stream inside of the `with`."""
        self._open.add(stream)
        if self.is_draining and stream.is_resumable:
            stream.close()
        try:
            yield stream
        finally:
            self._open.discard(stream)

    async def drain(self, seconds: float) -> None:
        """Close the resumable streams, spread over `seconds` so that their clients do not come back all at once."""
        self.is_draining = True
        streams = [stream for stream in self._open if stream.is_resumable]
        random.shuffle(streams)
        for stream in streams:
            stream.close()
            await asyncio.sleep(random.uniform(0, 2 * seconds / len(streams)))
        for stream in streams:
            stream.abort()

    async def _keep_time(self) -> None:
        clock = asyncio.get_running_loop().time
        tick = min(1.0, self._heartbeat / 4, self._stall / 2)
        while True:
            await asyncio.sleep(tick)
            now = clock()
            for stream in list(self._open):
                if stream.is_writing:
                    if now - stream.last_write >= self._stall:
                        self.stalls += stream.held.drop()
                elif now - stream.last_write > self._heartbeat - tick:
                    await stream.ping()


STREAMS = web.AppKey("streams", Streams)
"""Where an application keeps its `Streams`."""
