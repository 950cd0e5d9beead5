"""A disk that is really full: nothing is lost, nothing is half made, and everybody is told (ENGINE.md, scenario 20)."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.processes.alone import Alone
from tests.processes.conftest import AGENTS, LONG_LEASE
from tests.processes.sse import Client, Seen

DISK = "24m"
DELTAS, RATE = 300, 30
FULL_FOR = 3.0
"""Seconds in which the disk stays full after it was noticed."""
BOUND = 30.0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """The data folder of the core, on a file system of a fixed size."""
    data = tmp_path / ".penstock"
    data.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(data)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a file system of a fixed size needs the right to mount one: {mounted.stderr.strip()}")
    yield data
    subprocess.run(["umount", "--lazy", str(data)], check=True)


def fill(disk: Path) -> Path:
    """Write until there is no room for a single byte. Returns the file to delete."""
    ballast = disk / "ballast"
    for size in (1 << 16, 1):
        with ballast.open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError as full:
                assert full.errno == errno.ENOSPC, full  # noqa: PT017 - any other error is one
    return ballast


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    deadline = time.monotonic() + BOUND
    while not await condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.05)


async def test_full_disk_is_a_pause(small_disk: Path, alone: Alone, session: aiohttp.ClientSession) -> None:
    core, _ = alone.core(lease=LONG_LEASE), alone.worker(AGENTS)
    client = Client(session, f"http://{alone.edge().address}")

    async def status(path: str) -> int:
        async with session.get(client.base_url + path) as response:
            return response.status

    async def is_ready() -> bool:
        return await status("/readyz") == 200

    async def refusal() -> tuple[int, str]:
        body = {"agent_id": "echo", "input": "no room", "thread_id": "refused"}
        async with session.post(f"{client.base_url}/v1/runs", json=body) as response:
            return response.status, (await response.json())["reason"]

    async def is_unready() -> bool:
        return not await is_ready()

    run = await client.create("count", {"deltas": DELTAS, "rate": RATE})
    watching = asyncio.create_task(client.watch(Seen(run["id"])))
    await client.watch(Seen(run["id"]), up_to=10)
    ballast = fill(small_disk)
    await until(is_unready, "the core notices that nothing can be stored")
    full_until = time.monotonic() + FULL_FOR
    while time.monotonic() < full_until:
        assert await refusal() == (503, "STORE_FULL")
        assert (await status("/livez"), await status("/readyz")) == (200, 503)
    assert core.is_running
    assert not watching.done()

    os.unlink(ballast)
    await until(is_ready, "the core notices that there is room")
    seen = await watching
    seen.check()
    assert seen.text.split() == [str(n + 1) for n in range(DELTAS)]
    assert (seen.attempts, seen.end["state"]) == ([1], "succeeded")
    assert seen.frames == (await client.replay(run["id"])).frames
    async with session.get(f"{client.base_url}/v1/threads/refused/runs") as response:
        assert response.status == 404, "a create that was refused has left something"
    after = await client.create("echo", "room again")
    assert (await client.watch(Seen(after["id"]))).end["state"] == "succeeded"
