"""A delayed run is nobody's business before its time; then it joins the end of its thread's queue (ENGINE.md, G6)."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from core_service.domain.errors import QueueFull
from core_service.domain.runs import QUEUED
from core_service.ports import NewRun
from penstock.v1.run_pb2 import BusyPolicy, EndReason
from tests.store.world import TENANT, World, texts

THREAD = "thr_1"
REJECT = BusyPolicy.BUSY_POLICY_REJECT


def delayed(world: World, seconds: float = 60, *, text: str = "later", **more: object) -> NewRun:
    new = world.new_run(thread_id=THREAD, texts=(text,), available_in=seconds)
    return dataclasses.replace(new, delayed=True, **more)  # type: ignore[arg-type]


async def test_a_delayed_run_neither_starts_nor_keeps_others_from_starting(world: World) -> None:
    later = await world.create(delayed(world, 1e9))
    assert (later.started, later.run.state) == (False, QUEUED)
    assert await world.claim() == []
    assert await world.store.promote([(TENANT, THREAD)]) == set()
    assert await world.store.stuck_threads(limit=10) == []
    assert await world.store.queued_count() == 0
    assert await world.store.join_due(limit=10) == []
    now = await world.create(world.new_run(thread_id=THREAD, policy=REJECT))
    assert now.started
    assert (await world.thread(THREAD)).active_run_id == now.run.id


async def test_the_messages_of_a_delayed_run_are_not_there_yet(world: World) -> None:
    await world.create(delayed(world, 1e9))
    assert await world.shown(THREAD) == []
    assert (await world.thread(THREAD)).message_count == 0
    first = await world.create(world.new_run(thread_id=THREAD))
    assert first.history == ()
    assert await world.shown(THREAD) == ["hello"]


@pytest.mark.parametrize("policy", BusyPolicy.values())
async def test_a_busy_thread_does_not_refuse_a_delayed_run(world: World, policy: BusyPolicy.ValueType) -> None:
    run, _ = await world.asking("ok", thread_id=THREAD)
    later = await world.create(delayed(world, 1e9, policy=policy))
    assert (later.started, later.superseded, later.steered) == (False, (), None)
    assert (await world.head(run.id)).cancel_reason is None


async def test_delayed_runs_count_as_waiting(world: World) -> None:
    await world.running(THREAD)
    for _ in range(2):
        await world.create(delayed(world, 1e9, max_queued_per_thread=2))
    with pytest.raises(QueueFull):
        await world.create(delayed(world, 1e9, max_queued_per_thread=2))
    with pytest.raises(QueueFull):
        await world.create(world.new_run(thread_id=THREAD, per_thread=2))
    assert (await world.create(world.new_run(thread_id="thr_2", per_thread=2))).started


async def test_a_due_run_joins_the_end_of_the_queue_with_its_messages(sqlite_world: World) -> None:
    world = sqlite_world
    late = await world.create(delayed(world, 20, text="second due"))
    soon = await world.create(delayed(world, 10, text="first due"))
    holder = await world.create(world.new_run(thread_id=THREAD, texts=("now",)))
    waiting = await world.create(world.new_run(thread_id=THREAD, texts=("next",)))
    world.clock.forward(9)
    assert await world.store.join_due(limit=10) == []
    world.clock.forward(12)
    assert await world.store.join_due(limit=10) == [(TENANT, THREAD)]
    assert await world.store.join_due(limit=10) == []
    assert await world.shown(THREAD) == ["now", "next", "first due", "second due"]
    assert (await world.thread(THREAD)).message_count == 4
    order, run, fence = [], holder.run, 1
    for _ in range(3):
        await world.end(run, fence=fence)
        await world.store.promote([(TENANT, THREAD)])
        (owned,) = await world.claim()
        run, fence = owned.run, owned.fence
        order.append((run.id, texts(owned.input), texts(owned.history)))
    assert order == [
        (waiting.run.id, ["next"], ["now"]),
        (soon.run.id, ["first due"], ["now", "next"]),
        (late.run.id, ["second due"], ["now", "next", "first due"]),
    ]


async def test_a_due_run_on_an_idle_thread_is_promoted(world: World) -> None:
    later = await world.create(delayed(world, -5))
    (joined,) = await world.store.join_due(limit=10)
    assert joined == (TENANT, THREAD)
    assert await world.store.stuck_threads(limit=10) == [joined]
    assert await world.store.promote([joined]) == {"echo"}
    (owned,) = await world.claim()
    assert (owned.run.id, texts(owned.input)) == (later.run.id, ["later"])


async def test_due_runs_join_once_however_many_sweep(world: World) -> None:
    made = [
        (
            await world.create(dataclasses.replace(delayed(world, -5), run=world.new_run(thread_id=f"thr_{n % 7}").run))
        ).run
        for n in range(21)
    ]
    async with asyncio.timeout(60):
        await asyncio.gather(*(world.store.join_due(limit=30) for _ in range(5)))
    rows = await world.rows("SELECT thread_id, queue_pos FROM runs")
    assert len(set(rows)) == len(made)
    assert sorted(await world.store.stuck_threads(limit=30)) == [(TENANT, f"thr_{n}") for n in range(7)]
    for number in range(7):
        assert (await world.thread(f"thr_{number}")).message_count == 3


async def test_a_cancelled_delayed_run_is_found_and_never_joins(world: World) -> None:
    later = await world.create(delayed(world, -5))
    await world.store.request_cancel(TENANT, later.run.id, EndReason.END_REASON_USER, request=None)
    assert await world.store.join_due(limit=10) == []
    (head,) = await world.store.overdue_queued(limit=10)
    assert head.run_id == later.run.id
    await world.cancelled(head)
    assert await world.store.overdue_queued(limit=10) == []
    assert await world.shown(THREAD) == []


async def test_the_queue_timeout_of_a_delayed_run_counts_from_its_time(sqlite_world: World) -> None:
    world = sqlite_world
    new = world.new_run(thread_id=THREAD, available_in=1_000, queue_timeout=60)
    await world.create(dataclasses.replace(new, delayed=True))
    world.clock.forward(1_100)
    assert await world.store.overdue_queued(limit=10) == []
    await world.store.promote(await world.store.join_due(limit=10))
    world.clock.forward(58)
    assert await world.store.overdue_queued(limit=10) == []
    world.clock.forward(3)
    assert len(await world.store.overdue_queued(limit=10)) == 1
