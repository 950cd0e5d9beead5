"""Following a thread: all events of its runs in order, from any cursor, live, over deletions and restarts."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from core_service.engine.thread_watch import ThreadHub
from core_service.rpc import watch_thread
from penstock.v1.event_pb2 import Event
from penstock.v1.run_pb2 import RunOptions
from tests.core.hand_clock import HandClock
from tests.core.refusals import refused
from tests.core.running_core import RunningCore
from tests.core.scripted_worker import Job, ScriptedWorker
from tests.core.threads import THREAD, Follower, create_thread, delete_run, follow

NOT_FOUND = grpc.StatusCode.NOT_FOUND


@pytest.fixture
async def worker(core: RunningCore) -> ScriptedWorker:
    return await core.connected_worker(credit=10)


async def three_runs(core: RunningCore, worker: ScriptedWorker) -> list[str]:
    """Three ended runs that said `1.1 1.2 `, `2.1 2.2 ` …"""
    ids = []
    for number in (1, 2, 3):
        job = await core.started(worker, thread_id=THREAD)
        await job.say_all(f"{number}.1 ", f"{number}.2 ")
        await core.ended(job.run_id)
        ids.append(job.run_id)
    return ids


async def all_events(core: RunningCore, run_ids: list[str]) -> list[tuple[str, Event]]:
    return [(run_id, event) for run_id in run_ids for event in await core.events(run_id)]


# ── history and live ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_history_is_all_runs_in_order_and_then_it_is_live(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(credit=10)
    ids = await three_runs(any_core, worker)
    follower = await follow(any_core).read_until_caught_up()
    assert follower.seen == await all_events(any_core, ids)
    assert follower.caught_up_at == [len(follower.seen)]
    job = await any_core.started(worker, thread_id=THREAD)
    await follower.read_until("run_started", times=4)
    await job.say("live ")
    await follower.read_until("part_delta", times=7)
    await job.say_all()
    await follower.read_until("run_ended", times=4)
    assert follower.seen == await all_events(any_core, [*ids, job.run_id])
    assert len(set(follower.cursors)) == len(follower.cursors)
    assert follower.caught_up_at == [len(follower.seen) - len(await any_core.events(job.run_id))]


async def test_a_resume_behind_any_event_brings_exactly_the_rest(core: RunningCore, worker: ScriptedWorker) -> None:
    ids = await three_runs(core, worker)
    whole = await follow(core).read_until_caught_up()
    for position, cursor in enumerate(whole.cursors, 1):
        follower = await follow(core, cursor).read_until_caught_up()
        assert follower.seen == whole.seen[position:], cursor
        assert follower.cursor == whole.cursor
    assert list(whole.seqs) == ids


async def test_a_thread_without_runs_is_followed_from_its_beginning(core: RunningCore, worker: ScriptedWorker) -> None:
    await create_thread(core)
    follower = await follow(core).read_until_caught_up()
    assert (follower.seen, follower.cursor) == ([], "")
    job = await core.started(worker, thread_id=THREAD)
    await job.say_all("first")
    await follower.read_until("run_ended")
    assert follower.seen == await all_events(core, [job.run_id])


async def test_a_live_run_is_the_end_of_the_history(core: RunningCore, worker: ScriptedWorker) -> None:
    job = await core.started(worker, thread_id=THREAD)
    await job.say("so far ")
    await job.acked()
    waiting = await core.create(thread_id=THREAD)
    follower = await follow(core).read_until_caught_up()
    assert list(follower.seqs) == [job.run_id]
    assert follower.text == "so far "
    await job.say_all()
    await follower.read_until("run_started", times=2)
    assert list(follower.seqs) == [job.run_id, waiting.id], "what waits comes when its turn comes"
    await (await worker.take()).say_all()


async def test_a_run_that_was_cancelled_while_it_waited_comes_in_its_place(
    core: RunningCore, worker: ScriptedWorker
) -> None:
    job = await core.started(worker, thread_id=THREAD)
    second, third = [await core.create(thread_id=THREAD) for _ in range(2)]
    await core.cancel(second.id)
    follower = follow(core)
    await job.say_all()
    await (await worker.take()).say_all()
    await follower.read_until("run_ended", times=3)
    assert list(follower.seqs) == [job.run_id, second.id, third.id]


async def test_many_followers_see_the_same(core: RunningCore, worker: ScriptedWorker) -> None:
    await create_thread(core)
    followers = [await follow(core).read_until_caught_up() for _ in range(20)]
    ids = await three_runs(core, worker)
    expected = await all_events(core, ids)
    for follower in followers:
        assert (await follower.read_until("run_ended", times=3)).seen == expected


async def test_who_follows_and_goes_away_leaves_nothing_behind(core: RunningCore, worker: ScriptedWorker) -> None:
    job = await core.started(worker, thread_id=THREAD)
    follower = await follow(core).read_until_caught_up()
    await core.until_watches(1)
    follower.cancel()
    await core.until_watches(0)
    await job.say_all()


# ── what wakes ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_new_run_wakes_its_followers_by_itself(timed_core: RunningCore) -> None:
    """The clock stands still: nobody looks into the store."""
    worker = await timed_core.connected_worker()
    await create_thread(timed_core)
    follower = await follow(timed_core).read_until_caught_up()
    looks = len(timed_core.store.calls_of("newest_places"))
    job = await timed_core.started(worker, thread_id=THREAD)
    await follower.read_until("run_started")
    await job.say_all()
    assert len(timed_core.store.calls_of("newest_places")) == looks


async def test_a_run_whose_ring_is_lost_is_found_within_a_second(
    timed_core: RunningCore, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = await timed_core.connected_worker()
    await create_thread(timed_core)
    followers = [await follow(timed_core).read_until_caught_up() for _ in range(5)]
    monkeypatch.setattr(ThreadHub, "ring", lambda *_: None)
    job = await timed_core.started(worker, thread_id=THREAD)
    looks = len(timed_core.store.calls_of("newest_places"))
    await clock.forward(1.1)
    for follower in followers:
        await follower.read_until("run_started")
    assert len(timed_core.store.calls_of("newest_places")) == looks + 1, "one look for all"
    await job.say_all()


async def test_a_run_that_comes_between_the_look_and_the_rest_is_not_missed(timed_core: RunningCore) -> None:
    """Watch × new run: the store has just said that there is none."""
    worker = await timed_core.connected_worker()
    await create_thread(timed_core)
    gate = timed_core.store.hold("next_runs", after=True)
    follower = follow(timed_core)
    reading = asyncio.create_task(follower.read_until("run_started"))
    await gate.reached()
    job = await timed_core.started(worker, thread_id=THREAD)
    gate.open()
    await reading
    await job.say_all()


async def test_a_delayed_run_is_shown_once_it_is_due(timed_core: RunningCore, clock: HandClock) -> None:
    worker = await timed_core.connected_worker(credit=2)
    options = RunOptions()
    options.start_time.FromMicroseconds(clock.now() + 60_000_000)
    delayed = await timed_core.create("later", thread_id=THREAD, options=options)
    now = await timed_core.started(worker, "now", thread_id=THREAD)
    await now.say_all()
    follower = await follow(timed_core).read_until_caught_up()
    assert list(follower.seqs) == [now.run_id]
    await clock.forward(70)
    await (await worker.take()).say_all()
    await follower.read_until("run_ended", times=2)
    assert list(follower.seqs) == [now.run_id, delayed.id]


async def test_silence_is_filled_with_progress(
    core: RunningCore, worker: ScriptedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_thread, "PROGRESS_SECONDS", 0.02)
    ids = await three_runs(core, worker)
    follower = await follow(core).read_until_caught_up()
    cursor = follower.cursor
    for _ in range(3):
        message = await follower.read()
        assert (list(message.events), message.cursor, message.caught_up) == ([], cursor, False)
    assert list(follower.seqs) == ids


# ── deletions and expiry ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_deleted_runs_are_passed_over(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(credit=10)
    first, second, third = await three_runs(any_core, worker)
    whole = await follow(any_core).read_until_caught_up()
    await delete_run(any_core, second)
    follower = await follow(any_core).read_until_caught_up()
    assert list(follower.seqs) == [first, third]
    in_second = next(cursor for cursor, (run_id, _) in zip(whole.cursors, whole.seen, strict=True) if run_id == second)
    follower = await follow(any_core, in_second).read_until_caught_up()
    assert list(follower.seqs) == [third]
    await delete_run(any_core, third)
    follower = await follow(any_core, in_second).read_until_caught_up()
    assert (follower.seen, follower.cursor) == ([], in_second)
    job = await any_core.started(worker, thread_id=THREAD)
    await job.say_all()
    await follower.read_until("run_ended")
    assert list(follower.seqs) == [job.run_id]


async def test_a_run_that_is_deleted_before_its_turn_comes_is_passed_over(
    core: RunningCore, worker: ScriptedWorker
) -> None:
    """The follower knows already that it is the next one."""
    job = await core.started(worker, thread_id=THREAD)
    second, third = [await core.create(thread_id=THREAD) for _ in range(2)]
    follower = await follow(core).read_until_caught_up()
    await delete_run(core, second.id, cancel=True)
    await job.say_all()
    await (await worker.take()).say_all()
    await follower.read_until("run_ended", times=2)
    assert list(follower.seqs) == [job.run_id, third.id]


async def test_expired_events_are_passed_over_unless_a_cursor_names_them(
    core: RunningCore, worker: ScriptedWorker
) -> None:
    ids = await three_runs(core, worker)
    whole = await follow(core).read_until_caught_up()
    expected = await all_events(core, ids)
    await core.stop()
    for run_id in ids[:2]:
        last = whole.seqs[run_id][-1]
        core.place.execute(
            f"UPDATE heads SET oldest_seq = {last + 1} WHERE run_id = '{run_id}'",
            f"DELETE FROM segments WHERE run_id = '{run_id}'",
        )
    await core.start()
    follower = await follow(core).read_until_caught_up()
    assert follower.seen == [(run_id, event) for run_id, event in expected if run_id == ids[2]]
    oldest = str(whole.seqs[ids[0]][-1] + 1)
    with refused(grpc.StatusCode.OUT_OF_RANGE, "EVENTS_EXPIRED", oldest_seq=oldest):
        await follow(core, whole.cursors[0]).read()
    at_the_end = await follow(core, whole.cursors[len(whole.seqs[ids[0]]) - 1]).read_until_caught_up()
    assert list(at_the_end.seqs) == [ids[2]]
    for run_id in ids[:2]:
        core.place.forget(run_id)


async def test_events_that_expire_while_a_run_is_in_memory_are_passed_over(core: RunningCore) -> None:
    """Memory knows where the log ends, and not where it begins by now."""
    await core.restart(tail_run_bytes=1 << 10)
    worker = await core.connected_worker()
    job = await core.started(worker, thread_id=THREAD)
    for _ in range(3):
        await job.say("x" * 2_000)
        await job.acked()
    await job.say_all()
    await core.ended(job.run_id)
    expected = await core.events(job.run_id)
    rows = core.place.rows(f"SELECT first_seq FROM segments WHERE run_id = '{job.run_id}' ORDER BY first_seq")
    oldest = rows[2][0]
    core.place.execute(
        f"DELETE FROM segments WHERE run_id = '{job.run_id}' AND last_seq < {oldest}",
        f"UPDATE heads SET oldest_seq = {oldest} WHERE run_id = '{job.run_id}'",
    )
    follower = await follow(core).read_until_caught_up()
    assert [event for _, event in follower.seen] == expected[oldest - 1 :]
    with refused(grpc.StatusCode.OUT_OF_RANGE, "EVENTS_EXPIRED", oldest_seq=str(oldest)):
        await follow(core, "1-1").read()


# ── refusals, restarts ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_thread_or_a_cursor_that_is_not_there_is_told(core: RunningCore, worker: ScriptedWorker) -> None:
    await three_runs(core, worker)
    with refused(NOT_FOUND, "THREAD_NOT_FOUND", thread_id="thr_nowhere"):
        await follow(core, thread_id="thr_nowhere").read()
    for cursor in ("x", "1", "1-", "-1", "1-2-3", " 1-2", "1-٣", "9" * 30 + "-1"):
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", field="after"):
            await follow(core, cursor).read()
    for cursor in ("4-1", "1-99"):
        with refused(grpc.StatusCode.OUT_OF_RANGE, "CURSOR_AHEAD"):
            await follow(core, cursor).read()


async def test_a_draining_core_ends_the_stream_and_the_next_one_goes_on(
    core: RunningCore, worker: ScriptedWorker
) -> None:
    await three_runs(core, worker)
    resting = await follow(core).read_until_caught_up()
    job = await core.started(worker, thread_id="thr_live")
    live = await follow(core, thread_id="thr_live").read_until_caught_up()
    stopping = asyncio.create_task(core.drain())
    for follower in (resting, live):
        with refused(grpc.StatusCode.UNAVAILABLE, "CORE_DRAINING"):
            while True:
                await follower.read()
    await stopping
    await core.start()
    again = core.worker(worker_id=worker.worker_id)
    await again.connect(job, credit=5)
    await job.say_all("after the restart")
    await follow_on(core, live, "thr_live").read_until("run_ended")
    more = await core.started(again, thread_id=THREAD)
    await more.say_all()
    rest = await follow_on(core, resting, THREAD).read_until("run_ended")
    assert list(rest.seqs) == [more.run_id]


def follow_on(core: RunningCore, follower: Follower, thread_id: str) -> Follower:
    return follow(core, follower.cursor, thread_id)


async def test_a_crash_is_a_pause(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker()
    job: Job = await any_core.started(worker, thread_id=THREAD)
    await job.say("before ")
    await job.acked()
    follower = await follow(any_core).read_until_caught_up()
    await any_core.crash()
    await any_core.start()
    again = any_core.worker(worker_id=worker.worker_id)
    await again.connect(job)
    await job.say_all("after ")
    rest = await follow(any_core, follower.cursor).read_until("run_ended")
    assert follower.text + rest.text == "before after "
    assert follower.seen + rest.seen == await all_events(any_core, [job.run_id])
