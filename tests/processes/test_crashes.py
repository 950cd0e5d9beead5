"""Promises that hold over `kill -9` and SIGSTOP of real processes (DESIGN 2; the issue's list 1–4, ENGINE 4)."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.cli.up import Up
from tests.processes.alone import Alone
from tests.processes.conftest import AGENTS, LEASE, LONG_LEASE
from tests.processes.sse import Client, Seen

CROWD = 5_000
BOUND = LEASE + 5.0
"""Seconds within which a lost worker's run is retried or ended."""


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a fact about another process, for at most 20 seconds."""
    deadline = time.monotonic() + 20.0
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("cut", [1, 2, 3, 7, 20, 33])
async def test_a_stream_that_is_cut_and_resumed_has_each_event_once(
    penstock_up: Up, session: aiohttp.ClientSession, cut: int
) -> None:
    client = Client(session, penstock_up.base_url)
    run = await client.create("count", {"deltas": 30, "rate": 100})
    seen = await client.watch(Seen(run["id"]), up_to=cut)
    assert seen.last == cut
    await client.watch(seen)
    seen.check()
    assert seen.frames == (await client.replay(run["id"])).frames


async def test_kill_of_the_core_is_a_pause_for_every_stream(patient_up: Up, session: aiohttp.ClientSession) -> None:
    client = Client(session, patient_up.base_url)
    calm = await client.create("slow", "calm")
    expected = (await client.watch(Seen(calm["id"]))).text
    runs = [await client.create("slow", f"run {n}") for n in range(10)]
    watching = [asyncio.create_task(client.watch(Seen(run["id"]))) for run in runs]
    first = await client.watch(Seen(runs[0]["id"]), up_to=6)
    assert first.last == 6
    os.kill(patient_up.pids["core"], signal.SIGKILL)
    for seen in await asyncio.gather(*watching):
        seen.check()
        assert seen.text == expected
        assert seen.attempts == [1]
        assert seen.end["state"] == "succeeded"
        assert seen.frames == (await client.replay(seen.run_id)).frames


async def test_ten_kills_of_the_core_under_fifty_streams(alone: Alone, session: aiohttp.ClientSession) -> None:
    core, _ = alone.core(lease=LONG_LEASE), alone.worker(AGENTS)
    client = Client(session, f"http://{alone.edge().address}")
    runs = await asyncio.gather(*(client.create("count", {"deltas": 300, "rate": 20}) for _ in range(50)))
    watching = [asyncio.create_task(client.watch(Seen(run["id"]))) for run in runs]
    for kill in range(10):
        probe = await client.watch(Seen(runs[kill]["id"]), up_to=15 * (kill + 1))
        assert probe.frames
        core.kill()
        core = await asyncio.to_thread(alone.core, lease=LONG_LEASE)
    for seen in await asyncio.gather(*watching):
        seen.check()
        assert seen.text.split() == [str(n + 1) for n in range(300)]
        assert seen.attempts == [1]
        assert seen.end["state"] == "succeeded"


@pytest.fixture
def many_files() -> Iterator[None]:
    """As many open files as the system allows, for the processes that the test starts too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < CROWD * 1.2:
        pytest.skip(f"{CROWD} streams need more open files than the {hard} that are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
async def test_five_thousand_streams_are_served_again_within_five_seconds(
    alone: Alone, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Scenario 23, its second half."""
    core, _ = alone.core(lease=LONG_LEASE), alone.worker(AGENTS)
    client = Client(session, f"http://{alone.edge().address}")
    run = await client.create("gated", str(tmp_path))
    crowd = [Seen(run["id"]) for _ in range(CROWD)]
    watching = [asyncio.create_task(client.watch(seen)) for seen in crowd]
    await until(lambda: all(seen.last >= 5 for seen in crowd), "everybody has seen the first events")
    core.kill()
    await asyncio.to_thread(alone.core, lease=LONG_LEASE)
    back = time.monotonic()
    (tmp_path / "go").touch()
    await asyncio.gather(*watching)
    took = time.monotonic() - back
    for seen in crowd:
        seen.check()
        assert (seen.text, seen.attempts, seen.end["state"]) == ("one two", [1], "succeeded")
    assert took < 5.0


async def test_a_lost_worker_ends_a_run_that_had_spoken_and_frees_its_thread(
    up: Up, client: Client, tmp_path: Path
) -> None:
    run = await client.create("gated", str(tmp_path))
    watching = asyncio.create_task(client.watch(Seen(run["id"])))
    await until((tmp_path / "started-1").exists, "the handler runs")
    killed = time.monotonic()
    os.kill(up.pids["worker"], signal.SIGKILL)
    seen = await watching
    assert time.monotonic() - killed < BOUND
    seen.check()
    assert (seen.end["state"], seen.end["reason"], seen.end["error"]["code"]) == (
        "failed",
        "worker_lost",
        "WORKER_LOST",
    )
    assert seen.text == "one "
    following = await client.create("echo", "still here", thread_id=run["thread_id"])
    assert (await client.watch(Seen(following["id"]))).end["state"] == "succeeded"


async def test_a_lost_worker_retries_a_run_that_had_not_spoken(up: Up, client: Client, tmp_path: Path) -> None:
    run = await client.create("quiet", str(tmp_path))
    watching = asyncio.create_task(client.watch(Seen(run["id"])))
    await until((tmp_path / "started-1").exists, "the handler runs")
    killed = time.monotonic()
    os.kill(up.pids["worker"], signal.SIGKILL)
    await until((tmp_path / "started-2").exists, "the handler runs again")
    assert time.monotonic() - killed < BOUND
    (tmp_path / "go").touch()
    seen = await watching
    seen.check()
    assert seen.attempts == [1, 2]
    assert (seen.text, seen.end["state"]) == ("done", "succeeded")


async def test_a_killed_worker_with_twenty_runs_leaves_none_behind(up: Up, client: Client, tmp_path: Path) -> None:
    folders = [tmp_path / str(n) for n in range(20)]
    for folder in folders:
        folder.mkdir()
    runs = [await client.create("gated", str(folder)) for folder in folders]
    for folder in folders:
        await until((folder / "started-1").exists, "all handlers run")
    killed = time.monotonic()
    os.kill(up.pids["worker"], signal.SIGKILL)
    for seen in await asyncio.gather(*(client.watch(Seen(run["id"])) for run in runs)):
        seen.check()
        assert seen.end["reason"] == "worker_lost"
    assert time.monotonic() - killed < BOUND


async def test_a_worker_that_slept_through_its_lease_adds_nothing(up: Up, client: Client, tmp_path: Path) -> None:
    run = await client.create("gated", str(tmp_path))
    await until((tmp_path / "started-1").exists, "the handler runs")
    worker = up.pids["worker"]
    os.kill(worker, signal.SIGSTOP)
    try:
        ended = await client.watch(Seen(run["id"]))  # keepalive finds the stopped peer, then the lease runs out
        assert ended.end["reason"] == "worker_lost"
    finally:
        os.kill(worker, signal.SIGCONT)
    await until((tmp_path / "cancelled").exists, "the handler is cancelled")
    (tmp_path / "go").touch()
    ended.check()
    assert ended.frames == (await client.replay(run["id"])).frames


async def test_a_blocked_event_loop_is_not_a_lost_worker(client: Client) -> None:
    run = await client.create("block", str(2 * LEASE))
    seen = await client.watch(Seen(run["id"]))
    seen.check()
    assert (seen.text, seen.attempts, seen.end["state"]) == ("before after", [1], "succeeded")


async def test_another_edge_serves_the_resume_after_a_kill(alone: Alone, session: aiohttp.ClientSession) -> None:
    alone.core(lease=LONG_LEASE), alone.worker(AGENTS)
    first, second = alone.edge(), alone.edge()
    client = Client(session, f"http://{first.address}")
    run = await client.create("slow", "x")
    seen = await client.watch(Seen(run["id"]), up_to=5)
    first.kill()
    await Client(session, f"http://{second.address}").watch(seen)
    seen.check()
    assert seen.end["state"] == "succeeded"


async def test_a_stop_cancels_nothing_and_runs_go_on_after_the_restart(
    alone: Alone, session: aiohttp.ClientSession
) -> None:
    core, _ = alone.core(lease=LONG_LEASE), alone.worker(AGENTS)
    client = Client(session, f"http://{alone.edge().address}")
    run = await client.create("slow", "x")
    watching = asyncio.create_task(client.watch(Seen(run["id"])))
    await client.watch(Seen(run["id"]), up_to=6)
    assert core.stop() == 0
    alone.core(lease=LONG_LEASE)
    seen = await watching
    seen.check()
    assert (seen.attempts, seen.end["state"]) == ([1], "succeeded")
