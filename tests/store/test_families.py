"""Runs call runs, and some live only while they are watched; nobody is left behind."""

from __future__ import annotations

import dataclasses

import pytest

from core_service.domain.errors import DepthExceeded, RunHasEnded, RunNotFound
from core_service.ports import NewRun, RequestKey
from penstock.v1.run_pb2 import EndReason, Run
from tests.store.world import TENANT, World

PARENT = EndReason.END_REASON_PARENT
SECOND = 1_000_000


def child_of(world: World, parent: str, *, max_depth: int = 5, request: RequestKey | None = None) -> NewRun:
    new = world.new_run(request=request)
    new.run.parent_run_id, new.run.parent_call_id = parent, "call_1"
    return dataclasses.replace(new, max_depth=max_depth)


async def test_a_child_knows_its_parent_and_its_depth(world: World) -> None:
    parent = await world.running()
    new = child_of(world, parent.id)
    child = (await world.create(new)).run
    grandchild = (await world.create(child_of(world, child.id))).run
    assert (child.parent_run_id, child.parent_call_id, child.depth) == (parent.id, "call_1", 1)
    assert (grandchild.parent_run_id, grandchild.depth) == (child.id, 2)
    assert await world.store.get_run(TENANT, child.id) == child
    assert new.run.depth == 0
    assert [head.run_id for head in await world.store.children(parent.id)] == [child.id]
    assert [head.run_id for head in await world.store.children(child.id)] == [grandchild.id]


async def test_a_child_that_is_too_deep_is_refused(world: World) -> None:
    parent = await world.running()
    child = (await world.create(child_of(world, parent.id, max_depth=1))).run
    with pytest.raises(DepthExceeded) as caught:
        await world.create(child_of(world, child.id, max_depth=1))
    assert caught.value.metadata == {"max_depth": "1"}


async def test_only_an_active_run_of_the_tenant_has_children(world: World) -> None:
    ended = await world.running()
    request = RequestKey("create", "child", b"")
    child = (await world.create(child_of(world, ended.id, request=request))).run
    await world.end(ended)
    with pytest.raises(RunHasEnded) as caught:
        await world.create(child_of(world, ended.id))
    assert caught.value.metadata == {"run_id": ended.id}
    again = await world.create(child_of(world, ended.id, request=request))
    assert (again.repeated, again.run.id) == (True, child.id)
    with pytest.raises(RunNotFound):
        await world.create(child_of(world, "run_unknown"))
    parent = await world.running()
    with pytest.raises(RunNotFound):
        await world.create(dataclasses.replace(child_of(world, parent.id), tenant="elsewhere"))


async def test_children_are_the_active_ones(world: World) -> None:
    parent = await world.running()
    ended, active = [(await world.create(child_of(world, parent.id))).run for _ in range(2)]
    await world.end(ended)
    assert await world.store.children(parent.id) == [await world.head(active.id)]


async def test_orphans_are_found_until_their_cancel_is_noted(world: World) -> None:
    parent, other = await world.running(), await world.running()
    orphans = [(await world.create(child_of(world, parent.id))).run for _ in range(3)]
    await world.create(child_of(world, other.id))
    assert await world.store.orphans(limit=10) == []
    await world.end(parent)
    found = await world.store.orphans(limit=10)
    assert sorted(head.run_id for head in found) == sorted(run.id for run in orphans)
    assert len(await world.store.orphans(limit=2)) == 2
    await world.store.request_cancel(TENANT, orphans[0].id, PARENT, request=None)
    await world.end(orphans[1])
    assert [head.run_id for head in await world.store.orphans(limit=10)] == [orphans[2].id]


# ── watchers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def watched(world: World, seconds: int | None) -> Run:
    grace = None if seconds is None else seconds * SECOND
    created = await world.create(dataclasses.replace(world.new_run(), disconnect_grace=grace))
    assert (await world.head(created.run.id)).disconnect_grace == grace
    return created.run


async def unwatched(world: World) -> list[str]:
    return [head.run_id for head in await world.store.unwatched(limit=10)]


async def test_a_run_that_nobody_watches_for_its_grace_is_found(sqlite_world: World) -> None:
    world = sqlite_world
    kept, left, forever = await watched(world, 30), await watched(world, 30), await watched(world, None)
    world.clock.forward(29)
    assert await unwatched(world) == []
    await world.store.keep_watched([kept.id, forever.id, "run_unknown"])
    world.clock.forward(1)
    assert await unwatched(world) == [left.id]
    world.clock.forward(29)
    assert await unwatched(world) == [left.id, kept.id]
    await world.store.request_cancel(TENANT, left.id, EndReason.END_REASON_DISCONNECTED, request=None)
    await world.end(kept)
    world.clock.forward(1_000)
    assert await unwatched(world) == []


async def test_watches_are_kept_by_the_databases_clock(world: World) -> None:
    gone = await watched(world, -5)
    assert await unwatched(world) == [gone.id]
    await world.store.keep_watched([gone.id])
    assert await unwatched(world) == [gone.id]
    fresh = await watched(world, 3_600)
    await world.store.keep_watched([fresh.id])
    await world.store.keep_watched([])
    assert await unwatched(world) == [gone.id]
