"""Runs that are cancelled once nobody watches them, if their creator wants that (ENGINE.md D7)."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from core_service.domain.runs import CANCELLED, RUNNING, SUCCEEDED
from penstock.v1.run_pb2 import DisconnectPolicy, EndReason, RunOptions
from tests.core.hand_clock import HandClock
from tests.core.running_core import RunningCore

CANCEL = RunOptions(on_disconnect=DisconnectPolicy.DISCONNECT_POLICY_CANCEL, disconnect_grace=Duration(seconds=9))
DISCONNECTED = EndReason.END_REASON_DISCONNECTED


async def test_run_that_nobody_watches_any_more_is_cancelled(timed_core: RunningCore, clock: HandClock) -> None:
    worker = await timed_core.connected_worker()
    watch = timed_core.stream(options=CANCEL)
    job = await worker.take()
    await timed_core.until_watches(1)
    await clock.forward(60)
    assert (await timed_core.get(job.run_id)).state == RUNNING
    watch.cancel()
    await timed_core.until_watches(0)
    await clock.forward(8)
    assert not worker.now.has_heard("cancel_requested")
    await clock.forward(8)
    assert (await job.stream.hears("cancel_requested")).cancel_requested.reason == DISCONNECTED
    await job.end()
    run = await timed_core.ended(job.run_id)
    assert (run.state, run.reason) == (CANCELLED, DISCONNECTED)


async def test_one_watcher_of_many_is_enough(timed_core: RunningCore, clock: HandClock) -> None:
    worker = await timed_core.connected_worker()
    first = timed_core.stream(options=CANCEL)
    job = await worker.take()
    timed_core.watch(job.run_id)
    await timed_core.until_watches(2)
    first.cancel()
    await timed_core.until_watches(1)
    await clock.forward(60)
    await job.say_all()
    assert (await timed_core.ended(job.run_id)).state == SUCCEEDED


async def test_run_whose_core_died_with_its_watchers_is_cancelled_after_the_restart(
    timed_core: RunningCore, clock: HandClock
) -> None:
    worker = await timed_core.connected_worker()
    timed_core.stream(options=CANCEL)
    job = await worker.take()
    await timed_core.until_watches(1)
    await timed_core.crash()
    await timed_core.start()
    back = timed_core.worker(worker_id=worker.worker_id)
    await back.connect(job)
    await clock.forward(30)
    assert (await back.now.hears("cancel_requested")).cancel_requested.reason == DISCONNECTED
    await job.end()
    assert (await timed_core.ended(job.run_id)).reason == DISCONNECTED


async def test_other_runs_go_on_without_watchers(timed_core: RunningCore, clock: HandClock) -> None:
    worker = await timed_core.connected_worker()
    watch = timed_core.stream()
    job = await worker.take()
    await timed_core.until_watches(1)
    watch.cancel()
    await clock.forward(600)
    await job.say_all()
    assert (await timed_core.ended(job.run_id)).state == SUCCEEDED
