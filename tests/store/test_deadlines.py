"""RUNNING time is counted down while a run runs, and kept while it does not; so is the state from before the run."""

from __future__ import annotations

import dataclasses

from core_service.domain.runs import QUEUED, RUNNING, WAITING
from core_service.ports import NewRun, Owned, RunChange
from penstock.v1.run_pb2 import Run
from penstock.v1.thread_pb2 import Thread
from tests.store.world import START, TENANT, World, output

MINUTE = 60_000_000


def limited(world: World, *, claim: bool = True, thread_id: str = "") -> NewRun:
    return dataclasses.replace(world.new_run(claim=claim, thread_id=thread_id), run_left=MINUTE)


async def taken(world: World, run: Run) -> Owned:
    head = await world.head(run.id)
    owned = await world.store.take(run.id, fence=head.fence, owner=world.owner)
    assert owned is not None
    return owned


async def with_state(world: World, state_json: str) -> str:
    thread = Thread(id="thr_state", state_json=state_json)
    thread.create_time.FromMicroseconds(START)
    return (await world.store.create_thread(TENANT, thread, request=None)).id


# ── running time ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_run_that_starts_at_once_has_its_deadline(sqlite_world: World) -> None:
    world = sqlite_world
    created = await world.create(limited(world))
    assert created.deadline == world.clock.now() + MINUTE
    owned = await taken(world, created.run)
    assert (owned.run_left, owned.deadline) == (None, created.deadline)


async def test_a_claimed_run_has_its_deadline(sqlite_world: World) -> None:
    world = sqlite_world
    created = await world.create(limited(world, claim=False))
    assert created.deadline is None
    queued = await taken(world, created.run)
    assert (queued.run_left, queued.deadline) == (MINUTE, None)
    world.clock.forward(10)
    (owned,) = await world.claim()
    assert (owned.run_left, owned.deadline) == (None, world.clock.now() + MINUTE)


async def test_a_run_without_a_limit_has_neither(world: World) -> None:
    run = await world.running()
    owned = await taken(world, run)
    assert (owned.run_left, owned.deadline) == (None, None)
    change = RunChange(state=QUEUED, failures=1, release=True)
    await world.append(output(run.id, fence=2, change=change))
    (owned,) = await world.claim()
    assert (owned.run_left, owned.deadline) == (None, None)


async def test_a_pause_keeps_the_time_that_is_left(world: World) -> None:
    created = await world.create(limited(world))
    run = created.run
    await world.append(output(run.id, change=RunChange(state=WAITING, run_left=MINUTE // 2)))
    owned = await taken(world, run)
    assert (owned.run_left, owned.deadline) == (MINUTE // 2, None)
    await world.append(output(run.id, expected=3, fence=2, change=RunChange(state=RUNNING, deadline=START + MINUTE)))
    owned = await taken(world, run)
    assert (owned.run_left, owned.deadline) == (None, START + MINUTE)
    await world.append(output(run.id, expected=4, fence=3, change=RunChange(state=RUNNING, leg=1)))
    owned = await taken(world, run)
    assert (owned.run_left, owned.deadline) == (None, START + MINUTE)


async def test_a_retry_gets_what_the_attempt_before_left(sqlite_world: World) -> None:
    world = sqlite_world
    run = (await world.create(limited(world))).run
    await world.append(output(run.id, change=RunChange(state=QUEUED, run_left=7, failures=1, release=True)))
    (owned,) = await world.claim()
    assert (owned.run.attempt, owned.run_left, owned.deadline) == (2, None, world.clock.now() + 7)


# ── the state before the run ─────────────────────────────────────────────────────────────────────────────────────────


async def test_a_run_keeps_the_state_that_it_first_started_with(world: World) -> None:
    thread_id = await with_state(world, '{"n":0}')
    created = await world.create(world.new_run(thread_id=thread_id))
    assert (created.started, created.state_json, created.state_version) == (True, '{"n":0}', 1)
    run = created.run
    await world.append(output(run.id, change=RunChange(state=WAITING, state_json='{"n":1}', state_version=2)))
    thread = await world.thread(thread_id)
    assert (thread.state_json, thread.state_version) == ('{"n":1}', 2)
    adopted = await world.store.adopt(run.id, attempt=1, owner="core_b", session=world.session)
    assert adopted is not None
    assert (adopted.state_json, adopted.state_version) == ('{"n":0}', 1)
    await world.append(output(run.id, expected=3, fence=2, change=RunChange(state=QUEUED, release=True)))
    (claimed,) = await world.claim()
    assert (claimed.run.attempt, claimed.state_json, claimed.state_version) == (2, '{"n":0}', 1)


async def test_a_claim_takes_the_state_as_it_is_then(world: World) -> None:
    thread_id = await with_state(world, '{"n":0}')
    first = await world.create(world.new_run(thread_id=thread_id))
    await world.queued(thread_id)
    end = world.ending(first.run, "done")
    assert end.change is not None
    change = dataclasses.replace(end.change, state_json='{"n":1}', state_version=2)
    await world.append(dataclasses.replace(end, change=change))
    await world.store.promote([(TENANT, thread_id)])
    (claimed,) = await world.claim()
    assert (claimed.state_json, claimed.state_version) == ('{"n":1}', 2)


async def test_a_state_that_was_never_set_is_empty(world: World) -> None:
    created = await world.create(world.new_run())
    owned = await taken(world, created.run)
    assert (created.state_json, created.state_version, owned.state_json, owned.state_version) == ("", 0, "", 0)
