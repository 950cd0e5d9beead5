"""Workers that do not come back: their runs are retried when that takes nothing back, else they end (ENGINE.md D4)."""

from __future__ import annotations

import asyncio

from core_service.domain.runs import FAILED, QUEUED, RUNNING, SUCCEEDED
from penstock.v1.run_pb2 import EndReason, RetryPolicy, RunOptions
from tests.core.hand_clock import HandClock
from tests.core.running_core import RunningCore
from tests.core.scripted_worker import Job

WORKER_LOST = EndReason.END_REASON_WORKER_LOST
LEASE = 30.0


async def _lose(core: RunningCore, clock: HandClock, job: Job) -> None:
    """Cut the worker that holds a run, and let its lease pass."""
    await job.stream.cut()
    await _gone(core)
    await clock.forward(LEASE)


async def _gone(core: RunningCore) -> None:
    await core.until_workers(0)


async def test_run_that_said_nothing_is_tried_again(timed_core: RunningCore, clock: HandClock) -> None:
    worker = await timed_core.connected_worker()
    job = await timed_core.started(worker)
    watch = timed_core.watch(job.run_id)
    await _lose(timed_core, clock, job)
    await timed_core.reaches(job.run_id, QUEUED)
    other = await timed_core.connected_worker()
    again = await other.take()
    assert (again.run_id, again.attempt) == (job.run_id, 2)
    await again.say_all("second try")
    await watch.read_to_end()
    assert watch.seen.kinds[:4] == ["run_queued", "run_started", "run_retrying", "run_started"]
    assert (await timed_core.ended(job.run_id)).state == SUCCEEDED
    assert timed_core.place.runs()[job.run_id].failures == 1


async def test_run_that_was_heard_ends_and_its_thread_is_free_at_once(
    timed_core: RunningCore, clock: HandClock
) -> None:
    worker = await timed_core.connected_worker()
    job = await timed_core.started(worker, thread_id="t")
    watch = timed_core.watch(job.run_id)
    await job.say("half a sen")
    await job.acked()
    behind = await timed_core.create("next", thread_id="t")
    await _lose(timed_core, clock, job)
    await watch.read_to_end()
    assert watch.seen.kinds[-3:] == ["part_ended", "message_ended", "run_ended"]
    run = await timed_core.ended(job.run_id)
    assert (run.state, run.reason, run.error.code, run.error.retryable) == (FAILED, WORKER_LOST, "WORKER_LOST", True)
    other = await timed_core.connected_worker()
    following = await other.take()
    assert following.run_id == behind.id
    await following.say_all("goes on")


async def test_run_that_may_always_be_retried_takes_back_what_it_said(
    timed_core: RunningCore, clock: HandClock
) -> None:
    worker = await timed_core.connected_worker()
    always = RunOptions(retry_policy=RetryPolicy.RETRY_POLICY_ALWAYS)
    job = await timed_core.started(worker, options=always)
    await job.say("never mind")
    await job.acked()
    await _lose(timed_core, clock, job)
    await timed_core.reaches(job.run_id, QUEUED)
    again = await (await timed_core.connected_worker()).take()
    await again.say_all("better")
    events = await timed_core.events(job.run_id)
    retrying = next(event.run_retrying for event in events if event.HasField("run_retrying"))
    assert list(retrying.retracted_ordinals) == [1]
    snapshot = await timed_core.snapshot(job.run_id)
    assert [message.retracted for message in snapshot.messages] == [True, False]


async def test_run_that_must_not_be_retried_is_not(timed_core: RunningCore, clock: HandClock) -> None:
    worker = await timed_core.connected_worker(credit=2)
    never = await timed_core.started(worker, options=RunOptions(retry_policy=RetryPolicy.RETRY_POLICY_NEVER))
    once = await timed_core.started(worker, options=RunOptions(max_attempts=1))
    await _lose(timed_core, clock, never)
    for job in (never, once):
        assert (await timed_core.ended(job.run_id)).reason == WORKER_LOST


async def test_second_lost_worker_is_the_last(timed_core: RunningCore, clock: HandClock) -> None:
    """A poison run may take two workers down, not a fleet."""
    await timed_core.restart(max_attempts=10)
    first = await timed_core.connected_worker()
    job = await timed_core.started(first)
    await _lose(timed_core, clock, job)
    await timed_core.reaches(job.run_id, QUEUED)
    second = await timed_core.connected_worker()
    again = await second.take()
    await _lose(timed_core, clock, again)
    run = await timed_core.ended(job.run_id)
    assert (run.state, run.reason, run.attempt) == (FAILED, WORKER_LOST, 2)


async def test_worker_that_is_back_within_the_lease_has_lost_nothing(timed_core: RunningCore, clock: HandClock) -> None:
    worker = await timed_core.connected_worker()
    job = await timed_core.started(worker)
    for _ in range(3):
        await worker.cut()
        await _gone(timed_core)
        await clock.forward(LEASE - 1)
        await worker.connect(job)
        await clock.forward(LEASE - 1)
    await job.say_all("still here")
    assert (await timed_core.ended(job.run_id)).attempt == 1


async def test_lost_workers_of_a_core_that_is_gone_too_are_noticed_by_the_next(
    timed_core: RunningCore, clock: HandClock
) -> None:
    worker = await timed_core.connected_worker(credit=2)
    silent = await timed_core.started(worker)
    heard = await timed_core.started(worker)
    await heard.say("something")
    await heard.acked()
    await timed_core.crash()
    await timed_core.start()
    await clock.forward(LEASE - 1)
    for job in (silent, heard):
        assert (await timed_core.get(job.run_id)).state == RUNNING
    await clock.forward(5)
    assert (await timed_core.ended(heard.run_id)).reason == WORKER_LOST
    await timed_core.reaches(silent.run_id, QUEUED)
    again = await (await timed_core.connected_worker()).take()
    assert (again.run_id, again.attempt) == (silent.run_id, 2)
    await again.say_all("done")


async def test_every_run_of_a_lost_worker_is_settled(timed_core: RunningCore, clock: HandClock) -> None:
    """Scenario 8, without steps: of twenty runs ten have been heard."""
    worker = await timed_core.connected_worker(credit=20)
    jobs = [await timed_core.started(worker) for _ in range(20)]
    for job in jobs[:10]:
        await job.say("something")
        await job.acked()
    await _lose(timed_core, clock, jobs[0])
    for job in jobs[:10]:
        assert (await timed_core.ended(job.run_id)).reason == WORKER_LOST
    other = await timed_core.connected_worker(credit=20)
    for _ in jobs[10:]:
        again = await other.take()
        assert again.attempt == 2
        await again.say_all("done")
    states = [run.state for run in timed_core.place.runs().values()]
    assert (states.count(FAILED), states.count(SUCCEEDED)) == (10, 10)


async def test_store_that_was_away_makes_nobody_lost(timed_core: RunningCore, clock: HandClock) -> None:
    """While nothing could be written, nobody could say that it lives: workers get a lease of time once it is back."""
    worker = await timed_core.connected_worker()
    job = await timed_core.started(worker)
    await timed_core.crash()
    await timed_core.start()
    away = timed_core.store.fail("lost_runs", times=1_000)
    await clock.forward(2 * LEASE)
    assert away.hits > 1
    away.open()
    await clock.forward(LEASE - 10)
    assert (await timed_core.get(job.run_id)).state == RUNNING
    again = timed_core.worker(worker_id=worker.worker_id)
    await again.connect(job)
    await job.say_all("in time")


async def test_retried_run_waits_for_its_backoff(timed_core: RunningCore, clock: HandClock) -> None:
    await timed_core.restart(retry_backoff=8.0)
    worker = await timed_core.connected_worker()
    job = await timed_core.started(worker)
    await _lose(timed_core, clock, job)
    await timed_core.reaches(job.run_id, QUEUED)
    other = await timed_core.connected_worker(credit=2)
    fresh = await timed_core.started(other, "not held up by it")
    await fresh.say_all()
    assert (await timed_core.get(job.run_id)).state == QUEUED
    await clock.forward(10)
    again = await other.take()
    assert again.run_id == job.run_id
    await again.say_all()


async def test_run_whose_log_cannot_be_read_ends_and_the_core_goes_on(
    timed_core: RunningCore, clock: HandClock
) -> None:
    worker = await timed_core.connected_worker(credit=2)
    damaged = await timed_core.started(worker)
    sound = await timed_core.started(worker)
    for job in (damaged, sound):
        await job.say("said")
        await job.acked()
    await timed_core.crash()
    timed_core.place.execute(f"UPDATE segments SET data = x'ff' WHERE run_id = '{damaged.run_id}' AND last_seq = 5")
    await timed_core.start()
    again = timed_core.worker(worker_id=worker.worker_id)
    welcome = await again.connect(damaged, sound)
    assert [held.revoked for held in welcome.held] == [True, False]
    run = await timed_core.ended(damaged.run_id)
    assert (run.reason, run.error.code) == (EndReason.END_REASON_INTERNAL, "INTERNAL")
    await sound.say_all(" and done")
    timed_core.place.forget(damaged.run_id)


async def test_store_that_fails_while_a_lost_run_is_taken_loses_it_not(
    timed_core: RunningCore, clock: HandClock
) -> None:
    worker = await timed_core.connected_worker()
    job = await timed_core.started(worker)
    await timed_core.crash()
    await timed_core.start()
    taking = timed_core.store.fail("take", after=True)
    await clock.forward(LEASE + 5)
    await timed_core.until(lambda: taking.hits == 1)
    await clock.forward(1)
    await timed_core.reaches(job.run_id, QUEUED)
    again = await (await timed_core.connected_worker()).take()
    await again.say_all("done")


# ── the lease against a worker that comes back ───────────────────────────────────────────────────────────────────────


async def test_worker_that_comes_back_before_its_loss_is_stored_keeps_its_run(
    timed_core: RunningCore, clock: HandClock
) -> None:
    """The loss is decided and its append is held; the worker attaches; then the append comes, with an old fence."""
    worker = await timed_core.connected_worker()
    job = await timed_core.started(worker)
    await job.say("half a sen")
    await job.acked()
    gate = timed_core.store.hold("append")
    await _lose(timed_core, clock, job)
    await gate.reached()
    await worker.connect(job)
    gate.open()
    await job.say_all("tence.")
    run = await timed_core.ended(job.run_id)
    assert (run.state, run.attempt) == (SUCCEEDED, 1)


async def test_worker_that_comes_back_after_its_loss_was_stored_has_lost_its_run(
    timed_core: RunningCore, clock: HandClock
) -> None:
    """The worker attaches while the loss is under way, and its adoption is held until that is stored."""
    worker = await timed_core.connected_worker()
    job = await timed_core.started(worker)
    await job.say("half a sen")
    await job.acked()
    await job.stream.cut()
    await _gone(timed_core)
    gate = timed_core.store.hold("adopt")
    connecting = asyncio.create_task(worker.connect(job))
    await gate.reached()
    await clock.forward(LEASE)
    run = await timed_core.ended(job.run_id)
    gate.open()
    [held] = (await connecting).held
    assert held.revoked
    assert (run.state, run.reason) == (FAILED, WORKER_LOST)
