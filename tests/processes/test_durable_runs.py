"""Steps and questions over `kill -9` of real processes: nothing done twice, nothing said twice (ENGINE.md 4)."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import aiohttp

from tests.processes.alone import Alone
from tests.processes.conftest import AGENTS, LEASE
from tests.processes.sse import Client, Seen
from tests.processes.test_crashes import until


async def test_a_worker_that_is_killed_in_its_third_step_has_done_the_first_two_once(
    alone: Alone, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    alone.core(lease=LEASE)
    worker = alone.worker(AGENTS)
    client = Client(session, f"http://{alone.edge().address}")
    run = await client.create("errands", str(tmp_path), options={"retry_policy": "always"})
    watching = asyncio.create_task(client.watch(Seen(run["id"])))
    await until((tmp_path / "third").exists, "the third step runs")
    worker.kill()
    (tmp_path / "third").unlink()
    alone.worker(AGENTS)
    await until((tmp_path / "third").exists, "the third step runs again")
    (tmp_path / "go").touch()
    seen = await watching
    seen.check()
    assert seen.attempts == [1, 2]
    assert seen.end["state"] == "succeeded"
    assert Counter((tmp_path / "effects").read_text().split()) == {"one": 1, "two": 1, "three": 1}
    retracted = {ordinal for frame in seen.frames for ordinal in frame.data.get("retracted_ordinals", [])}
    kept = "".join(
        frame.data["text"]
        for frame in seen.frames
        if frame.event == "part.delta" and frame.data["kind"] == "text" and frame.data["part"] not in retracted
    )
    assert kept == "one: doing did one two: doing did two three: doing did three all done"


async def test_a_step_that_was_recorded_leaves_nothing_to_take_back(
    alone: Alone, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """With the default policy: what was said lies before or inside of recorded steps, so the run is tried again."""
    core = alone.core(lease=20.0)
    alone.worker(AGENTS)
    client = Client(session, f"http://{alone.edge().address}")
    run = await client.create("errands", str(tmp_path))
    watching = asyncio.create_task(client.watch(Seen(run["id"])))
    await until((tmp_path / "third").exists, "the third step runs")
    core.kill()
    alone.core(lease=20.0)
    (tmp_path / "go").touch()
    seen = await watching
    seen.check()
    assert (seen.attempts, seen.end["state"]) == ([1], "succeeded")
    assert seen.text == "one: doing did one two: doing did two three: doing did three all done"


async def test_questions_are_answered_after_core_and_worker_were_killed(
    alone: Alone, session: aiohttp.ClientSession
) -> None:
    core, worker = alone.core(lease=LEASE), alone.worker(AGENTS)
    client = Client(session, f"http://{alone.edge().address}")
    run = await client.create("asker", "x")
    watching = asyncio.create_task(client.watch(Seen(run["id"])))
    questions = await asked(client, run["id"], count=2)
    core.kill()
    worker.kill()
    alone.core(lease=LEASE)
    assert await asked(client, run["id"], count=2) == questions
    await client.answer(run["id"], questions["First?"], "yes")
    alone.worker(AGENTS)
    await client.answer(run["id"], questions["Second?"], "no")
    seen = await watching
    seen.check()
    assert (seen.text, seen.end["state"]) == ("Two questions. yes, no.", "succeeded")
    resolved = [frame.data["input_id"] for frame in seen.frames if frame.event == "input.resolved"]
    assert sorted(resolved) == sorted(questions.values())
    assert seen.frames == (await client.replay(run["id"])).frames


async def asked(client: Client, run_id: str, *, count: int) -> dict[str, str]:
    """The ids of the run's open questions by what they ask, once there are so many."""
    async with asyncio.timeout(20.0):
        while len(found := await client.open_inputs(run_id)) < count:
            await asyncio.sleep(0.02)
    return found
