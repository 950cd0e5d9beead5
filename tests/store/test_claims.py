"""Workers are given the heads of threads: by priority, then by age, each to one worker only."""

from __future__ import annotations

import asyncio

from core_service.domain.runs import QUEUED, RUNNING
from core_service.ports import RunChange
from penstock.v1.run_pb2 import EndReason
from tests.store.world import TENANT, World, output, texts

USER = EndReason.END_REASON_USER


async def test_a_claim_starts_the_run(world: World) -> None:
    queued = await world.queued()
    (owned,) = await world.claim()
    assert owned.run.id == queued.id
    assert (owned.run.state, owned.run.attempt, owned.run.agent_version) == (RUNNING, 1, "v7")
    assert (owned.fence, owned.last_seq, owned.acked, owned.max_attempts) == (2, 2, 0, 3)
    assert (owned.session, texts(owned.input), owned.history) == (world.session, ["hello"], ())
    assert await world.store.get_run(TENANT, queued.id) == owned.run
    assert await world.log(queued.id) == [1, 2]
    assert await world.claim() == []


async def test_claims_go_by_priority_then_by_age(world: World) -> None:
    low, first, second, high = [await world.queued(priority=priority) for priority in (-5, 0, 0, 100)]
    claimed = [owned.run.id for owned in await world.claim(limit=3)]
    assert claimed == [high.id, first.id, second.id]
    assert [owned.run.id for owned in await world.claim(limit=3)] == [low.id]


async def test_every_eighth_claim_goes_by_age_alone(world: World) -> None:
    old = await world.queued(priority=-100)
    for _ in range(10):
        await world.queued(priority=50)
    claimed = [(await world.claim())[0].run.id for _ in range(8)]
    assert claimed.index(old.id) == 7


async def test_an_old_thread_does_not_wait_behind_new_ones(world: World) -> None:
    for _ in range(5):
        run = await world.running("thr_old")
        await world.end(run)
    expected = [(await world.queued("thr_old")).id, (await world.queued()).id]
    assert [owned.run.id for owned in await world.claim(limit=2)] == expected


async def test_runs_behind_a_busy_thread_are_not_claimed(world: World) -> None:
    holder = await world.running()
    for _ in range(3):
        await world.queued(holder.thread_id)
    free = await world.queued()
    assert [owned.run.id for owned in await world.claim(limit=10)] == [free.id]


async def test_a_cancelled_run_is_not_claimed_but_found_by_the_sweep(world: World) -> None:
    run = await world.queued()
    assert await world.store.overdue_queued(limit=10) == []
    head = await world.store.request_cancel(TENANT, run.id, USER, request=None)
    assert head is not None
    assert head.cancel_reason == USER
    assert await world.claim() == []
    assert [found.run_id for found in await world.store.overdue_queued(limit=10)] == [run.id]


async def test_claims_are_of_one_tenant_and_one_agent(world: World) -> None:
    await world.queued(tenant="a")
    await world.queued(agent_id="other")
    assert await world.claim() == []
    assert len(await world.claim(tenant="a")) == 1


async def test_concurrent_claims_share_the_runs_out(world: World) -> None:
    queued = [await world.queued() for _ in range(60)]
    async with asyncio.timeout(30):
        groups = await asyncio.gather(*(world.claim(limit=5) for _ in range(30)))
        rest = await world.claim(limit=100)  # a claim passes over what another one is just taking
    claimed = [owned.run.id for group in [*groups, rest] for owned in group]
    assert sorted(claimed) == sorted(run.id for run in queued)


async def test_waiting_tenants_come_in_turn(world: World) -> None:
    for tenant in ("b", "a", "c", "a"):
        await world.queued(tenant=tenant)
    assert await world.store.waiting_tenants("echo", after="", limit=2) == ["a", "b"]
    assert await world.store.waiting_tenants("echo", after="b", limit=2) == ["c"]
    assert await world.store.waiting_tenants("other", after="", limit=2) == []


async def test_a_retry_waits_for_its_time(sqlite_world: World) -> None:
    world = sqlite_world
    run = await world.running()
    change = RunChange(state=QUEUED, available_time=world.clock.now() + 5_000_000, release=True)
    await world.append(output(run.id, change=change))
    assert await world.claim() == []
    world.clock.forward(5)
    assert [owned.run.id for owned in await world.claim()] == [run.id]


async def test_queued_heads_are_counted_over_all_tenants(world: World) -> None:
    holder = await world.running()
    await world.queued(holder.thread_id)
    await world.queued()
    await world.queued(tenant="elsewhere")
    assert await world.store.queued_count() == 2


async def test_a_cancel_is_noted_once(world: World) -> None:
    run = await world.running()
    first = await world.store.request_cancel(TENANT, run.id, USER, request=None)
    again = await world.store.request_cancel(TENANT, run.id, EndReason.END_REASON_PARENT, request=None)
    assert first is not None
    assert (first.cancel_reason, first.owner, first.fence) == (USER, world.owner, 1)
    assert again == first
    stored = await world.store.get_run(TENANT, run.id)
    assert stored is not None
    assert stored.cancel_requested


async def test_an_ended_or_foreign_run_is_not_cancelled(world: World) -> None:
    run = await world.running()
    assert await world.store.request_cancel("elsewhere", run.id, USER, request=None) is None
    await world.end(run)
    head = await world.store.request_cancel(TENANT, run.id, USER, request=None)
    assert head is not None
    assert (head.cancel_reason, head.cancel_time) == (None, None)
