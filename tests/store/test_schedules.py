"""Schedules: kept, listed, paused, and one run for each due time."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from core_service.domain.errors import DueTimePassed, IdempotencyMismatch, ScheduleNotFound, ThreadBusy
from core_service.domain.ids import new_id
from core_service.ports import Created, DueSchedule, DueTime, NewRun, Page, RequestKey, ScheduleStore
from penstock.v1.run_pb2 import BusyPolicy
from penstock.v1.schedule_pb2 import Schedule
from tests.store.world import TENANT, World

MINUTE = 60_000_000


def new_schedule(created: int = 1_000_000, **fields: object) -> Schedule:
    schedule = Schedule(id=new_id("sch"), cron="* * * * *", agent_id="echo")
    schedule.MergeFrom(Schedule(**fields))  # type: ignore[arg-type]
    schedule.create_time.FromMicroseconds(created)
    return schedule


async def due_schedule(store: ScheduleStore) -> DueSchedule:
    """A schedule that has been due for a minute."""
    await store.create(TENANT, new_schedule(), next_time=await store.now() - MINUTE, request=None)
    [due] = await store.due(limit=10)
    return due


def made_by(
    world: World,
    due: DueSchedule,
    *,
    following: int | None = None,
    thread_id: str = "",
    policy: BusyPolicy.ValueType = BusyPolicy.BUSY_POLICY_ENQUEUE,
) -> NewRun:
    """The run that a due time makes."""
    new = world.new_run(thread_id=thread_id, policy=policy)
    return replace(new, due=DueTime(due.schedule.id, due.time, following))


async def test_stored_schedule_is_found_again(world: World) -> None:
    store = world.store.schedules
    schedule = new_schedule(name="daily", metadata={"a": "b"})
    created = await store.create(TENANT, schedule, next_time=5_000_000, request=None)
    schedule.next_time.FromSeconds(5)
    assert created == schedule
    assert await store.get(TENANT, schedule.id) == schedule
    assert await store.get("somebody else", schedule.id) is None
    assert await store.get(TENANT, "sch_none") is None


async def test_repeated_create_returns_the_first_schedule(world: World) -> None:
    store = world.store.schedules
    key = RequestKey("create_schedule", "k", b"fingerprint")
    first = await store.create(TENANT, new_schedule(), next_time=1, request=key)
    assert await store.create(TENANT, new_schedule(), next_time=2, request=key) == first
    with pytest.raises(IdempotencyMismatch):
        await store.create(
            TENANT, new_schedule(), next_time=1, request=RequestKey("create_schedule", "k", b"another one")
        )
    assert await store.delete(TENANT, first.id)
    with pytest.raises(ScheduleNotFound):
        await store.create(TENANT, new_schedule(), next_time=1, request=key)


async def test_schedules_are_listed_newest_first_by_agent_and_tenant(world: World) -> None:
    store = world.store.schedules
    made = [new_schedule(number // 2, agent_id=f"agent{number % 2}") for number in range(6)]
    for schedule in made:
        await store.create(TENANT, schedule, next_time=None, request=None)
    await store.create("somebody else", new_schedule(), next_time=None, request=None)
    ids = [schedule.id for schedule in sorted(made, key=lambda one: (one.create_time.ToMicroseconds(), one.id))][::-1]
    found = await store.page(TENANT, agent_id="", page=Page(4))
    assert [schedule.id for schedule in found] == ids[:4]
    last = found[-1]
    rest = await store.page(TENANT, agent_id="", page=Page(4, (last.create_time.ToMicroseconds(), last.id)))
    assert [schedule.id for schedule in rest] == ids[4:]
    of_agent = await store.page(TENANT, agent_id="agent1", page=Page(10))
    assert [schedule.id for schedule in of_agent] == [one.id for one in made[::-1] if one.agent_id == "agent1"]


async def test_only_what_is_due_is_found_longest_due_first(world: World) -> None:
    store = world.store.schedules
    now = await store.now()
    late, later, ahead, never = (new_schedule() for _ in range(4))
    for schedule, time in ((later, now - 1), (late, now - MINUTE), (ahead, now + MINUTE), (never, None)):
        await store.create(TENANT, schedule, next_time=time, request=None)
    found = await store.due(limit=10)
    assert [(due.tenant, due.schedule.id, due.time) for due in found] == [
        (TENANT, late.id, now - MINUTE),
        (TENANT, later.id, now - 1),
    ]
    assert all(due.now >= now for due in found)
    assert [due.schedule.id for due in await store.due(limit=1)] == [late.id]


async def test_run_and_the_next_time_are_stored_together(world: World) -> None:
    store = world.store.schedules
    due = await due_schedule(store)
    created = await world.create(made_by(world, due, following=due.now + MINUTE))
    assert list(await store.due(limit=10)) == []
    schedule = await store.get(TENANT, due.schedule.id)
    assert schedule is not None
    assert (schedule.last_run_id, schedule.last_refusal) == (created.run.id, "")
    assert schedule.last_time.ToMicroseconds() == due.time
    assert schedule.next_time.ToMicroseconds() == due.now + MINUTE


async def test_create_that_is_refused_leaves_its_time_due(world: World) -> None:
    store = world.store.schedules
    due = await due_schedule(store)
    await world.running("busy")
    new = made_by(world, due, thread_id="busy", policy=BusyPolicy.BUSY_POLICY_REJECT)
    with pytest.raises(ThreadBusy):
        await world.create(new)
    assert [again.time for again in await store.due(limit=10)] == [due.time]


async def test_due_time_makes_one_run(world: World) -> None:
    store = world.store.schedules
    due = await due_schedule(store)
    created = await world.create(made_by(world, due, following=due.time + 3 * MINUTE))
    with pytest.raises(DueTimePassed):
        await world.create(made_by(world, due, following=due.time + 5 * MINUTE))
    assert not await store.refuse(DueTime(due.schedule.id, due.time, None), "THREAD_BUSY")
    schedule = await store.get(TENANT, due.schedule.id)
    assert schedule is not None
    assert (schedule.last_run_id, schedule.last_refusal) == (created.run.id, "")
    assert schedule.next_time.ToMicroseconds() == due.time + 3 * MINUTE
    assert await world.rows("SELECT count(*) FROM runs") == [(1,)]


async def test_many_cores_at_once_make_one_run(world: World) -> None:
    store = world.store.schedules
    due = await due_schedule(store)
    creates = [world.create(made_by(world, due, following=due.now + n * MINUTE)) for n in range(1, 7)]
    async with asyncio.timeout(30):
        outcomes = await asyncio.gather(*creates, return_exceptions=True)
    [created] = [outcome for outcome in outcomes if isinstance(outcome, Created)]
    assert sum(isinstance(outcome, DueTimePassed) for outcome in outcomes) == 5
    schedule = await store.get(TENANT, due.schedule.id)
    assert schedule is not None
    assert schedule.last_run_id == created.run.id
    assert await world.rows("SELECT count(*) FROM runs") == [(1,)]


async def test_message_that_is_handed_to_the_active_run_names_that_run(world: World) -> None:
    store = world.store.schedules
    due = await due_schedule(store)
    active = await world.running("busy")
    created = await world.create(made_by(world, due, thread_id="busy", policy=BusyPolicy.BUSY_POLICY_STEER))
    assert created.steered is not None
    schedule = await store.get(TENANT, due.schedule.id)
    assert schedule is not None
    assert schedule.last_run_id == active.id


async def test_refusal_replaces_the_last_run(world: World) -> None:
    store = world.store.schedules
    due = await due_schedule(store)
    await world.create(made_by(world, due, following=due.time + 1))
    [again] = await store.due(limit=10)
    assert await store.refuse(DueTime(again.schedule.id, again.time, None), "QUEUE_FULL")
    schedule = await store.get(TENANT, due.schedule.id)
    assert schedule is not None
    assert (schedule.last_run_id, schedule.last_refusal) == ("", "QUEUE_FULL")
    assert not schedule.HasField("next_time")


async def test_paused_schedule_is_not_due_and_continues_from_when_it_is_resumed(world: World) -> None:
    store = world.store.schedules
    due = await due_schedule(store)
    schedule_id = due.schedule.id
    await store.pause("somebody else", schedule_id)
    assert len(await store.due(limit=10)) == 1
    await store.pause(TENANT, schedule_id)
    assert list(await store.due(limit=10)) == []
    paused = await store.get(TENANT, schedule_id)
    assert paused is not None
    assert paused.paused
    assert not paused.HasField("next_time")
    await store.resume(TENANT, schedule_id, next_time=7)
    await store.resume(TENANT, schedule_id, next_time=due.now + MINUTE)
    resumed = await store.get(TENANT, schedule_id)
    assert resumed is not None
    assert (resumed.paused, resumed.next_time.ToMicroseconds()) == (False, 7)


async def test_schedule_that_was_paused_or_deleted_since_makes_no_run(world: World) -> None:
    store = world.store.schedules
    due = await due_schedule(store)
    await store.pause(TENANT, due.schedule.id)
    with pytest.raises(DueTimePassed):
        await world.create(made_by(world, due))
    assert await store.delete(TENANT, due.schedule.id)
    with pytest.raises(DueTimePassed):
        await world.create(made_by(world, due))
    assert await world.rows("SELECT count(*) FROM runs") == [(0,)]


async def test_deleted_schedule_is_gone_and_stays_gone(world: World) -> None:
    store = world.store.schedules
    due = await due_schedule(store)
    assert not await store.delete("somebody else", due.schedule.id)
    assert await store.delete(TENANT, due.schedule.id)
    assert not await store.delete(TENANT, due.schedule.id)
    assert not await store.refuse(DueTime(due.schedule.id, due.time, due.time + 1), "QUEUE_FULL")
    assert await store.get(TENANT, due.schedule.id) is None
    assert list(await store.due(limit=10)) == []
