"""Whatever is asked of one thread at once: one run at a time holds it, in order, none left behind (promise 8)."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from core_service.domain.errors import ThreadBusy
from core_service.domain.runs import ENDED, RUNNING, SUCCEEDED
from core_service.ports import Created, RunChange
from penstock.v1.run_pb2 import BusyPolicy
from tests.store.world import TENANT, World, output

THREAD = "thr_1"
CREATES = 50
POLICIES = [policy for policy in BusyPolicy.values() if policy]


@dataclass
class OneThread:
    """Creates on one thread, and what an engine does meanwhile."""

    world: World
    started: list[str] = field(default_factory=list)
    """In the order of their starts."""
    refused: int = 0

    async def create(self, policy: BusyPolicy.ValueType) -> Created | None:
        try:
            created = await self.world.create(self.world.new_run(thread_id=THREAD, policy=policy))
        except ThreadBusy:
            self.refused += 1
            return None
        if created.started:
            self.started.append(created.run.id)
        return created

    async def turn(self) -> bool:
        """Settle what was cancelled, end what runs, promote, claim. False when there was nothing to do."""
        overdue = await self.world.store.overdue_queued(limit=100)
        for head in overdue:
            await self.world.cancelled(head)
        thread = await self.world.store.get_thread(TENANT, THREAD)
        holder = thread.active_run_id if thread is not None else ""
        if holder:
            await self._end(holder)
        promoted = await self.world.store.promote([(TENANT, THREAD)]) if thread is not None else set()
        self.started.extend(owned.run.id for owned in await self.world.claim())
        return bool(overdue or holder or promoted)

    async def _end(self, run_id: str) -> None:
        head = await self.world.head(run_id)
        if head.state == RUNNING:
            change = RunChange(state=SUCCEEDED, ended=b"", release=True)
            await self.world.append(output(run_id, fence=head.fence, expected=head.last_seq, change=change))


@pytest.mark.parametrize("seed", range(3))
async def test_random_policies_at_once_have_one_holder_at_a_time_in_order(world: World, seed: int) -> None:
    thread = OneThread(world)
    dice = random.Random(seed)
    created: list[Created | None] = []

    async def create_all() -> None:
        created.extend(await asyncio.gather(*(thread.create(dice.choice(POLICIES)) for _ in range(CREATES))))

    async with asyncio.timeout(60):
        creating = asyncio.create_task(create_all())
        while await thread.turn() or not creating.done():
            pass
        await creating
        while await thread.turn():
            pass
    made = [one.run.id for one in created if one is not None and one.steered is None]
    steered = [one.run.id for one in created if one is not None and one.steered is not None]
    assert len(made) + len(steered) + thread.refused == CREATES
    assert {head.state in ENDED for head in await world.store.heads(made)} == {True}
    assert await world.store.stuck_threads(limit=10) == []
    assert (await world.thread(THREAD)).active_run_id == ""
    rows = await world.rows("SELECT run_id, queue_pos, started FROM runs")
    assert {run_id for run_id, _, _ in rows} == set(made)
    assert sorted(thread.started) == sorted(run_id for run_id, _, started in rows if started is not None)
    places = {run_id: place for run_id, place, _ in rows}
    assert all(places[first] < places[second] for first, second in pairwise(thread.started))
    received = [run_id for run_id in made for _ in (await world.store.run_records(run_id)).inbox]
    assert sorted(received) == sorted(steered)
