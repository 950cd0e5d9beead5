"""The state of a thread between its runs: set by whoever knows its version, while no run owns it."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from core_service.domain.errors import IdempotencyMismatch, StateChanged, ThreadBusy, ThreadNotFound
from core_service.domain.runs import SUCCEEDED
from core_service.ports import RequestKey, RunChange
from penstock.v1.run_pb2 import Run
from penstock.v1.thread_pb2 import Thread
from tests.store.world import START, TENANT, World, output


def key(name: str, body: bytes = b"body") -> RequestKey:
    return RequestKey("set_state", name, body)


async def made(world: World, thread_id: str = "thr_1", *, state_json: str = "") -> Thread:
    thread = Thread(id=thread_id, state_json=state_json)
    thread.create_time.FromMicroseconds(START)
    return await world.store.create_thread(TENANT, thread, request=None)


async def set_state(
    world: World, state_json: str, *, expected: int | None = None, request: RequestKey | None = None
) -> Thread:
    return await world.store.set_state(TENANT, "thr_1", state_json, expected_version=expected, request=request)


async def end_with_state(world: World, run: Run, state_json: str, *, fence: int = 1) -> None:
    """End a run that has changed the thread's state, once."""
    head = await world.head(run.id)
    version = (await world.thread(run.thread_id)).state_version + 1
    change = RunChange(state=SUCCEEDED, release=True, state_json=state_json, state_version=version)
    await world.append(output(run.id, fence=fence, expected=head.last_seq, change=change))


async def test_every_change_of_the_state_is_a_version(world: World) -> None:
    await made(world)
    first = await set_state(world, '{"n":1}')
    second = await set_state(world, "[2]")
    assert (first.state_json, first.state_version) == ('{"n":1}', 1)
    assert (second.state_json, second.state_version) == ("[2]", 2)
    assert await world.thread("thr_1") == second


async def test_a_state_of_another_version_than_expected_is_left_alone(world: World) -> None:
    await made(world, state_json="{}")
    await set_state(world, '{"n":1}', expected=1)
    with pytest.raises(StateChanged) as refusal:
        await set_state(world, '{"n":2}', expected=1)
    assert refusal.value.metadata == {"version": "2"}
    assert (await world.thread("thr_1")).state_json == '{"n":1}'


async def test_of_twenty_who_expect_the_same_version_one_sets_the_state(world: World) -> None:
    await made(world)

    async def try_to(number: int) -> str | None:
        try:
            return (await set_state(world, str(number), expected=0)).state_json
        except StateChanged:
            return None

    async with asyncio.timeout(30):
        outcomes = await asyncio.gather(*(try_to(number) for number in range(20)))
    thread = await world.thread("thr_1")
    assert [state for state in outcomes if state is not None] == [thread.state_json]
    assert thread.state_version == 1


async def test_a_run_owns_the_state_from_its_turn_to_its_end(world: World) -> None:
    queued = await world.queued("thr_1")
    behind = await world.queued("thr_1")
    with pytest.raises(ThreadBusy) as refusal:
        await set_state(world, "1")
    assert refusal.value.metadata["run_id"] == queued.id
    (owned,) = await world.claim()
    await end_with_state(world, queued, '{"by":"run"}', fence=owned.fence)
    with pytest.raises(ThreadBusy) as refusal:  # nobody was promoted yet
        await set_state(world, "2")
    assert refusal.value.metadata["run_id"] == behind.id
    await world.store.promote([(TENANT, "thr_1")])
    (owned,) = await world.claim()
    await world.end(behind, fence=owned.fence)
    assert (await set_state(world, "3", expected=1)).state_version == 2


async def test_a_repeated_change_is_one_change(world: World) -> None:
    await made(world)
    await set_state(world, "1", request=key("a"))
    await set_state(world, "2")
    again = await set_state(world, "1", expected=0, request=key("a"))
    assert (again.state_json, again.state_version) == ("2", 2)
    with pytest.raises(IdempotencyMismatch):
        await set_state(world, "1", request=key("a", b"other"))


async def test_a_refused_change_may_be_repeated_once_it_can_be_made(world: World) -> None:
    run = await world.running("thr_1")
    with pytest.raises(ThreadBusy):
        await set_state(world, "1", request=key("a"))
    await world.end(run)
    assert (await set_state(world, "1", request=key("a"))).state_version == 1


async def test_a_look_tells_whether_a_request_was_carried_out(world: World) -> None:
    await made(world)
    assert await world.store.look_at_thread(TENANT, "thr_1", request=key("a")) == (await world.thread("thr_1"), False)
    await set_state(world, "1", request=key("a"))
    assert await world.store.look_at_thread(TENANT, "thr_1", request=key("a")) == (await world.thread("thr_1"), True)
    assert not (await world.store.look_at_thread(TENANT, "thr_1", request=None))[1]
    with pytest.raises(IdempotencyMismatch):
        await world.store.look_at_thread(TENANT, "thr_1", request=key("a", b"other"))


async def test_a_look_forgets_a_request_after_a_day(sqlite_world: World) -> None:
    world = sqlite_world
    await made(world)
    await set_state(world, "1", request=key("a"))
    world.clock.forward(24 * 3600 + 1)
    assert not (await world.store.look_at_thread(TENANT, "thr_1", request=key("a", b"other")))[1]


async def test_a_thread_of_another_tenant_is_not_found(world: World) -> None:
    await made(world)
    with pytest.raises(ThreadNotFound):
        await world.store.set_state("elsewhere", "thr_1", "1", expected_version=None, request=None)
    with pytest.raises(ThreadNotFound):
        await world.store.look_at_thread("elsewhere", "thr_1", request=None)


async def test_a_state_and_a_create_at_once_are_one_after_the_other(world: World) -> None:
    """Whoever locks the thread first: the run finds the state, or the state is refused."""
    for number in range(20):
        new = dataclasses.replace(world.new_run(thread_id=f"thr_{number}"), request=None)
        await made(world, f"thr_{number}")

        async def try_to_set(thread_id: str = new.run.thread_id) -> bool:
            try:
                await world.store.set_state(TENANT, thread_id, "1", expected_version=None, request=None)
            except ThreadBusy:
                return False
            return True

        created, was_set = await asyncio.gather(world.create(new), try_to_set())
        assert created.started
        assert created.state_json == ("1" if was_set else "")


async def test_a_run_tells_from_which_state_it_set_out(world: World) -> None:
    await made(world, state_json="0")
    first = await world.running("thr_1")
    second = await world.queued("thr_1")
    assert await world.store.state_before(TENANT, first.id) == "0"
    assert await world.store.state_before(TENANT, second.id) == "0", "it has not set out yet"
    await end_with_state(world, first, "1")
    assert await world.store.state_before(TENANT, first.id) == "0"
    assert await world.store.state_before(TENANT, second.id) == "1"
    assert await world.store.state_before("elsewhere", first.id) is None
    assert await world.store.state_before(TENANT, "run_nowhere") is None
