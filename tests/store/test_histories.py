"""The runs of a thread in their order, and what it all occupies."""

from __future__ import annotations

import dataclasses

import pytest

from core_service.domain.errors import IdempotencyMismatch, ThreadNotFound
from core_service.ports import Noted, RequestKey, RunInThread, Segment, StepRow
from penstock.v1.thread_pb2 import Thread, ThreadStorage
from tests.store.world import TENANT, World, output, question, records


async def test_runs_follow_one_another_by_their_places(world: World) -> None:
    runs = [await world.queued("thr_1") for _ in range(4)]
    await world.queued("thr_2")
    places = [RunInThread(run.id, place) for place, run in enumerate(runs, 1)]

    async def next_runs(place: int, limit: int = 10) -> list[RunInThread]:
        return await world.store.next_runs(TENANT, "thr_1", place=place, limit=limit)

    assert await next_runs(0) == places
    assert await next_runs(2) == places[1:]
    assert await next_runs(2, limit=1) == places[1:2]
    assert await next_runs(5) == []


async def test_a_deleted_run_leaves_a_gap_and_a_missing_thread_is_told(world: World) -> None:
    first, second = await world.running("thr_1"), await world.queued("thr_1")
    await world.end(first)
    await world.store.delete_run(TENANT, first.id, request=None)
    assert await world.store.next_runs(TENANT, "thr_1", place=0, limit=10) == [RunInThread(second.id, 2)]
    await world.store.create_thread(TENANT, Thread(id="thr_empty"), request=None)
    assert await world.store.next_runs(TENANT, "thr_empty", place=0, limit=10) == []
    for tenant, thread_id in ((TENANT, "thr_nowhere"), ("elsewhere", "thr_1")):
        with pytest.raises(ThreadNotFound):
            await world.store.next_runs(tenant, thread_id, place=0, limit=10)


async def test_a_delayed_run_has_its_place_once_it_is_due(sqlite_world: World) -> None:
    world = sqlite_world
    delayed = dataclasses.replace(world.new_run(thread_id="thr_1", claim=False, available_in=60), delayed=True)
    await world.create(delayed)
    run = await world.queued("thr_1")
    assert await world.store.next_runs(TENANT, "thr_1", place=0, limit=10) == [RunInThread(run.id, 2)]
    assert await world.store.newest_places(TENANT, ["thr_1"]) == {"thr_1": 2}
    world.clock.forward(61)
    await world.store.join_due(limit=10)
    assert await world.store.next_runs(TENANT, "thr_1", place=3, limit=10) == [RunInThread(delayed.run.id, 3)]
    assert await world.store.newest_places(TENANT, ["thr_1"]) == {"thr_1": 3}


async def test_the_newest_places_of_many_threads_are_asked_for_at_once(world: World) -> None:
    for _ in range(3):
        await world.queued("thr_1")
    await world.store.create_thread(TENANT, Thread(id="thr_2"), request=None)
    await world.queued("thr_3", tenant="elsewhere")
    found = await world.store.newest_places(TENANT, ["thr_1", "thr_2", "thr_3", "thr_nowhere"])
    assert found == {"thr_1": 3, "thr_2": 0}
    assert await world.store.newest_places(TENANT, []) == {}


async def test_a_thread_tells_what_it_occupies(world: World) -> None:
    run = await world.running("thr_1")
    step = StepRow("steep", "", 3, 4, is_completed=True, args_hash=b"1234", result_json='"ä"')
    asked = question("sure", 3)
    await world.append(output(run.id, count=10, noted=Noted(steps=(step,), asked=(asked,))))
    await world.end(run, "bye")
    await world.running("thr_2")
    await world.store.set_state(TENANT, "thr_1", '{"ü":1}', expected_version=None, request=None)
    ((log_bytes,),) = await world.rows(f"SELECT sum(length(data)) FROM segments WHERE run_id = '{run.id}'")
    page = await world.store.list_messages(TENANT, "thr_1", after_pos=-1, limit=10)

    found = await world.store.storage_of(TENANT, "thr_1")

    assert found == ThreadStorage(
        thread_id="thr_1",
        runs=1,
        events=13,
        event_bytes=int(log_bytes),
        messages=2,
        message_bytes=sum(one.ByteSize() for _, one in page),
        state_bytes=8,
        record_bytes=len("steep") + 4 + 4 + asked.request.ByteSize(),
    )


async def test_folding_shows_in_what_a_thread_occupies(world: World) -> None:
    run = await world.running("thr_1")
    await world.append(output(run.id, count=1_000))
    await world.end(run)
    before = await world.store.storage_of(TENANT, "thr_1")
    await world.store.fold(run.id, [Segment(1, 1_003, records(1, 1_003))])
    after = await world.store.storage_of(TENANT, "thr_1")
    assert (after.events, after.runs) == (before.events, before.runs) == (1_003, 1)
    assert after.event_bytes < before.event_bytes // 2


async def test_an_empty_thread_occupies_nothing_and_a_missing_one_is_told(world: World) -> None:
    await world.store.create_thread(TENANT, Thread(id="thr_1"), request=None)
    assert await world.store.storage_of(TENANT, "thr_1") == ThreadStorage(thread_id="thr_1")
    with pytest.raises(ThreadNotFound):
        await world.store.storage_of("elsewhere", "thr_1")


async def test_a_noted_request_keeps_the_value_of_its_first_call(world: World) -> None:
    request = RequestKey("cancel_runs", "a", b"body")
    assert await world.store.first_call(TENANT, request, "1") == "1"
    assert await world.store.first_call(TENANT, request, "2") == "1"
    assert await world.store.first_call("elsewhere", request, "2") == "2"
    with pytest.raises(IdempotencyMismatch):
        await world.store.first_call(TENANT, RequestKey("cancel_runs", "a", b"other"), "3")
