"""Draining and starting again: nothing is cancelled, nothing is lost, and everybody is told (ENGINE.md K1)."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from core_service.domain.runs import QUEUED, RUNNING, SUCCEEDED
from penstock.v1.run_service_pb2 import WaitRunRequest, WatchRunRequest
from penstock.v1.thread_service_pb2 import CreateThreadRequest
from penstock.v1.worker_service_pb2 import Output
from tests.core.faults import WAIT
from tests.core.places import Place
from tests.core.refusals import refused
from tests.core.running_core import RunningCore
from tests.core.scripted_worker import end_output

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


async def test_run_goes_on_after_a_restart_in_its_first_attempt(any_core: RunningCore) -> None:
    """Scenario 1, drained instead of killed: the watch ends behind the last committed event and goes on there."""
    worker = await any_core.connected_worker()
    job = await any_core.started(worker)
    watch = any_core.watch(job.run_id)
    await job.say("before ")
    await job.acked()
    stopping = asyncio.create_task(any_core.drain())
    await worker.now.hears("draining")
    await job.say("meanwhile ")
    await job.acked()
    await worker.now.finish()
    with refused(UNAVAILABLE, "CORE_DRAINING"):
        await watch.read_to_end()
    await stopping
    stored = any_core.place.runs()[job.run_id]
    assert (watch.seen.cursor, stored.state, stored.owner) == (stored.last_seq, RUNNING, None)
    await any_core.start()
    again = any_core.worker(worker_id=worker.worker_id)
    welcome = await again.connect(job)
    assert [(held.accepted, held.revoked) for held in welcome.held] == [(2, False)]
    rest = any_core.watch(job.run_id, watch.seen.cursor)
    await job.say_all("after")
    await rest.read_to_end()
    assert watch.seen.text + rest.seen.text == "before meanwhile after"
    assert (await any_core.get(job.run_id)).attempt == 1


async def test_fifty_runs_survive_ten_crashes(any_core: RunningCore) -> None:
    """Scenario 1 in one process: whatever the core did not acknowledge is sent again, and the text is exact."""
    pieces = [f"{number} " for number in range(60)]
    await any_core.restart(drain_timeout=0.01)
    worker = await any_core.connected_worker(credit=50)
    jobs = [await any_core.started(worker) for _ in range(50)]
    for life in range(10):
        for job in jobs:
            await job.send(*_texts(pieces[job.last : 6 * (life + 1)]))
        await jobs[0].acked(6 * life + 1)
        await any_core.crash()
        await any_core.start()
        worker = any_core.worker(worker_id=worker.worker_id)
        welcome = await worker.connect(*jobs)
        assert not any(held.revoked for held in welcome.held)
        for job, held in zip(jobs, welcome.held, strict=True):
            job.last = held.accepted
    for job in jobs:
        await job.say_all(*pieces[job.last :])
    stored = any_core.place.runs()
    for job in jobs:
        text = "".join(event.part_delta.text for event in stored[job.run_id].events)
        assert text == "".join(pieces)
        assert (stored[job.run_id].attempt, stored[job.run_id].state) == (1, SUCCEEDED)


async def test_draining_core_refuses_what_is_new_and_finishes_what_is_old(core: RunningCore) -> None:
    worker = await core.connected_worker(credit=5)
    job = await core.started(worker)
    waiting = asyncio.ensure_future(core.runs.WaitRun(WaitRunRequest(run_id=job.run_id)))
    many = core.watch_many()
    await many.start(1, job.run_id)
    await many.read_to(1, 2)
    stopping = asyncio.create_task(core.drain())
    await worker.now.hears("draining")
    assert await core.health() == "NOT_SERVING"
    assert (await core.status()).draining
    with refused(UNAVAILABLE, "CORE_DRAINING"):
        await core.create()
    with refused(UNAVAILABLE, "CORE_DRAINING"):
        await core.threads.CreateThread(CreateThreadRequest())
    with refused(UNAVAILABLE, "CORE_DRAINING"):
        await core.worker().connect()
    assert (await core.get(job.run_id)).state == RUNNING
    await job.say("the last words")
    await job.acked()
    await worker.now.finish()
    with refused(UNAVAILABLE, "CORE_DRAINING"):
        await waiting
    with refused(UNAVAILABLE, "CORE_DRAINING"):
        while await many.read() is not None:
            pass
    assert many.seen[1].cursor == 5
    await stopping
    await core.start()
    await core.worker(worker_id=worker.worker_id).connect(job)
    await job.say_all()


async def test_drain_ends_within_its_time_though_the_worker_stays_and_the_store_hangs(sqlite_place: Place) -> None:
    core = RunningCore(sqlite_place, drain_timeout=0.2)
    await core.start()
    worker = await core.connected_worker()
    job = await core.started(worker)
    gate = core.store.hold("append")
    await job.say("never stored")
    await gate.reached()
    async with asyncio.timeout(5):
        await core.stop()
    await core.start()
    again = core.worker(worker_id=worker.worker_id)
    welcome = await again.connect(job)
    assert [held.accepted for held in welcome.held] == [0]
    await job.send(*_texts(["never lost"]), end_output(), first=1)
    await job.acked()
    await core.hang_up()
    await core.stop()
    core.check()


async def test_drain_while_the_store_is_away_is_quiet(core: RunningCore) -> None:
    core.store.fail("remove_core")
    await core.restart()
    assert (await core.status()).store_available


async def test_assignment_that_a_draining_worker_did_not_take_is_queued(core: RunningCore) -> None:
    worker = await core.connected_worker()
    run = await core.create()
    await worker.take(accept=False)
    await core.hang_up()
    await core.restart()
    await core.reaches(run.id, QUEUED)
    other = await core.connected_worker()
    job = await other.take()
    assert (job.run_id, job.attempt) == (run.id, 2)
    await job.say_all()
    assert core.place.runs()[run.id].failures == 0


async def test_queued_runs_wait_over_a_restart(core: RunningCore) -> None:
    worker = await core.connected_worker(credit=0)
    runs = [await core.create(str(number), thread_id="t") for number in range(3)]
    await worker.cut()
    await core.restart()
    other = await core.connected_worker(credit=3)
    for run in runs:
        job = await other.take()
        assert job.run_id == run.id
        await job.say_all()


async def test_second_core_on_the_same_file_is_refused_and_names_the_first(core: RunningCore) -> None:
    second = RunningCore(core.place)
    with pytest.raises(Exception, match=core.core.core_id):
        await second.start()
    job = await core.started(await core.connected_worker())
    await job.say_all("unharmed")


async def test_two_cores_start_at_once_on_an_empty_database(any_place: Place) -> None:
    """Scenario 25: on SQLite one of them is refused, on PostgreSQL both serve."""
    cores = [RunningCore(any_place), RunningCore(any_place)]
    results = await asyncio.gather(*(core.start() for core in cores), return_exceptions=True)
    serving = [core for core, result in zip(cores, results, strict=True) if result is None]
    assert len(serving) == (2 if any_place.database_url else 1), results
    for core in serving:
        job = await core.started(await core.connected_worker())
        await job.say_all()
        await core.hang_up()
        await core.stop()


async def test_watch_from_a_cursor_over_a_restart_joins(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker)
    await job.say_all("one ", "two ", "three")
    whole = await core.watch(job.run_id).read_to_end()
    await worker.cut()
    await core.restart()
    for after in range(whole.seen.cursor + 1):
        part = await core.watch(job.run_id, after).read_to_end()
        assert part.seen.events == whole.seen.events[after:]


async def test_wait_returns_when_the_run_ends_or_time_is_up(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker)
    request = WaitRunRequest(run_id=job.run_id)
    request.timeout.FromMilliseconds(10)
    assert (await core.runs.WaitRun(request)).run.state == RUNNING
    request.timeout.FromSeconds(round(WAIT))
    waiting = asyncio.ensure_future(core.runs.WaitRun(request))
    await job.say_all()
    assert (await waiting).run.state == SUCCEEDED
    request.timeout.FromMilliseconds(0)
    assert (await core.runs.WaitRun(request)).run.state == SUCCEEDED
    request.timeout.FromSeconds(-1)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", field="timeout"):
        await core.runs.WaitRun(request)


async def test_watch_that_opens_while_the_core_drains_is_refused(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker)
    await job.say_all()
    gate = core.store.hold("remove_core")
    stopping = asyncio.create_task(core.drain())
    await worker.now.hears("draining")
    await worker.now.finish()
    await gate.reached()
    with pytest.raises(grpc.aio.AioRpcError):
        await core.runs.WatchRun(WatchRunRequest(run_id=job.run_id)).read()
    gate.open()
    await stopping


def _texts(pieces: list[str]) -> list[Output]:
    return [Output(text=piece) for piece in pieces]
