"""A run has one owner. Whoever lost it cannot write to it, and what nobody holds is found (promise 4)."""

from __future__ import annotations

import asyncio

from core_service.domain.runs import WAITING
from core_service.ports import AppendOutcome, Owned, RunChange
from penstock.v1.run_pb2 import Run
from tests.store.world import TENANT, World, output, texts

WRITTEN, REFUSED = AppendOutcome.WRITTEN, AppendOutcome.REFUSED
LATER = 3_600.0


async def adopt(world: World, run: Run, *, owner: str, attempt: int = 1, session: str = "wrk_a") -> Owned | None:
    return await world.store.adopt(run.id, attempt=attempt, owner=owner, session=session)


async def lost(world: World) -> list[str]:
    return [head.run_id for head in await world.store.lost_runs(margin=0, limit=100)]


async def test_an_adopted_run_refuses_its_old_owner(world: World) -> None:
    run = await world.running()
    await world.append(output(run.id, count=4, acked=3))
    adopted = await adopt(world, run, owner="core_b")
    assert adopted is not None
    assert (adopted.fence, adopted.last_seq, adopted.acked, adopted.session) == (2, 6, 3, world.session)
    assert texts(adopted.input) == ["hello"]
    assert await world.append(output(run.id, expected=6)) == [REFUSED]
    assert await world.append(output(run.id, expected=6, fence=2)) == [WRITTEN]


async def test_only_the_worker_of_the_attempt_can_bring_a_run_along(world: World) -> None:
    run = await world.running()
    assert await adopt(world, run, owner="core_b", session="wrk_b") is None
    assert await adopt(world, run, owner="core_b", attempt=2) is None
    await world.end(run)
    assert await adopt(world, run, owner="core_b") is None


async def test_appends_race_with_takers_and_the_log_stays_whole(world: World) -> None:
    runs = [await world.running() for _ in range(30)]

    async def write(run: Run) -> int:
        """Append as the first owner until refused; return where its log ended."""
        seq = 2
        while await world.append(output(run.id, expected=seq, count=3)) == [WRITTEN]:
            seq += 3
        return seq

    async def move(run: Run, number: int) -> Owned | None:
        await wait_for_growth(world, run)
        if number % 2:
            return await adopt(world, run, owner="core_b")
        return await world.store.take(run.id, fence=1, owner="core_b")

    async with asyncio.timeout(60):
        ends, owned = await asyncio.gather(
            asyncio.gather(*map(write, runs)),
            asyncio.gather(*(move(run, number) for number, run in enumerate(runs))),
        )
    for run, end, taken in zip(runs, ends, owned, strict=True):
        assert taken is not None
        assert (taken.last_seq, taken.fence) == (end, 2)
        assert await world.log(run.id) == list(range(1, end + 1))


async def wait_for_growth(world: World, run: Run) -> None:
    while True:
        head = await world.store.head(run.id)
        assert head is not None
        if head.last_seq > 2:
            return


async def test_one_of_two_takers_is_faster(world: World) -> None:
    run = await world.running()
    takers = (world.store.take(run.id, fence=1, owner=owner) for owner in ("core_b", "core_c"))
    results = await asyncio.gather(*takers)
    assert sum(taken is not None for taken in results) == 1
    head = await world.store.head(run.id)
    assert head is not None
    assert (head.fence, head.session) == (2, None)


async def test_runs_of_a_lost_worker_are_lost_after_the_grace(sqlite_world: World) -> None:
    world = sqlite_world
    await world.store.renew_core(world.owner, address="here:1", lease=LATER)
    run = await world.running()
    assert await world.store.session_lost(world.session, owner="core_b", grace=30) == 0
    assert await world.store.session_lost(world.session, owner=world.owner, grace=30) == 1
    world.clock.forward(29)
    assert await lost(world) == []
    world.clock.forward(1)
    assert await lost(world) == [run.id]


async def test_an_adoption_ends_the_grace(world: World) -> None:
    await world.store.renew_core("core_b", address="here:1", lease=LATER)
    run = await world.running()
    await world.store.session_lost(world.session, owner=world.owner, grace=0)
    assert await lost(world) == [run.id]
    assert await adopt(world, run, owner="core_b") is not None
    assert await lost(world) == []


async def test_runs_of_a_core_without_a_lease_are_lost(world: World) -> None:
    run = await world.running()
    assert await lost(world) == [run.id]
    await world.store.renew_core(world.owner, address="here:1", lease=LATER)
    assert await lost(world) == []
    await world.store.renew_core(world.owner, address="here:1", lease=-20)
    assert await lost(world) == [run.id]
    assert await world.store.lost_runs(margin=LATER, limit=10) == []


async def test_queued_released_and_ended_runs_are_never_lost(world: World) -> None:
    released, ended = await world.running(), await world.running()
    await world.queued()
    await world.append(output(released.id, change=RunChange(state=WAITING, release=True)))
    await world.end(ended)
    assert await lost(world) == []


async def test_a_core_that_leaves_gives_its_runs_a_grace(world: World) -> None:
    await world.store.renew_core(world.owner, address="here:1", lease=LATER)
    mine = await world.running()
    world.owner = "core_b"
    await world.store.renew_core("core_b", address="here:2", lease=LATER)
    await world.running()
    await world.store.remove_core("core_a", grace=LATER)
    head = await world.store.head(mine.id)
    assert head is not None
    assert (head.owner, head.session, head.fence) == (None, world.session, 1)
    assert await lost(world) == []
    assert await adopt(world, mine, owner="core_b") is not None
    await world.store.remove_core("core_b", grace=-1)
    assert len(await lost(world)) == 2


async def test_a_start_on_sqlite_disowns_what_runs(sqlite_world: World) -> None:
    world = sqlite_world
    await world.store.renew_core(world.owner, address="here:1", lease=LATER)
    running, waiting, released = [await world.running() for _ in range(3)]
    queued = await world.queued()
    await world.append(
        output(waiting.id, change=RunChange(state=WAITING)),
        output(released.id, change=RunChange(state=WAITING, release=True)),
    )
    assert await world.store.disown_all(core_id="core_b", grace=30) == 2
    world.clock.forward(30)
    assert sorted(await lost(world)) == sorted([running.id, waiting.id])
    assert [owned.run.id for owned in await world.claim(limit=5)] == [queued.id]


async def test_a_start_on_postgresql_disowns_nothing(world: World) -> None:
    await world.running()
    disowned = await world.store.disown_all(core_id="core_b", grace=30)
    assert disowned == (1 if world.store.name == "sqlite" else 0)


async def test_a_worker_is_known_by_the_runs_it_holds(world: World) -> None:
    first, second, ended = [await world.running() for _ in range(3)]
    await world.append(output(second.id, change=RunChange(state=WAITING)))
    await world.end(ended)
    assert await world.store.held_by(world.session) == sorted([(first.id, 1), (second.id, 1)])
    assert await world.store.held_by("wrk_b") == []


async def test_heads_of_many_runs(world: World) -> None:
    runs = [await world.running() for _ in range(3)]
    heads = await world.store.heads([*(run.id for run in runs), "run_unknown"])
    assert sorted(head.run_id for head in heads) == sorted(run.id for run in runs)
    assert await world.store.heads([]) == []
    assert await world.store.head("run_unknown") is None
    assert await world.store.get_run("elsewhere", runs[0].id) is None
    assert await world.store.get_run(TENANT, runs[0].id) is not None
