"""A reader that hardly reads neither slows a run nor grows memory, and still gets every event (promise 5)."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from urllib.parse import urlsplit

import psutil

from tests.cli.up import Up
from tests.processes.sse import Client, Seen

DELTAS = 100_000
SLOW = 200
DRAINED = 3
FAST = 20
FAST_DELTAS = 2_000
MEBIBYTE = 1 << 20


class SlowReader:
    """A raw connection with a small receive buffer that is read a byte at a time."""

    def __init__(self, base_url: str, run_id: str) -> None:
        address = urlsplit(base_url)
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.connect((address.hostname, address.port))
        self._socket.setblocking(False)
        request = (
            f"GET /v1/runs/{run_id}/events HTTP/1.1\r\nHost: {address.netloc}\r\nAccept: text/event-stream\r\n\r\n"
        )
        self._socket.sendall(request.encode())
        self.received = bytearray()

    async def read(self, size: int) -> bytes:
        data = await asyncio.get_running_loop().sock_recv(self._socket, size)
        self.received += data
        return data

    async def one_byte_per_second(self, over: asyncio.Event) -> None:
        """Read so until `over`."""
        while not over.is_set():
            await self.read(1)
            try:
                await asyncio.wait_for(over.wait(), 1.0)
            except TimeoutError:
                continue

    async def drain(self) -> list[int]:
        """Read to the end at full speed, and return the ids of all frames."""
        while b"0\r\n\r\n" not in self.received[-5:]:
            await self.read(1 << 20)
        body = _unchunked(bytes(self.received.partition(b"\r\n\r\n")[2]))
        return [int(match) for match in re.findall(rb"^id: (\d+)$", body, re.MULTILINE)]

    def close(self) -> None:
        self._socket.close()


def _unchunked(data: bytes) -> bytes:
    """Decode HTTP/1.1 chunks."""
    pieces: list[bytes] = []
    offset = 0
    while True:
        line_end = data.index(b"\r\n", offset)
        size = int(data[offset:line_end], 16)
        if size == 0:
            return b"".join(pieces)
        pieces.append(data[line_end + 2 : line_end + 2 + size])
        offset = line_end + 4 + size


def _memory(up: Up) -> dict[str, float]:
    return {name: psutil.Process(up.pids[name]).memory_info().rss / MEBIBYTE for name in ("core", "edge")}


async def test_slow_readers_cost_neither_speed_nor_memory_and_miss_nothing(up: Up, client: Client) -> None:
    async def race() -> float:
        """One long run and twenty short ones at once, each read as fast as it comes. Returns the seconds it took."""
        began = time.monotonic()
        runs = [await client.create("count", {"deltas": FAST_DELTAS}) for _ in range(FAST)]
        runs.append(await client.create("count", {"deltas": DELTAS}))
        for seen in await asyncio.gather(*(client.watch(Seen(run["id"])) for run in runs)):
            seen.check()
            assert seen.end["state"] == "succeeded"
        return time.monotonic() - began

    alone_seconds = await race()

    before = _memory(up)
    run = await client.create("count", {"deltas": DELTAS})
    over = asyncio.Event()
    readers = [SlowReader(client.base_url, run["id"]) for _ in range(SLOW)]
    try:
        slow = [asyncio.create_task(reader.one_byte_per_second(over)) for reader in readers]
        fast_seconds = await race()
        whole = await client.watch(Seen(run["id"]))
        whole.check()
        assert whole.text.split() == [str(n + 1) for n in range(DELTAS)]
        after = _memory(up)
        over.set()
        await asyncio.gather(*slow)
        for reader in readers[:DRAINED]:
            assert await reader.drain() == list(range(1, whole.last + 1))
    finally:
        for reader in readers:
            reader.close()

    growth = {name: round(after[name] - before[name], 1) for name in after}
    print(  # noqa: T201 — shown with `-s`, and when it fails
        f"alone {alone_seconds:.1f} s, beside {SLOW} slow readers {fast_seconds:.1f} s, RSS grew by {growth} MiB"
    )
    assert fast_seconds < 2 * alone_seconds + 2.0
    assert growth["edge"] < SLOW * 1.0 + 64
    assert growth["core"] < 64 + 64
