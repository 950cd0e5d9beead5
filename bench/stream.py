"""One streaming request on a TCP connection of its own: sent, counted, timed.

It is an asyncio protocol and no HTTP library, because the client shares two cores with what it measures.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

from bench.chunked import ChunkedBody
from bench.events import EventCounter, WrongStream
from bench.requests import Edge

OnFrames = Callable[[bytes], None]
HEAD_END = b"\r\n\r\n"


class RunStream(asyncio.Protocol):
    """`done` is set when the response has ended well behind the run's last event; else it raises WrongStream."""

    def __init__(self, request: bytes, on_frames: OnFrames | None = None) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.events = EventCounter()
        self.sent_time = 0.0
        """Monotonic, as all times here."""
        self._request = request
        self._on_frames = on_frames
        self._head: bytes | None = b""  # None once it has been read
        self._body = ChunkedBody()
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def send(self) -> None:
        """Send the request."""
        self.sent_time = time.monotonic()
        cast(asyncio.Transport, self._transport).write(self._request)  # uvloop's are no subclass

    def data_received(self, data: bytes) -> None:
        if self.done.done():
            return
        try:
            self._receive(data)
        except (WrongStream, ValueError) as wrong:
            self.done.set_exception(wrong if isinstance(wrong, WrongStream) else WrongStream(str(wrong)))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(WrongStream(f"the connection broke behind seq {self.events.last_seq}: {exc}"))

    def close(self) -> None:
        """Hang up."""
        self.done.cancel()
        if self._transport is not None:
            self._transport.close()

    def _receive(self, data: bytes) -> None:
        if self._head is not None:
            data = self._read_head(data)
        frames = self.events.feed(self._body.feed(data))
        if frames and self._on_frames is not None:
            self._on_frames(frames)
        if self._body.ended:
            if not self.events.ended:
                raise WrongStream(f"the response ended behind seq {self.events.last_seq}, before run.ended")
            self.done.set_result(None)

    def _read_head(self, data: bytes) -> bytes:
        """Return what belongs to the body already."""
        assert self._head is not None
        head, end, body = (self._head + data).partition(HEAD_END)
        if not end:
            self._head = head
            return b""
        if not head.startswith(b"HTTP/1.1 200 ") or b"chunked" not in head.lower():
            raise WrongStream(f"refused: {(head + b' ' + body).decode(errors='replace')}")
        self._head = None
        return body


async def open_stream(
    edge: Edge, request: bytes, on_frames: OnFrames | None = None, *, pause: float = 0.0
) -> RunStream:
    """Connect, pause for so many seconds, and send the request. The caller closes the stream."""
    loop = asyncio.get_running_loop()
    _, stream = await loop.create_connection(lambda: RunStream(request, on_frames), edge.host, edge.port)
    try:
        await asyncio.sleep(pause)
        stream.send()
    except BaseException:
        stream.close()
        raise
    return stream


async def read_run(edge: Edge, request: bytes, on_frames: OnFrames | None = None, *, pause: float = 0.0) -> RunStream:
    """Connect, pause for so many seconds, send the request and read to the run's end. Raises WrongStream."""
    stream = await open_stream(edge, request, on_frames, pause=pause)
    with closing(stream):
        await stream.done
    return stream


@contextmanager
def closing(*streams: RunStream) -> Iterator[None]:
    """Hang up at the end, whatever happens."""
    try:
        yield
    finally:
        for stream in streams:
            stream.close()
