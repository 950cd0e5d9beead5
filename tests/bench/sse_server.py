"""A server of SSE streams made beforehand: what the load client is tried on when the system is not the question."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import cast

from bench.requests import Edge

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def delta(seq: int, text: str = "It ") -> bytes:
    """A frame as the edge writes it."""
    data = f'{{"type":"part.delta","seq":{seq},"part":1,"kind":"text","text":"{text}"}}'
    return f"id: {seq}\nevent: part.delta\ndata: {data}\n\n".encode()


def end(seq: int, state: str = "succeeded") -> bytes:
    """The frame of the run's end."""
    data = f'{{"type":"run.ended","seq":{seq},"state":"{state}"}}'
    return f"id: {seq}\nevent: run.ended\ndata: {data}\n\n".encode()


def run_of(deltas: int) -> list[bytes]:
    """All frames of a run."""
    return [*map(delta, range(1, deltas + 1)), end(deltas + 1)]


def chunked(blocks: Iterable[bytes]) -> bytes:
    """A body of one chunk per block, with its end."""
    return b"".join(b"%x\r\n%b\r\n" % (len(block), block) for block in blocks) + b"0\r\n\r\n"


def blocks(frames: Sequence[bytes], per_chunk: int) -> list[bytes]:
    """Frames, coalesced as the edge does."""
    return [b"".join(frames[at : at + per_chunk]) for at in range(0, len(frames), per_chunk)]


@asynccontextmanager
async def serving(response: bytes, *, hang_up: bool = False) -> AsyncIterator[Edge]:
    """Answer each request with these bytes."""

    class Answer(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass

        def data_received(self, data: bytes) -> None:
            self._transport.write(response)
            if hang_up:
                self._transport.close()

    server = await asyncio.get_running_loop().create_server(Answer, "127.0.0.1", 0)
    async with server:
        yield Edge("127.0.0.1", server.sockets[0].getsockname()[1])
