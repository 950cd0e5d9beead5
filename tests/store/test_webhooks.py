"""The outbox of webhooks: filled by the ends of runs, and emptied by whoever claims first."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from sqlalchemy import select

from core_service.adapters.sql.schema import webhooks
from core_service.adapters.sql.statements import text
from core_service.adapters.sql.webhooks import DELIVERED, GIVEN_UP, TO_DELIVER
from core_service.adapters.store_sql import SqlStore
from core_service.ports import Delivery
from penstock.v1.run_pb2 import Run
from tests.store.world import TENANT, World

URL = "https://example.com/hook"


async def ended_run(world: World, url: str = URL) -> Run:
    """A run whose end is to be told."""
    run = await world.running()
    ending = world.ending(run)
    assert ending.change is not None
    await world.append(replace(ending, change=replace(ending.change, webhook_url=url)))
    return run


async def claimed(world: World, *, limit: int = 10, lease: float = 60.0) -> list[Delivery]:
    return list(await world.store.webhooks.claim(limit=limit, lease=lease))


async def stored(world: World, delivery: Delivery) -> tuple[int, int, str, bool]:
    """State, attempts, last error, and whether there is a time of delivery."""
    assert isinstance(world.store, SqlStore)
    c = webhooks.c
    statement = select(c.state, c.attempts, c.last_error, c.delivered).where(c.delivery_id == text("id"))
    row = await world.store._database.read(lambda tx: tx.one(statement, id=delivery.delivery_id))
    return row[0], row[1], row[2], row[3] is not None


async def test_end_with_a_webhook_is_due_at_once_and_one_without_never(world: World) -> None:
    run = await ended_run(world)
    await ended_run(world, "")
    [delivery] = await claimed(world)
    assert delivery == Delivery(delivery.delivery_id, TENANT, run.id, URL, 1)
    assert "." not in delivery.delivery_id, "the signature joins it by full stops"


async def test_claimed_delivery_is_nobody_elses_until_its_lease_is_over(world: World) -> None:
    await ended_run(world)
    [delivery] = await claimed(world, lease=0.0)
    assert await claimed(world, lease=60.0) == [replace(delivery, attempt=2)]
    assert await claimed(world) == []


async def test_cores_that_claim_at_once_get_each_delivery_once(world: World) -> None:
    runs = [await ended_run(world) for _ in range(12)]
    async with asyncio.timeout(30):
        parts = await asyncio.gather(*(claimed(world, limit=3) for _ in range(6)))
    taken = [delivery.run_id for part in parts for delivery in part]
    taken += [delivery.run_id for delivery in await claimed(world, limit=12)]
    assert sorted(taken) == sorted(run.id for run in runs)


async def test_delivered_is_done_for_good(world: World) -> None:
    await ended_run(world)
    [delivery] = await claimed(world, lease=0.0)
    await world.store.webhooks.delivered(delivery)
    assert await stored(world, delivery) == (DELIVERED, 1, "", True)
    assert await claimed(world) == []
    await world.store.webhooks.failed(delivery, "late", retry_in=0.0)
    assert (await stored(world, delivery))[0] == DELIVERED


async def test_failure_is_due_again_after_its_pause(world: World) -> None:
    await ended_run(world)
    [delivery] = await claimed(world)
    await world.store.webhooks.failed(delivery, "no answer\0" + "x" * 1_000, retry_in=60.0)
    state, attempts, error, _ = await stored(world, delivery)
    assert (state, attempts, error) == (TO_DELIVER, 1, "no answer" + "x" * 291)
    assert await claimed(world) == []
    await world.store.webhooks.failed(delivery, "again", retry_in=0.0)
    assert await claimed(world) == [replace(delivery, attempt=2)]


async def test_given_up_is_never_due_again(world: World) -> None:
    await ended_run(world)
    [delivery] = await claimed(world, lease=0.0)
    await world.store.webhooks.failed(delivery, "gone", retry_in=None)
    assert await stored(world, delivery) == (GIVEN_UP, 1, "gone", False)
    world.clock.forward(1)
    assert await claimed(world) == []


async def test_note_of_an_attempt_that_was_overtaken_changes_nothing(world: World) -> None:
    await ended_run(world)
    [slow] = await claimed(world, lease=0.0)
    [fast] = await claimed(world, lease=60.0)
    assert fast.attempt == 2
    await world.store.webhooks.failed(slow, "slow", retry_in=None)
    await world.store.webhooks.delivered(slow)
    assert await stored(world, slow) == (TO_DELIVER, 2, "", False)
    await world.store.webhooks.delivered(fast)
    assert (await stored(world, fast))[0] == DELIVERED


async def test_longest_due_comes_first(sqlite_world: World) -> None:
    world = sqlite_world
    runs = []
    for _ in range(3):
        runs.append(await ended_run(world))
        world.clock.forward(1)
    found = [(await claimed(world, limit=1))[0].run_id for _ in runs]
    assert found == [run.id for run in runs]
