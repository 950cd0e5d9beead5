"""Lists page by key: nothing twice, nothing left out, newest first."""

from __future__ import annotations

import pytest

from core_service.domain.errors import IdempotencyMismatch, ThreadExists
from core_service.domain.runs import QUEUED, RUNNING, SUCCEEDED
from core_service.ports import Page, RequestKey, RunFilter
from penstock.v1.agent_pb2 import Agent, Skill
from penstock.v1.run_pb2 import Run
from penstock.v1.thread_pb2 import Thread
from tests.store.world import START, TENANT, World


def micros(message: Run | Thread) -> int:
    return message.create_time.ToMicroseconds()


async def all_runs(world: World, which: RunFilter, size: int) -> list[str]:
    found: list[Run] = []
    after: tuple[int, str] | None = None
    while page := await world.store.list_runs(TENANT, which, Page(size, after)):
        assert len(page) <= size
        found += page
        after = (micros(page[-1]), page[-1].id)
    return [run.id for run in found]


def thread(thread_id: str, created: int = START, **fields: str) -> Thread:
    made = Thread(id=thread_id, state_json=fields.pop("state_json", ""), metadata=fields)
    made.create_time.FromMicroseconds(created)
    return made


@pytest.mark.parametrize("size", [1, 3, 7, 100])
async def test_pages_of_runs_join_without_gap_or_repeat(world: World, size: int) -> None:
    runs = [await world.running() for _ in range(7)]
    await world.queued(tenant="elsewhere")
    assert await all_runs(world, RunFilter(), size) == [run.id for run in reversed(runs)]


async def test_runs_created_in_the_same_instant_are_paged_by_id(world: World) -> None:
    ids = []
    for _ in range(5):
        world._created = 1
        ids.append((await world.running()).id)
    assert await all_runs(world, RunFilter(), 2) == sorted(ids, reverse=True)


async def test_runs_are_filtered(world: World) -> None:
    ended = await world.running("thr_1")
    await world.end(ended)
    running = await world.running("thr_1")
    queued = await world.queued("thr_2", agent_id="other")

    async def ids(which: RunFilter) -> list[str]:
        return await all_runs(world, which, 10)

    assert await ids(RunFilter(thread_id="thr_1")) == [running.id, ended.id]
    assert await ids(RunFilter(agent_id="other")) == [queued.id]
    assert await ids(RunFilter(agent_id="other", thread_id="thr_1")) == []
    assert await ids(RunFilter(states=(SUCCEEDED, QUEUED))) == [queued.id, ended.id]
    assert await ids(RunFilter(states=(RUNNING,), thread_id="thr_1")) == [running.id]
    assert await ids(RunFilter(created_since=micros(running))) == [queued.id, running.id]
    assert await ids(RunFilter(created_before=micros(running))) == [ended.id]


async def test_threads_are_created_once(world: World) -> None:
    made = await world.store.create_thread(TENANT, thread("thr_1", topic="x", state_json="{}"), request=None)
    assert (made.id, dict(made.metadata), made.state_json, made.state_version) == ("thr_1", {"topic": "x"}, "{}", 1)
    assert made == await world.store.get_thread(TENANT, "thr_1")
    with pytest.raises(ThreadExists):
        await world.store.create_thread(TENANT, thread("thr_1"), request=None)
    assert await world.store.get_thread("elsewhere", "thr_1") is None
    assert (await world.store.create_thread("elsewhere", thread("thr_1"), request=None)).state_json == ""


async def test_a_repeated_create_of_a_thread_returns_it(world: World) -> None:
    request = RequestKey("create thread", "key", b"body")
    made = await world.store.create_thread(TENANT, thread("thr_1", topic="x"), request=request)
    assert await world.store.create_thread(TENANT, thread("thr_2"), request=request) == made
    with pytest.raises(IdempotencyMismatch):
        await world.store.create_thread(TENANT, thread("thr_3"), request=RequestKey("create thread", "key", b"other"))
    assert await world.store.get_thread(TENANT, "thr_2") is None


async def test_threads_are_listed_newest_first(world: World) -> None:
    for number in range(5):
        await world.store.create_thread(TENANT, thread(f"thr_{number}", START + number // 2), request=None)
    first = await world.store.list_threads(TENANT, Page(3))
    second = await world.store.list_threads(TENANT, Page(3, (micros(first[-1]), first[-1].id)))
    assert [found.id for found in [*first, *second]] == ["thr_4", "thr_3", "thr_2", "thr_1", "thr_0"]


async def test_a_thread_names_its_active_run(world: World) -> None:
    run = await world.running("thr_1")
    found = await world.store.get_thread(TENANT, "thr_1")
    assert found is not None
    assert (found.active_run_id, found.message_count, micros(found)) == (run.id, 1, micros(run))
    assert found.update_time == run.create_time


async def test_agents_are_declared_again_and_again(world: World) -> None:
    first = Agent(id="echo", name="Echo", skills=[Skill(id="repeat")], metadata={"a": "1", "b": "2"}, online=True)
    await world.store.declare_agents(TENANT, [first, Agent(id="slow")])
    stored = await world.store.get_agent(TENANT, "echo")
    assert stored is not None
    assert (stored.name, stored.skills[0].id, stored.online) == ("Echo", "repeat", False)
    assert stored.HasField("create_time")
    await world.store.declare_agents(TENANT, [first])
    assert await world.store.get_agent(TENANT, "echo") == stored
    await world.store.declare_agents(TENANT, [Agent(id="echo", name="Echo 2")])
    changed = await world.store.get_agent(TENANT, "echo")
    assert changed is not None
    assert (changed.name, changed.create_time) == ("Echo 2", stored.create_time)


async def test_agents_are_listed_by_id(world: World) -> None:
    await world.store.declare_agents(TENANT, [Agent(id=name) for name in ("b", "a", "c", "a-b", "a.b")])
    await world.store.declare_agents("elsewhere", [Agent(id="z")])
    first = await world.store.list_agents(TENANT, after_id="", limit=3)
    second = await world.store.list_agents(TENANT, after_id=first[-1].id, limit=3)
    assert [agent.id for agent in [*first, *second]] == ["a", "a-b", "a.b", "b", "c"]
    assert await world.store.get_agent("elsewhere", "a") is None


# ── labels ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def labelled(world: World, tenant: str = TENANT, agent_id: str = "echo", **labels: str) -> str:
    new = world.new_run(tenant=tenant, agent_id=agent_id, thread_id="thr_1" if labels.get("thread") else "")
    for name, value in labels.items():
        new.run.metadata[name] = value
    return (await world.create(new)).run.id


@pytest.mark.parametrize("size", [1, 2, 100])
async def test_runs_are_found_by_all_of_their_labels(world: World, size: int) -> None:
    red = [await labelled(world, color="red", size="l") for _ in range(3)]
    small = await labelled(world, color="red", size="s")
    await labelled(world, color="blue", size="l")
    await labelled(world, size="red", color="l")
    await labelled(world, tenant="elsewhere", color="red")
    await world.running()

    async def ids(*labels: tuple[str, str]) -> list[str]:
        return await all_runs(world, RunFilter(labels=labels), size)

    assert await ids(("color", "red")) == [small, *reversed(red)]
    assert await ids(("color", "red"), ("size", "l")) == list(reversed(red))
    assert await ids(("size", "s"), ("color", "red"), ("size", "s")) == [small]
    assert await ids(("color", "red"), ("size", "m")) == []
    assert await ids(("color", "re")) == []


async def test_labels_join_with_the_other_filters(world: World) -> None:
    ended = await labelled(world, color="red")
    stored = await world.store.get_run(TENANT, ended)
    assert stored is not None
    await world.end(stored)
    other = await labelled(world, agent_id="other", color="red")
    threaded = await labelled(world, color="red", thread="1")
    labels = (("color", "red"),)

    async def ids(which: RunFilter) -> list[str]:
        return await all_runs(world, which, 10)

    assert await ids(RunFilter(labels=labels, states=(SUCCEEDED,))) == [ended]
    assert await ids(RunFilter(labels=labels, agent_id="other")) == [other]
    assert await ids(RunFilter(labels=labels, thread_id="thr_1")) == [threaded]
    assert await ids(RunFilter(labels=labels, created_before=micros(stored) + 1)) == [ended]
    assert await ids(RunFilter(labels=labels, created_since=micros(stored) + 1)) == [threaded, other]
