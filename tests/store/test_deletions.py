"""What is deleted is gone at once and wholly, and what it leaves behind goes in pieces, also after a crash."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from core_service.adapters.sql import deletions
from core_service.domain.errors import (
    IdempotencyMismatch,
    RunActive,
    RunNotFound,
    ThreadBusy,
    ThreadExists,
    ThreadNotFound,
)
from core_service.domain.runs import SUCCEEDED
from core_service.ports import (
    AppendOutcome,
    AtEnd,
    Created,
    Noted,
    Page,
    Remains,
    RequestKey,
    RunChange,
    RunFilter,
    Segment,
    StepRow,
)
from penstock.v1.run_pb2 import Run
from penstock.v1.thread_pb2 import Thread
from tests.store.conftest import Opener
from tests.store.world import TENANT, HandClock, World, message, output, question, records

OF_RUNS = ("runs", "heads", "segments", "steps", "inputs", "inbox", "run_labels", "webhooks")
OF_THREADS = ("threads", "messages")


def key(operation: str, name: str, body: bytes = b"body") -> RequestKey:
    return RequestKey(operation, name, body)


async def clear_all(world: World) -> None:
    while found := await world.store.remains(limit=10):
        for what in found:
            await world.store.clear_remains(what)


async def counts(world: World, *tables: str) -> dict[str, int]:
    """How many rows the tables have that have any."""
    found = {table: (await world.rows(f"SELECT count(*) FROM {table}"))[0][0] for table in tables}
    return {table: count for table, count in found.items() if count}


async def full_run(world: World, thread_id: str = "thr_1") -> Run:
    """An ended run that has left rows everywhere."""
    new = world.new_run(thread_id=thread_id)
    new.run.metadata["team"] = "a"
    run = (await world.create(new)).run
    step = StepRow("step", "", 3, 4, is_completed=True, args_hash=b"", result_json="{}")
    noted = Noted(steps=(step,), asked=(question("sure", 3),))
    assert await world.append(output(run.id, noted=noted)) == [AppendOutcome.WRITTEN]
    await world.steer(run.id)
    end = world.ending(run, "bye", expected=3)
    assert end.change is not None
    end = dataclasses.replace(end, change=dataclasses.replace(end.change, webhook_url="https://example.org"))
    assert await world.append(end) == [AppendOutcome.WRITTEN]
    return run


async def left_alone(world: World, run: Run) -> None:
    """Let its unread message be nobody's business any more."""
    follow_ups = await world.store.follow_ups(limit=10)
    assert [one.run.id for one in follow_ups] == [run.id]
    new = dataclasses.replace(world.new_run(thread_id="thr_elsewhere", claim=False), follow_up_of=run.id)
    await world.create(new)


# ── runs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_deleted_run_is_gone_at_once_and_then_without_trace(world: World) -> None:
    run = await full_run(world)
    await left_alone(world, run)
    assert set(await counts(world, *OF_RUNS)) == set(OF_RUNS)
    await world.store.delete_run(TENANT, run.id, request=None)
    assert await world.store.get_run(TENANT, run.id) is None
    assert await world.store.head(run.id) is None
    assert await world.store.remains(limit=10) == [Remains(TENANT, run.id, is_thread=False)]
    await clear_all(world)
    for table in OF_RUNS:
        assert await world.rows(f"SELECT * FROM {table} WHERE run_id = '{run.id}'") == [], table
    assert len(await world.store.list_runs(TENANT, RunFilter(), Page(10))) == 1, "the other one is there"


async def test_the_messages_of_a_deleted_run_stay_in_the_conversation(world: World) -> None:
    first = await world.running("thr_1")
    await world.end(first, "answer")
    await world.store.delete_run(TENANT, first.id, request=None)
    await clear_all(world)
    assert await world.shown("thr_1") == ["hello", "answer"]
    assert (await world.thread("thr_1")).message_count == 2
    second = await world.create(world.new_run(thread_id="thr_1"))
    assert [one.parts[0].text.text for one in second.history] == ["hello", "answer"]


async def test_an_active_run_is_not_deleted(world: World) -> None:
    running = await world.running("thr_1")
    queued = await world.queued("thr_1")
    waiting, _ = await world.asking("sure")
    for run in (running, queued, waiting):
        with pytest.raises(RunActive) as refusal:
            await world.store.delete_run(TENANT, run.id, request=None)
        assert refusal.value.metadata == {"run_id": run.id}
        assert await world.store.get_run(TENANT, run.id) is not None


async def test_a_run_whose_unread_messages_become_another_run_is_not_deleted_before(world: World) -> None:
    run = await full_run(world)
    with pytest.raises(RunActive):
        await world.store.delete_run(TENANT, run.id, request=None)
    with pytest.raises(ThreadBusy):
        await world.store.delete_thread(TENANT, "thr_1", request=None)
    await left_alone(world, run)
    await world.store.delete_run(TENANT, run.id, request=None)


async def test_a_run_is_deleted_by_its_tenant_only(world: World) -> None:
    run = await world.running()
    await world.end(run)
    with pytest.raises(RunNotFound):
        await world.store.delete_run("elsewhere", run.id, request=None)
    with pytest.raises(RunNotFound):
        await world.store.delete_run(TENANT, "run_nowhere", request=None)
    assert await world.store.get_run(TENANT, run.id) is not None


async def test_a_repeated_delete_is_no_error_and_one_without_an_id_is(world: World) -> None:
    run = await world.running()
    await world.end(run)
    request = key("delete_run", "a")
    await world.store.delete_run(TENANT, run.id, request=request)
    await world.store.delete_run(TENANT, run.id, request=request)
    with pytest.raises(RunNotFound):
        await world.store.delete_run(TENANT, run.id, request=None)
    with pytest.raises(IdempotencyMismatch):
        await world.store.delete_run(TENANT, run.id, request=key("delete_run", "a", b"other"))


async def test_the_create_of_a_deleted_run_is_known_and_makes_no_other(world: World) -> None:
    new = world.new_run(request=key("create", "a"))
    run = (await world.create(new)).run
    await world.end(run)
    await world.store.delete_run(TENANT, run.id, request=None)
    await clear_all(world)
    with pytest.raises(RunNotFound):
        await world.create(dataclasses.replace(world.new_run(), request=key("create", "a")))


async def test_nothing_is_appended_to_a_deleted_run(world: World) -> None:
    run = await world.running()
    end = world.ending(run)
    await world.append(end)
    await world.store.delete_run(TENANT, run.id, request=None)
    assert await world.append(end) == [AppendOutcome.REFUSED]
    await world.store.fold(run.id, [Segment(1, 3, records(1, 3))])
    await clear_all(world)
    assert await counts(world, "segments") == {}


async def test_a_long_log_goes_in_pieces(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletions, "SEGMENTS_PER_PIECE", 3)
    run = await world.running()
    for seq in range(2, 10):
        await world.append(output(run.id, expected=seq))
    await world.end(run)
    await world.store.delete_run(TENANT, run.id, request=None)
    what = Remains(TENANT, run.id, is_thread=False)
    left = []
    while not (await world.store.clear_remains(what)).is_done:
        left.append((await counts(world, "segments"))["segments"])
    assert left == [7, 4, 1]
    assert await counts(world, *OF_RUNS, "deletions") == {}


# ── threads ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_deleted_thread_takes_everything_along(world: World) -> None:
    for _ in range(3):
        run = await world.running("thr_1")
        await world.end(run, "bye")
    kept = await world.running("thr_2")
    await world.end(kept, "bye")
    before = await counts(world, *OF_RUNS, *OF_THREADS)
    await world.store.delete_thread(TENANT, "thr_1", request=None)
    assert await world.store.get_thread(TENANT, "thr_1") is None
    await clear_all(world)
    after = await counts(world, *OF_RUNS, *OF_THREADS, "deletions")
    assert after == {table: count // 4 for table, count in before.items() if table != "threads"} | {"threads": 1}
    assert await world.shown("thr_2") == ["hello", "bye"]
    assert await world.store.get_run(TENANT, kept.id) is not None


async def test_a_busy_thread_is_not_deleted(world: World) -> None:
    holder = await world.running("thr_1")
    await world.queued("thr_1")
    with pytest.raises(ThreadBusy) as refusal:
        await world.store.delete_thread(TENANT, "thr_1", request=None)
    assert refusal.value.metadata == {"run_id": holder.id}
    delayed = dataclasses.replace(world.new_run(thread_id="thr_2", claim=False, available_in=1e9), delayed=True)
    await world.create(delayed)
    with pytest.raises(ThreadBusy) as refusal:
        await world.store.delete_thread(TENANT, "thr_2", request=None)
    assert refusal.value.metadata == {"run_id": delayed.run.id}
    with pytest.raises(ThreadNotFound):
        await world.store.delete_thread("elsewhere", "thr_1", request=None)
    with pytest.raises(ThreadNotFound):
        await world.store.delete_thread(TENANT, "thr_nowhere", request=None)
    assert await world.store.remains(limit=10) == []


async def test_a_repeated_delete_of_a_thread_spares_one_that_was_made_since(world: World) -> None:
    await world.end(await world.running("thr_1"))
    request = key("delete_thread", "a")
    await world.store.delete_thread(TENANT, "thr_1", request=request)
    await clear_all(world)
    run = await world.running("thr_1")
    await world.end(run)
    await world.store.delete_thread(TENANT, "thr_1", request=request)
    assert (await world.store.clear_remains(Remains(TENANT, "thr_1", is_thread=True))).is_done
    assert await world.store.get_run(TENANT, run.id) is not None
    assert await world.shown("thr_1") == ["hello"]


async def test_nothing_is_created_under_an_id_that_still_has_remains(world: World) -> None:
    await world.end(await world.running("thr_1"), "secret")
    source = await world.running("thr_2")
    await world.store.delete_thread(TENANT, "thr_1", request=None)
    with pytest.raises(ThreadBusy):
        await world.running("thr_1")
    with pytest.raises(ThreadExists):
        await world.store.create_thread(TENANT, Thread(id="thr_1"), request=None)
    with pytest.raises(ThreadExists):
        await world.store.fork_thread(TENANT, source.thread_id, Thread(id="thr_1"), AtEnd(), request=None)
    assert await world.store.get_thread(TENANT, "thr_1") is None
    await clear_all(world)
    created = await world.create(world.new_run(thread_id="thr_1"))
    assert (created.started, created.history) == (True, ())
    assert (await world.thread("thr_1")).message_count == 1


async def test_a_large_thread_goes_in_pieces(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletions, "RUNS_PER_PIECE", 2)
    monkeypatch.setattr(deletions, "MESSAGES_PER_PIECE", 3)
    runs = []
    for _ in range(5):
        runs.append((await world.create(world.new_run(thread_id="thr_1", texts=("a", "b")))).run)
        await world.end(runs[-1])
    await world.store.delete_thread(TENANT, "thr_1", request=None)
    what = Remains(TENANT, "thr_1", is_thread=True)
    gone: list[str] = []
    steps = 0
    while not (cleared := await world.store.clear_remains(what)).is_done:
        assert len(cleared.run_ids) <= 2
        gone += cleared.run_ids
        steps += 1
    assert sorted(gone) == sorted(run.id for run in runs)
    assert steps == 2 + 3, "two pieces of runs only, then messages three by three"
    assert {one.resource_id for one in await world.store.remains(limit=10)} == set(gone)
    await clear_all(world)
    assert await counts(world, *OF_RUNS, *OF_THREADS, "deletions") == {}


async def test_what_a_crash_left_is_found_at_the_next_start(opener: Opener, clock: HandClock) -> None:
    async with opener() as store:
        world = World(store, clock)
        await world.end(await world.running("thr_1"), "bye")
        run = await world.running("thr_2")
        await world.end(run)
        await store.delete_thread(TENANT, "thr_1", request=None)
        await store.delete_run(TENANT, run.id, request=None)
    async with opener() as store:
        world = World(store, clock)
        assert await store.remains(limit=10) == [
            Remains(TENANT, "thr_1", is_thread=True),
            Remains(TENANT, run.id, is_thread=False),
        ]
        await clear_all(world)
        assert await counts(world, *OF_RUNS, "deletions") == {}


async def test_a_create_and_a_delete_at_once_are_one_after_the_other(world: World) -> None:
    """Either the create comes first and keeps the thread, or it is refused as long as there are remains."""

    async def create(new_texts: tuple[str, ...]) -> Created | None:
        try:
            return await world.create(world.new_run(thread_id="thr_1", texts=new_texts, claim=False))
        except ThreadBusy:
            return None

    async def delete() -> bool:
        try:
            await world.store.delete_thread(TENANT, "thr_1", request=None)
        except ThreadBusy:
            return False
        return True

    for number in range(30):
        change = RunChange(state=SUCCEEDED, release=True, messages=(message("old"),))
        old = await world.running("thr_1")
        await world.append(output(old.id, change=change))
        tasks = {"create": create(("new",)), "delete": delete()}
        order = sorted(tasks, reverse=number % 2 == 0)
        outcomes = dict(zip(order, await asyncio.gather(*(tasks[name] for name in order)), strict=True))
        await clear_all(world)
        assert (outcomes["create"] is None) == outcomes["delete"], "one of them, and not both"
        if outcomes["delete"]:
            assert await world.rows("SELECT * FROM runs WHERE thread_id = 'thr_1'") == []
            continue
        assert await world.shown("thr_1") == ["hello", "old", "new"]
        (owned,) = await world.claim()
        await world.end(owned.run, fence=owned.fence)
        await world.store.delete_thread(TENANT, "thr_1", request=None)
        await clear_all(world)
