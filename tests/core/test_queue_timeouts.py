"""Runs that no worker takes: how long they wait, and when they are not taken at all (ENGINE.md D6, I4)."""

from __future__ import annotations

import grpc

from core_service.domain.runs import FAILED, QUEUED
from penstock.v1.run_pb2 import EndReason
from tests.core.hand_clock import HandClock
from tests.core.places import Place
from tests.core.refusals import refused
from tests.core.running_core import RunningCore, create_request


async def test_run_that_no_worker_takes_ends_with_queue_timeout(timed_core: RunningCore, clock: HandClock) -> None:
    worker = await timed_core.connected_worker(credit=0)
    patient = create_request()
    patient.options.queue_timeout.FromSeconds(600)
    waiting = (await timed_core.runs.CreateRun(patient)).run
    run = await timed_core.create(thread_id="t")
    behind = await timed_core.create(thread_id="t")
    await clock.forward(59)
    assert (await timed_core.get(run.id)).state == QUEUED
    await clock.forward(6)
    ended = await timed_core.ended(run.id)
    assert (ended.state, ended.reason) == (FAILED, EndReason.END_REASON_QUEUE_TIMEOUT)
    assert ended.error.retryable
    assert (await timed_core.get(waiting.id)).state == QUEUED
    assert (await timed_core.get(behind.id)).state == QUEUED, "it counts only at the head of its thread"
    await worker.give_credit(2)
    for _ in range(2):
        await (await worker.take()).say_all()


async def test_run_without_patience_and_worker_is_refused(sqlite_place: Place, clock: HandClock) -> None:
    core = RunningCore(sqlite_place, clock=clock, queue_timeout=0.0)
    await core.start()
    worker = await core.connected_worker(credit=0)
    run = await core.create("a worker is connected")
    await worker.cut()
    await core.until_workers(0)
    early = await core.create("after a start nobody is refused for a lease")
    await clock.forward(31)
    with refused(grpc.StatusCode.UNAVAILABLE, "NO_WORKER", agent_id="echo"):
        await core.create("nobody there")
    assert (await core.get(run.id)).state == QUEUED
    await clock.forward(5)
    assert (await core.ended(early.id)).reason == EndReason.END_REASON_QUEUE_TIMEOUT
    again = await core.connected_worker()
    await (await again.take()).say_all()
    await core.hang_up()
    await core.stop()
    core.check()


async def test_retried_run_gets_time_to_find_a_worker(sqlite_place: Place, clock: HandClock) -> None:
    core = RunningCore(sqlite_place, clock=clock, queue_timeout=0.0)
    await core.start()
    worker = await core.connected_worker()
    job = await core.started(worker)
    await worker.cut()
    await core.until_workers(0)
    await clock.forward(31)
    await core.reaches(job.run_id, QUEUED)
    await clock.forward(20)
    again = await (await core.connected_worker()).take()
    await again.say_all("in time")
    await core.hang_up()
    await core.stop()
    core.check()
