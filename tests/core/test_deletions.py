"""Deleting runs and threads: refused or cancelled first, gone at once, also for those who watch, and for good."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from core_service.adapters.sql import deletions
from core_service.domain.runs import WAITING
from core_service.engine import assembly
from penstock.v1.run_pb2 import RunOptions
from penstock.v1.run_service_pb2 import ListRunsRequest
from penstock.v1.thread_service_pb2 import DeleteThreadRequest
from tests.core.faults import WAIT
from tests.core.refusals import reason_of, refused
from tests.core.running_core import RunningCore, texts
from tests.core.threads import (
    THREAD,
    create_thread,
    delete_run,
    delete_thread,
    follow,
    get_thread,
    said_in,
)
from tests.core.waits import until

TOMORROW = Timestamp()
TOMORROW.FromDatetime(datetime.now(UTC) + timedelta(days=1))
NOT_FOUND = grpc.StatusCode.NOT_FOUND
NOT_NOW = grpc.StatusCode.FAILED_PRECONDITION
OF_RUNS = ("runs", "heads", "segments")


async def until_nothing_is_left(core: RunningCore) -> None:
    async def is_clear() -> bool:
        return core.place.rows("SELECT * FROM deletions") == []

    await until(is_clear)


def rows_of(core: RunningCore, run_id: str) -> int:
    return sum(len(core.place.rows(f"SELECT * FROM {table} WHERE run_id = '{run_id}'")) for table in OF_RUNS)


# ── runs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_deleted_run_is_not_found_by_anybody(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker()
    job = await any_core.started(worker, "question", thread_id=THREAD)
    await job.say_all("answer")
    await any_core.ended(job.run_id)
    await delete_run(any_core, job.run_id)
    with refused(NOT_FOUND, "RUN_NOT_FOUND"):
        await any_core.get(job.run_id)
    with refused(NOT_FOUND, "RUN_NOT_FOUND"):
        await any_core.watch(job.run_id).read()
    with refused(NOT_FOUND, "RUN_NOT_FOUND"):
        await any_core.events(job.run_id)
    with refused(NOT_FOUND, "RUN_NOT_FOUND"):
        await delete_run(any_core, job.run_id)
    assert not (await any_core.runs.ListRuns(ListRunsRequest(), timeout=WAIT)).runs
    assert texts(await said_in(any_core)) == ["question", "answer"]
    await until_nothing_is_left(any_core)
    assert rows_of(any_core, job.run_id) == 0


async def test_an_active_run_is_not_deleted_unless_it_may_be_cancelled(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker()
    job = await any_core.started(worker)
    with refused(NOT_NOW, "RUN_ACTIVE", run_id=job.run_id):
        await delete_run(any_core, job.run_id)
    deleting = asyncio.create_task(delete_run(any_core, job.run_id, cancel=True))
    await worker.now.hears("cancel_requested")
    assert (await any_core.get(job.run_id)).cancel_requested
    await job.end()
    await deleting
    with refused(NOT_FOUND, "RUN_NOT_FOUND"):
        await any_core.get(job.run_id)


async def test_a_queued_run_is_cancelled_and_deleted_at_once(core: RunningCore) -> None:
    await core.connected_worker(credit=0)
    run = await core.create()
    await delete_run(core, run.id, cancel=True)
    with refused(NOT_FOUND, "RUN_NOT_FOUND"):
        await core.get(run.id)


async def test_who_reads_a_run_that_is_deleted_is_told_so(core: RunningCore) -> None:
    """A reader in the middle of a long log, on a stream of its own and on a shared one."""
    await core.restart(tail_run_bytes=1 << 10)
    worker = await core.connected_worker()
    job = await core.started(worker)
    for _ in range(60):
        await job.say(*("x" * 1_000 for _ in range(200)))
        await job.acked()  # a row of its own: a reader does not have the whole log in its hands
    await job.say_all()
    await core.ended(job.run_id)
    watch = core.watch(job.run_id)
    await watch.read_to(1)
    many = core.watch_many()
    await many.start(1, job.run_id)
    await many.read_to(1, 1)
    gate = core.store.hold("clear_remains")  # the rows are all there still
    await delete_run(core, job.run_id)
    with refused(NOT_FOUND, "RUN_NOT_FOUND"):
        await watch.read_to_end()
    await many.read_until_over(1)
    gate.open()

    assert watch.seen.cursor < 12_000
    assert many.parts[1][-1].error.reason == "RUN_NOT_FOUND"
    assert many.seen[1].cursor < 12_000, "the log was longer than what was under way"


async def test_a_delete_whose_answer_was_lost_may_be_repeated(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(credit=2)
    job = await any_core.started(worker)
    await job.say_all()
    await any_core.ended(job.run_id)
    any_core.store.fail("delete_run", after=True)
    with refused(grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE"):
        await delete_run(any_core, job.run_id, request_id="d1")
    await delete_run(any_core, job.run_id, request_id="d1")
    other = await any_core.started(worker)
    with refused(grpc.StatusCode.ALREADY_EXISTS, "IDEMPOTENCY_MISMATCH"):
        await delete_run(any_core, other.run_id, request_id="d1", cancel=True)
    assert not (await any_core.get(other.run_id)).cancel_requested
    await other.say_all()


async def test_a_repeated_create_does_not_bring_a_deleted_run_back(core: RunningCore) -> None:
    await core.connected_worker(credit=0)
    run = await core.create(request_id="c1")
    await delete_run(core, run.id, cancel=True)
    with refused(NOT_FOUND, "RUN_NOT_FOUND"):
        await core.create(request_id="c1")


async def test_a_run_that_takes_long_to_end_is_deleted_when_it_has(
    core: RunningCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembly, "DELETION_MARGIN", 0.1)
    await core.restart(cancel_grace=0.0)
    worker = await core.connected_worker()
    job = await core.started(worker)
    gate = core.store.hold("append")
    with refused(NOT_NOW, "RUN_ACTIVE", run_id=job.run_id):
        await delete_run(core, job.run_id, cancel=True)
    await gate.reached()
    gate.open()

    async def is_gone() -> bool:
        return rows_of(core, job.run_id) == 0

    await until(is_gone)


# ── threads ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_deleted_thread_is_not_found_and_its_id_is_free(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(credit=3)
    jobs = []
    for text in ("one", "two"):
        jobs.append(await any_core.started(worker, text, thread_id=THREAD))
        await jobs[-1].say_all("secret")
        await any_core.ended(jobs[-1].run_id)
    await delete_thread(any_core)
    for look in (get_thread, said_in):
        with refused(NOT_FOUND, "THREAD_NOT_FOUND"):
            await look(any_core)
    for job in jobs:
        with refused(NOT_FOUND, "RUN_NOT_FOUND"):
            await any_core.get(job.run_id)
    with refused(NOT_FOUND, "THREAD_NOT_FOUND"):
        await delete_thread(any_core)
    job = await any_core.started(worker, "again", thread_id=THREAD)
    assert texts(job.assignment.messages) == ["again"]
    await job.say_all()
    await until_nothing_is_left(any_core)


async def test_a_busy_thread_is_not_deleted_unless_its_runs_may_be_cancelled(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(credit=5)
    job = await any_core.started(worker, thread_id=THREAD)
    waiting = [await any_core.create(thread_id=THREAD) for _ in range(3)]
    with refused(NOT_NOW, "THREAD_BUSY", run_id=job.run_id):
        await delete_thread(any_core)
    deleting = asyncio.create_task(delete_thread(any_core, cancel=True))
    await worker.now.hears("cancel_requested")
    await job.end()
    await deleting
    assert not worker.now.has_heard("assignment"), "none of those that waited was started"
    await until_nothing_is_left(any_core)
    for run_id in (job.run_id, *(run.id for run in waiting)):
        assert rows_of(any_core, run_id) == 0
    with refused(NOT_FOUND, "THREAD_NOT_FOUND"):
        await get_thread(any_core)


async def test_runs_that_wait_for_their_time_or_for_an_answer_keep_their_thread(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(credit=2)
    job = await any_core.started(worker, thread_id=THREAD)
    await job.ask("sure")
    await job.acked()
    await any_core.reaches(job.run_id, WAITING)
    await any_core.create(thread_id="thr_2", options=RunOptions(start_time=TOMORROW))
    for thread_id in (THREAD, "thr_2"):
        with refused(NOT_NOW, "THREAD_BUSY"):
            await delete_thread(any_core, thread_id)
    deleting = asyncio.create_task(delete_thread(any_core, cancel=True))
    await worker.now.hears("cancel_requested")
    await job.end()
    await deleting
    await delete_thread(any_core, "thr_2", cancel=True)
    await until_nothing_is_left(any_core)
    for table in (*OF_RUNS, "threads", "messages", "inputs"):
        assert any_core.place.rows(f"SELECT * FROM {table}") == [], table


async def test_a_run_whose_unread_message_becomes_a_run_is_deleted_after_that(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker, thread_id=THREAD)
    await core.steer(job.run_id, "and this")
    await job.stream.hears("steered")
    gate = core.store.hold("follow_ups")
    await job.say_all()
    await core.ended(job.run_id)
    await gate.reached()
    with refused(NOT_NOW, "RUN_ACTIVE", run_id=job.run_id):
        await delete_run(core, job.run_id)
    gate.open()

    async def is_followed() -> bool:
        return core.place.rows("SELECT * FROM inbox WHERE state = 3") == []

    await until(is_followed)
    await delete_run(core, job.run_id)
    assert texts(await said_in(core)) == ["hello", "and this"]


async def test_a_thread_whose_runs_take_long_to_end_is_deleted_when_they_have(
    core: RunningCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembly, "DELETION_MARGIN", 0.1)
    await core.restart(cancel_grace=0.0)
    worker = await core.connected_worker()
    await core.started(worker, thread_id=THREAD)
    gate = core.store.hold("append")
    with refused(NOT_NOW, "THREAD_BUSY"):
        await delete_thread(core, cancel=True)
    gate.open()

    async def is_gone() -> bool:
        return core.place.rows(f"SELECT * FROM threads WHERE thread_id = '{THREAD}'") == []

    await until(is_gone)


async def test_a_client_that_goes_away_in_the_middle_has_deleted(core: RunningCore) -> None:
    await create_thread(core)
    gate = core.store.hold("delete_thread", after=True)
    call = core.threads.DeleteThread(DeleteThreadRequest(thread_id=THREAD))
    await gate.reached()
    call.cancel()
    gate.open()
    await until_nothing_is_left(core)
    await create_thread(core)


@pytest.mark.parametrize("die", [lambda core: core.crash(), lambda core: core.stop()], ids=["crash", "stop"])
async def test_what_a_core_leaves_behind_the_next_one_clears(
    any_core: RunningCore, die: Callable[[RunningCore], asyncio.Future[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletions, "MESSAGES_PER_PIECE", 2)
    worker = await any_core.connected_worker()
    job = await any_core.started(worker, thread_id=THREAD)
    await job.say_all("answer")
    await any_core.ended(job.run_id)
    gate = any_core.store.hold("clear_remains", after=True)
    deleting = asyncio.create_task(delete_thread(any_core))
    await gate.reached()
    with refused(NOT_NOW, "THREAD_BUSY"):
        await any_core.create(thread_id=THREAD)
    with refused(grpc.StatusCode.ALREADY_EXISTS, "THREAD_EXISTS", thread_id=THREAD):
        await create_thread(any_core)
    await die(any_core)
    gate.open()
    await asyncio.gather(deleting, return_exceptions=True)
    await any_core.start()
    await until_nothing_is_left(any_core)
    assert rows_of(any_core, job.run_id) == 0
    assert any_core.place.rows("SELECT * FROM messages") == []
    await create_thread(any_core)


async def test_a_store_that_is_away_is_asked_again(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker)
    await job.say_all()
    await core.ended(job.run_id)
    gate = core.store.fail("clear_remains", times=2)
    await delete_run(core, job.run_id)
    await until_nothing_is_left(core)
    assert gate.hits == 2


# ── delete × create ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_create_that_comes_first_keeps_its_thread(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker()
    await create_thread(any_core)
    gate = any_core.store.hold("delete_thread")
    deleting = asyncio.create_task(delete_thread(any_core))
    await gate.reached()
    job = await any_core.started(worker, thread_id=THREAD)
    gate.open()
    with refused(NOT_NOW, "THREAD_BUSY", run_id=job.run_id):
        await deleting
    await job.say_all("answer")
    assert texts(await said_in(any_core)) == ["hello", "answer"]


async def test_a_create_that_comes_in_between_is_cancelled_as_well(any_core: RunningCore) -> None:
    """With cancel, whatever is active when the thread is to go."""
    worker = await any_core.connected_worker(credit=2)
    job = await any_core.started(worker, thread_id=THREAD)
    tries = iter((False, True))  # the first finds the thread busy; the second is held
    gate = any_core.store.hold("delete_thread", when=lambda *_, **__: next(tries, False))
    deleting = asyncio.create_task(delete_thread(any_core, cancel=True))
    await worker.now.hears("cancel_requested")
    await job.end()
    await gate.reached()
    second = await any_core.started(worker, thread_id=THREAD)
    gate.open()
    await worker.now.hears("cancel_requested")
    await second.end()
    await deleting
    with refused(NOT_FOUND, "THREAD_NOT_FOUND"):
        await get_thread(any_core)


async def test_a_create_that_comes_later_finds_an_empty_thread(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(credit=2)
    old = await any_core.started(worker, "old", thread_id=THREAD)
    await old.say_all("old answer")
    await any_core.ended(old.run_id)
    gate = any_core.store.hold("create_run")
    creating = asyncio.create_task(any_core.create("new", thread_id=THREAD))
    await gate.reached()
    await delete_thread(any_core)
    gate.open()
    await creating
    job = await worker.take()
    assert texts(job.assignment.messages) == ["new"]
    await job.say_all()


# ── who follows ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_who_follows_a_deleted_thread_is_told_so(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker, thread_id=THREAD)
    await job.say_all()
    follower = await follow(core).read_until("run_ended")
    await follower.read_until_caught_up()
    await delete_thread(core)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await follower.read()
    assert reason_of(caught.value) == "THREAD_NOT_FOUND"
