"""One run at a time per thread, in order (promise 8)."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from core_service.domain.runs import QUEUED, RUNNING, WAITING
from core_service.domain.threads import Turn, decide
from core_service.ports import Owned
from penstock.v1.run_pb2 import BusyPolicy, RunState
from tests.store.world import TENANT, World


async def test_200_concurrent_creates_on_one_thread_have_one_holder_and_run_in_order(world: World) -> None:
    news = [world.new_run(thread_id="thr_shared") for _ in range(200)]
    async with asyncio.timeout(60):
        created = await asyncio.gather(*(world.create(new) for new in news))
        started = [one.run.id for one in created if one.started]
        assert len(started) == 1
        order = [started[0]]
        await world.end(next(one.run for one in created if one.started))
        while await world.store.promote([(TENANT, "thr_shared")]):
            (owned,) = await world.claim(limit=10)
            order.append(owned.run.id)
            await world.end(owned.run, fence=owned.fence)
    assert sorted(order) == sorted(new.run.id for new in news)
    if world.store.name == "sqlite":  # on PostgreSQL eight connections decide who comes first
        assert order == [new.run.id for new in news]


async def test_turns_are_first_come_first_served(world: World) -> None:
    holder = await world.running()
    waiting = [await world.queued(holder.thread_id) for _ in range(3)]
    await world.end(holder)
    for run in waiting:
        assert await world.store.promote([(TENANT, holder.thread_id)]) == {"echo"}
        (owned,) = await world.claim()
        assert owned.run.id == run.id
        await world.end(run, fence=owned.fence)
    assert await world.store.promote([(TENANT, holder.thread_id)]) == set()


async def test_nobody_is_promoted_while_the_thread_is_held(world: World) -> None:
    holder = await world.running()
    await world.queued(holder.thread_id)
    assert await world.store.promote([(TENANT, holder.thread_id)]) == set()
    assert await world.claim() == []
    assert await world.store.stuck_threads(limit=10) == []


async def test_a_thread_with_waiting_runs_and_no_holder_is_found(world: World) -> None:
    holders = [await world.running() for _ in range(3)]
    for holder in holders:
        await world.queued(holder.thread_id)
        await world.queued(holder.thread_id)
        await world.end(holder)
    stuck = await world.store.stuck_threads(limit=10)
    assert sorted(stuck) == sorted((TENANT, holder.thread_id) for holder in holders)
    assert len(await world.store.stuck_threads(limit=2)) == 2
    for tenant, thread_id in stuck:
        assert await world.store.promote([(tenant, thread_id)])
    assert await world.store.stuck_threads(limit=10) == []


async def test_ends_promotions_and_creates_at_once_leave_no_thread_stuck(world: World) -> None:
    holders = [await world.running(f"thr_{number}") for number in range(20)]

    async def end_and_promote(number: int) -> None:
        await world.end(holders[number])
        await world.store.promote([(TENANT, f"thr_{number}")])

    async with asyncio.timeout(60):
        creates = (world.create(world.new_run(thread_id=f"thr_{number}", claim=False)) for number in range(20))
        await asyncio.gather(*itertools.chain.from_iterable(zip(creates, map(end_and_promote, range(20)), strict=True)))
        assert await world.store.stuck_threads(limit=100) == []
        claimed: list[Owned] = await world.claim(limit=100)
    assert sorted(owned.run.thread_id for owned in claimed) == sorted(f"thr_{number}" for number in range(20))


async def test_the_queue_timeout_counts_from_the_head_of_the_thread(sqlite_world: World) -> None:
    world = sqlite_world
    holder = await world.running()
    created = await world.create(world.new_run(thread_id=holder.thread_id, claim=False, queue_timeout=60))
    world.clock.forward(1_000)
    assert await world.store.overdue_queued(limit=10) == []
    await world.end(holder)
    await world.store.promote([(TENANT, holder.thread_id)])
    world.clock.forward(58)
    assert await world.store.overdue_queued(limit=10) == []
    world.clock.forward(3)
    assert [head.run_id for head in await world.store.overdue_queued(limit=10)] == [created.run.id]


@pytest.mark.parametrize("policy", BusyPolicy.values())
@pytest.mark.parametrize("holder", [None, QUEUED, RUNNING, WAITING])
def test_every_policy_has_an_answer_for_every_thread(
    policy: BusyPolicy.ValueType, holder: RunState.ValueType | None
) -> None:
    assert decide(policy, holder, waiting=0) in Turn


def test_an_idle_thread_takes_the_run_as_its_head() -> None:
    assert decide(BusyPolicy.BUSY_POLICY_REJECT, None, waiting=0) is Turn.HEAD
    assert decide(BusyPolicy.BUSY_POLICY_UNSPECIFIED, None, waiting=0) is Turn.HEAD
    assert decide(BusyPolicy.BUSY_POLICY_UNSPECIFIED, None, waiting=1) is Turn.BEHIND
    assert decide(BusyPolicy.BUSY_POLICY_REJECT, None, waiting=1) is Turn.BUSY
