"""Starts: who gets a run, and what becomes of one that never reached its worker."""

from __future__ import annotations

from penstock.v1.run_pb2 import EndReason, RunState
from tests.core.running_core import RunningCore


async def test_start_that_no_worker_accepted_goes_back_at_once_and_is_no_failure(core: RunningCore) -> None:
    worker = await core.connected_worker()
    run = await core.create()
    await worker.take(accept=False)
    await worker.cut()
    await core.reaches(run.id, RunState.RUN_STATE_QUEUED)
    other = await core.connected_worker()
    job = await other.take()
    assert (job.run_id, job.attempt) == (run.id, 2)
    await job.say_all("done")
    assert core.place.runs()[run.id].failures == 0


async def test_start_whose_commit_the_core_did_not_survive_is_sent_again(any_core: RunningCore) -> None:
    """Scenario 2: the core dies between the claim's commit and the assignment."""
    worker = await any_core.connected_worker(credit=0)
    run = await any_core.create()
    gate = any_core.store.hold("claim", after=True)
    await worker.give_credit(1)
    await gate.reached()
    await any_core.crash()
    assert not worker.now.has_heard("assignment")
    await any_core.start()
    again = any_core.worker(worker_id=worker.worker_id)
    await again.connect()
    job = await again.take()
    assert (job.run_id, job.attempt) == (run.id, 1)
    await job.say_all("in the first attempt")
    assert any_core.place.runs()[run.id].failures == 0


async def test_start_whose_answer_was_lost_is_found_by_the_core_itself(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(credit=0)
    run = await any_core.create()
    any_core.store.fail("claim", after=True)
    await worker.give_credit(1)
    job = await worker.take()
    assert (job.run_id, job.attempt) == (run.id, 1)
    await job.say_all("done")


async def test_claim_that_outlives_its_worker_goes_back_to_the_queue(core: RunningCore) -> None:
    worker = await core.connected_worker(credit=0)
    run = await core.create()
    gate = core.store.hold("claim", after=True)
    await worker.give_credit(1)
    await gate.reached()
    await worker.cut()
    await core.status()
    gate.open()
    await core.reaches(run.id, RunState.RUN_STATE_QUEUED)
    other = await core.connected_worker()
    job = await other.take()
    assert (job.run_id, job.attempt) == (run.id, 2)
    await job.say_all("done")


async def test_worker_that_forgot_a_run_it_had_begun_has_lost_it(core: RunningCore) -> None:
    """The same attempt again would begin to count outputs that the log has already."""
    worker = await core.connected_worker()
    job = await core.started(worker)
    await job.say("half a ")
    await job.acked()
    await worker.cut()
    await worker.connect()
    run = await core.ended(job.run_id)
    assert run.reason == EndReason.END_REASON_WORKER_LOST


async def test_draining_worker_keeps_its_runs_and_gets_no_new_ones(core: RunningCore) -> None:
    worker = await core.connected_worker(credit=5)
    job = await core.started(worker)
    await worker.drain()
    run = await core.create()
    assert run.state == RunState.RUN_STATE_QUEUED
    status = await core.status()
    assert (status.workers[0].draining, status.queued_runs) == (True, 1)
    await job.say_all("kept")
    await worker.now.finish()
    other = await core.connected_worker()
    await (await other.take()).say_all("by the next")
