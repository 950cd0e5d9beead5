"""A create is one run: it happens once per request id, takes its place in the thread, and starts at once if it may."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import cast

import pytest

from core_service.domain.errors import (
    IdempotencyMismatch,
    InvalidArgument,
    NotServed,
    QueueFull,
    ThreadBusy,
    ThreadWaiting,
)
from core_service.domain.runs import QUEUED, RUNNING, SUCCEEDED, WAITING
from core_service.ports import Page, RequestKey, RunChange, RunFilter
from penstock.v1.run_pb2 import BusyPolicy
from tests.store.conftest import Opener
from tests.store.world import TENANT, HandClock, World, message, output, texts

REJECT = BusyPolicy.BUSY_POLICY_REJECT
ENQUEUE = BusyPolicy.BUSY_POLICY_ENQUEUE


def key(name: str, body: bytes = b"body") -> RequestKey:
    return RequestKey("create", name, body)


async def test_a_create_with_a_free_worker_starts_at_once(world: World) -> None:
    created = await world.create(world.new_run(texts=("a", "b")))
    stored = await world.store.get_run(TENANT, created.run.id)
    head = await world.store.head(created.run.id)
    assert stored == created.run
    assert head is not None
    assert (created.started, created.repeated, created.history) == (True, False, ())
    assert (created.run.state, created.run.attempt, created.run.last_seq) == (RUNNING, 1, 2)
    assert created.run.agent_version == "v7"
    assert (head.fence, head.last_seq, head.owner, head.session) == (1, 2, world.owner, world.session)
    assert await world.log(created.run.id) == [1, 2]
    given = await world.store.list_messages(TENANT, created.run.thread_id, after_pos=0, limit=10)
    assert texts([message for _, message in given]) == ["a", "b"]


async def test_a_create_without_a_free_worker_is_queued(world: World) -> None:
    created = await world.create(world.new_run(claim=False))
    head = await world.store.head(created.run.id)
    assert head is not None
    assert (created.started, created.run.state, created.run.attempt) == (False, QUEUED, 0)
    assert (head.fence, head.last_seq, head.owner, head.session) == (1, 1, None, None)
    assert await world.store.get_run(TENANT, created.run.id) == created.run
    assert await world.log(created.run.id) == [1]


async def test_a_create_does_not_overtake_a_queued_run_of_its_agent(world: World) -> None:
    await world.queued()
    assert not (await world.create(world.new_run())).started
    assert (await world.create(world.new_run(agent_id="other"))).started
    assert (await world.create(world.new_run(tenant="elsewhere"))).started


async def test_a_run_that_waits_for_its_time_is_not_overtaken(world: World) -> None:
    async with asyncio.timeout(10):
        postponed = await world.create(world.new_run(available_in=1e9))
    assert not postponed.started
    assert (await world.create(world.new_run())).started
    assert await world.claim() == []


async def test_a_started_run_gets_the_thread_so_far(world: World) -> None:
    first = await world.running()
    change = RunChange(
        state=SUCCEEDED, release=True, messages=(message("there"),), state_json='{"n":1}', state_version=3
    )
    await world.append(output(first.id, change=change))
    second = await world.create(world.new_run(thread_id=first.thread_id, texts=("again",)))
    assert second.started
    assert texts(second.history) == ["hello", "there"]
    assert second.state_json == '{"n":1}'
    thread = await world.store.get_thread(TENANT, first.thread_id)
    assert thread is not None
    assert (thread.state_version, thread.message_count, thread.active_run_id) == (3, 3, second.run.id)


async def test_a_history_is_cut_to_the_newest_thousand(world: World) -> None:
    first = await world.create(world.new_run(texts=[str(number) for number in range(1_002)]))
    await world.end(first.run, "end")
    second = await world.create(world.new_run(thread_id=first.run.thread_id))
    assert texts(second.history) == [*(str(number) for number in range(3, 1_002)), "end"]


async def test_the_same_request_from_eight_callers_is_one_run(world: World) -> None:
    async def call(number: int) -> str:
        return (await world.create(world.new_run(request=key(f"key {number}")))).run.id

    numbers = [number for number in range(50) for _ in range(8)]
    async with asyncio.timeout(60):
        ids = await asyncio.gather(*(call(number) for number in numbers))
    assert len(set(ids)) == 50
    assert len(set(zip(numbers, ids, strict=True))) == 50
    assert len(await world.store.list_runs(TENANT, RunFilter(), Page(1_000))) == 50


async def test_a_repeat_returns_the_run_as_it_is_now(world: World) -> None:
    new = world.new_run(request=key("one"))
    first = await world.create(new)
    await world.end(first.run)
    again = await world.create(dataclasses.replace(world.new_run(), request=key("one")))
    assert (again.repeated, again.started) == (True, False)
    assert again.run == await world.store.get_run(TENANT, first.run.id)


async def test_repeats_and_refusals_leave_the_thread_as_it_is(world: World) -> None:
    """A create locks its thread, made if need be, before it knows whether it goes on."""
    first = await world.create(world.new_run(thread_id="t", request=key("one")))
    thread = "SELECT thread_id, queue_seq, message_count, state, state_version, updated FROM threads"
    before = await world.rows(thread)
    for thread_id in ("t", "another"):
        new = world.new_run(thread_id=thread_id, request=key("one"))
        again = await world.create(dataclasses.replace(new, state_json='{"by":"the repeat"}'))
        assert (again.repeated, again.run.id) == (True, first.run.id)
    with pytest.raises(IdempotencyMismatch):
        await world.create(world.new_run(thread_id="t", request=key("one", b"another body")))
    with pytest.raises(ThreadBusy):
        await world.create(world.new_run(thread_id="t", request=key("two"), policy=BusyPolicy.BUSY_POLICY_REJECT))
    assert await world.rows(thread) == before
    assert await world.rows("SELECT key FROM idempotency") == [("one",)]


async def test_repeats_among_fresh_creates_take_nothing_along(world: World) -> None:
    first = await world.create(world.new_run(thread_id="t", request=key("one")))
    async with asyncio.timeout(30):
        made = await asyncio.gather(
            *(world.create(world.new_run(thread_id="t", request=key("one"))) for _ in range(20)),
            *(world.create(world.new_run(thread_id="t")) for _ in range(10)),
        )
    assert [one.run.id for one in made[:20]] == [first.run.id] * 20
    assert await world.rows("SELECT queue_seq, message_count FROM threads") == [(11, 11)]


async def test_the_same_request_id_with_another_body_is_refused(world: World) -> None:
    first = await world.create(world.new_run(request=key("one")))
    other = world.new_run(request=key("one", b"another body"))
    with pytest.raises(IdempotencyMismatch):
        await world.create(other)
    assert await world.store.get_run(TENANT, other.run.id) is None
    assert (await world.create(world.new_run(request=key("one"), tenant="elsewhere"))).run.id != first.run.id


async def test_a_request_is_known_after_a_restart(opener: Opener, clock: HandClock) -> None:
    async with opener() as store:
        world = World(store, clock)
        first = await world.create(world.new_run(request=key("one")))
    async with opener() as store:
        again = await World(store, clock).create(world.new_run(request=key("one")))
    assert (again.repeated, again.run.id) == (True, first.run.id)


async def test_a_request_is_forgotten_after_a_day(sqlite_world: World) -> None:
    world = sqlite_world
    first = await world.create(world.new_run(request=key("one")))
    world.clock.forward(24 * 3600 - 1)
    assert (await world.create(world.new_run(request=key("one")))).repeated
    world.clock.forward(2)
    fresh = await world.create(world.new_run(request=key("one", b"another body")))
    assert not fresh.repeated
    assert fresh.run.id != first.run.id


async def test_a_refused_create_leaves_nothing_behind(world: World) -> None:
    first = await world.running()
    refused = world.new_run(thread_id=first.thread_id, policy=REJECT, request=key("one"))
    with pytest.raises(ThreadBusy) as caught:
        await world.create(refused)
    assert caught.value.metadata == {"run_id": first.id}
    assert await world.store.get_run(TENANT, refused.run.id) is None
    assert await world.store.head(refused.run.id) is None
    thread = await world.store.get_thread(TENANT, first.thread_id)
    assert thread is not None
    assert thread.message_count == 1
    await world.end(first)
    assert not (await world.create(refused)).repeated


async def test_a_thread_that_waits_for_an_answer_refuses_both_policies(world: World) -> None:
    run = await world.running()
    await world.append(output(run.id, change=RunChange(state=WAITING)))
    for policy in (REJECT, ENQUEUE):
        with pytest.raises(ThreadWaiting) as caught:
            await world.create(world.new_run(thread_id=run.thread_id, policy=policy))
        assert caught.value.metadata == {"run_id": run.id, "input_ids": ""}


async def test_a_thread_between_two_runs_is_busy(world: World) -> None:
    first = await world.running()
    second = await world.queued(first.thread_id)
    await world.end(first)
    with pytest.raises(ThreadBusy) as caught:
        await world.create(world.new_run(thread_id=first.thread_id, policy=REJECT))
    assert caught.value.metadata == {"run_id": second.id}
    assert not (await world.create(world.new_run(thread_id=first.thread_id))).started


async def test_a_policy_of_a_later_version_is_not_served(world: World) -> None:
    new = dataclasses.replace(world.new_run(), policy=cast(BusyPolicy.ValueType, 99))
    with pytest.raises(NotServed):
        await world.create(new)


async def test_a_full_queue_refuses(world: World) -> None:
    holder = await world.running()
    for _ in range(2):
        await world.create(world.new_run(thread_id=holder.thread_id, per_thread=2))
    with pytest.raises(QueueFull):
        await world.create(world.new_run(thread_id=holder.thread_id, per_thread=2))
    for _ in range(3):
        await world.create(world.new_run(claim=False, per_agent=3))
    with pytest.raises(QueueFull):
        await world.create(world.new_run(claim=False, per_agent=3))


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b"])
async def test_a_request_id_that_a_database_cannot_hold_is_refused_on_both(world: World, name: str) -> None:
    new = world.new_run()
    with pytest.raises(InvalidArgument):
        await world.create(dataclasses.replace(new, request=key(name)))
    assert await world.store.get_run(TENANT, new.run.id) is None
