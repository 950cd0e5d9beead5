"""Streams of one worker after another: what goes on, what is revoked, what is not the worker's at all."""

from __future__ import annotations

import asyncio

import grpc

from penstock.v1.agent_pb2 import Agent
from penstock.v1.run_pb2 import EndReason, RunState
from tests.core.refusals import refused
from tests.core.running_core import RunningCore
from tests.core.scripted_worker import Job


async def test_worker_that_comes_back_goes_on_where_the_log_ends(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker()
    job = await any_core.started(worker)
    watch = any_core.watch(job.run_id)
    for piece in range(5):
        await job.say(f"{piece} ")
        await job.acked()
        await worker.cut()
        await worker.connect(job)
    await job.say_all("end")
    await watch.read_to_end()
    assert watch.seen.text == "0 1 2 3 4 end"
    assert watch.seen.kinds.count("run_started") == 1


async def test_newest_stream_of_a_worker_wins(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker()
    job = await any_core.started(worker)
    await job.say("from the old ")
    await job.acked()
    older = worker.now
    welcome = await worker.connect(job)
    assert [(held.accepted, held.revoked) for held in welcome.held] == [(1, False)]
    assert await older.over() == "WORKER_REPLACED"
    await job.say_all("and the new")
    watch = await any_core.watch(job.run_id).read_to_end()
    assert watch.seen.text == "from the old and the new"
    status = await any_core.status()
    assert [status_.worker_id for status_ in status.workers] == [worker.worker_id]


async def test_two_streams_of_one_worker_at_the_same_moment_leave_one_that_works(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker)
    await worker.cut()
    gate = core.store.hold("adopt", after=True)
    first = asyncio.create_task(worker.connect(job))
    await gate.reached()
    stuck = worker.now
    second = asyncio.create_task(worker.connect(job))
    for _ in range(10):  # on the same connection: the core has dealt with what came before
        await core.status()
    gate.open()
    await asyncio.gather(first, second)
    assert await stuck.over() == "WORKER_REPLACED"
    job.stream = worker.now
    await job.say_all("one of them goes on")
    assert len((await core.status()).workers) == 1


async def test_stream_that_breaks_while_it_is_admitted_can_be_repeated(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker()
    job = await any_core.started(worker)
    await worker.cut()
    gate = any_core.store.hold("adopt", after=True)
    connecting = asyncio.create_task(worker.connect(job))
    await gate.reached()
    await worker.cut()
    await asyncio.gather(connecting, return_exceptions=True)
    gate.open()
    welcome = await worker.connect(job)
    assert [held.revoked for held in welcome.held] == [False]
    await job.say_all("came through")


async def test_store_that_fails_while_a_worker_is_admitted_loses_nothing(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker)
    await worker.cut()
    for after in (False, True):
        core.store.fail("adopt", after=after)
        with refused(grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE"):
            await worker.connect(job)
    assert (await core.status()).workers == []
    await worker.connect(job)
    await job.say_all("came through")


async def test_run_that_ended_while_its_worker_was_away_is_revoked(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker)
    await worker.cut()
    await core.restart(cancel_grace=0.0)
    again = core.worker(worker_id=worker.worker_id)
    await again.connect(job)
    await core.cancel(job.run_id)
    await core.ended(job.run_id)
    await again.cut()
    welcome = await again.connect(job)
    assert [(held.run_id, held.revoked) for held in welcome.held] == [(job.run_id, True)]


async def test_claim_to_hold_a_run_of_another_worker_is_revoked_and_harms_nobody(any_core: RunningCore) -> None:
    """Scenario 11: a worker that slept through the loss of its runs wakes up."""
    owner = await any_core.connected_worker()
    job = await any_core.started(owner)
    stranger = any_core.worker()
    stale = Job(job.stream, job.assignment)
    welcome = await stranger.connect(stale)
    assert [(held.run_id, held.revoked) for held in welcome.held] == [(job.run_id, True)]
    await stale.say("I add nothing")
    await stranger.now.hears("revoked")
    await job.say_all("still mine")
    watch = await any_core.watch(job.run_id).read_to_end()
    assert watch.seen.text == "still mine"


async def test_unknown_run_and_earlier_attempt_are_revoked(core: RunningCore) -> None:
    worker = await core.connected_worker()
    first = await core.started(worker)
    await first.decline()
    await worker.give_credit(1)
    second = await worker.take()
    assert (second.run_id, second.attempt) == (first.run_id, 2)
    await first.say("too late")
    revoked = await worker.now.hears("revoked")
    assert (revoked.revoked.run_id, revoked.revoked.attempt) == (first.run_id, 1)
    unknown = Job(worker.now, first.assignment)
    unknown.run_id = "run_unknown"
    await unknown.say("what is this?")
    await worker.now.hears("revoked", lambda message: message.revoked.run_id == "run_unknown")
    await second.say_all("now")
    watch = await core.watch(first.run_id).read_to_end()
    assert (watch.seen.text, watch.seen.kinds.count("run_retrying")) == ("now", 1)


async def test_run_that_a_leaving_worker_hands_back_goes_on_elsewhere(any_core: RunningCore) -> None:
    leaving = await any_core.connected_worker()
    job = await any_core.started(leaving)
    await job.accept()
    await leaving.drain()
    await job.decline("DRAINING")
    staying = await any_core.connected_worker()
    again = await staying.take()
    assert (again.run_id, again.attempt) == (job.run_id, 2)
    await again.say_all("done elsewhere")
    events = await any_core.events(job.run_id)
    assert [event.run_retrying.error.code for event in events if event.HasField("run_retrying")] == ["WORKER_LEFT"]


async def test_run_of_an_agent_that_is_not_replayable_ends_when_its_worker_leaves(any_core: RunningCore) -> None:
    leaving = await any_core.connected_worker(Agent(id="echo", replayable=False))
    job = await any_core.started(leaving)
    await job.accept()
    await job.decline("DRAINING")
    run = await any_core.ended(job.run_id)
    assert (run.state, run.reason) == (RunState.RUN_STATE_CANCELLED, EndReason.END_REASON_SHUTDOWN)
