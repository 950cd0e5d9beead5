"""What a run may take: time that it runs, steps, tokens; and when it may begin."""

from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration

from core_service.domain.runs import CANCELLED, FAILED, QUEUED, RUNNING, SUCCEEDED, WAITING
from penstock.v1.run_pb2 import EndReason, InputAnswer, RunOptions, Usage
from penstock.v1.worker_service_pb2 import Output, StepStartedOutput
from tests.core.hand_clock import HandClock
from tests.core.running_core import RunningCore

MINUTE = Duration(seconds=60)
TIMEOUT = EndReason.END_REASON_TIMEOUT


async def test_run_that_takes_too_long_ends(timed_core: RunningCore, clock: HandClock) -> None:
    worker = await timed_core.connected_worker()
    job = await timed_core.started(worker, options=RunOptions(run_timeout=MINUTE))
    await job.say("Still here. ")
    await job.acked()
    await clock.forward(59)
    assert (await timed_core.get(job.run_id)).state == RUNNING
    await clock.forward(2)
    run = await timed_core.ended(job.run_id)
    assert (run.state, run.reason, run.error.code) == (FAILED, TIMEOUT, "TIMEOUT")
    await job.stream.hears("revoked")


async def test_time_that_a_run_waits_does_not_count(timed_core: RunningCore, clock: HandClock) -> None:
    worker = await timed_core.connected_worker()
    job = await timed_core.started(worker, options=RunOptions(run_timeout=MINUTE))
    await clock.forward(30)
    await job.ask("ask#1")
    await job.acked()
    run = await timed_core.reaches(job.run_id, WAITING)
    await clock.forward(100)
    await timed_core.answer(job.run_id, InputAnswer(input_id=run.inputs[0].id, answer_json='{"answer":"go"}'))
    await clock.forward(25)
    assert (await timed_core.get(job.run_id)).state == RUNNING
    await clock.forward(10)
    assert (await timed_core.ended(job.run_id)).reason == TIMEOUT


async def test_time_in_the_queue_does_not_count_and_a_new_attempt_has_what_is_left(
    timed_core: RunningCore, clock: HandClock
) -> None:
    run = await _queued(timed_core, RunOptions(run_timeout=MINUTE))
    await clock.forward(40)
    first = await timed_core.connected_worker()
    job = await first.take()
    await clock.forward(30)
    await job.decline()
    await timed_core.reaches(run, QUEUED)
    await clock.forward(20)
    second = await timed_core.connected_worker()
    job = await second.take()
    await clock.forward(25)
    assert (await timed_core.get(run)).state == RUNNING
    await clock.forward(10)
    assert (await timed_core.ended(run)).reason == TIMEOUT


async def _queued(core: RunningCore, options: RunOptions) -> str:
    """A run of a known agent that nobody takes yet."""
    worker = await core.connected_worker(credit=0)
    run = await core.create(options=options)
    await worker.cut()
    await core.until_workers(0)
    return run.id


async def test_deadline_outlives_the_core(timed_core: RunningCore, clock: HandClock) -> None:
    worker = await timed_core.connected_worker()
    job = await timed_core.started(worker, options=RunOptions(run_timeout=MINUTE))
    await clock.forward(40)
    await timed_core.crash()
    await timed_core.start()
    back = timed_core.worker(worker_id=worker.worker_id)
    await back.connect(job)
    await clock.forward(21)
    assert (await timed_core.ended(job.run_id)).reason == TIMEOUT


async def test_run_with_too_many_turns_ends(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker, options=RunOptions(max_steps=2))
    for number in (1, 2):
        await job.send(Output(step_started=StepStartedOutput(number=number)))
    await job.acked()
    await job.send(Output(step_started=StepStartedOutput(number=3)))
    run = await core.ended(job.run_id)
    assert (run.state, run.reason) == (FAILED, EndReason.END_REASON_MAX_STEPS)


async def test_run_over_its_budget_of_tokens_ends(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker, options=RunOptions(token_budget=100))
    await job.send(Output(usage=Usage(model="m", input_tokens=60, output_tokens=40)))
    await job.acked()
    await job.send(Output(usage=Usage(model="m", output_tokens=1)))
    run = await core.ended(job.run_id)
    assert (run.state, run.reason) == (FAILED, EndReason.END_REASON_BUDGET)


async def test_delayed_run_starts_when_it_is_due(timed_core: RunningCore, clock: HandClock) -> None:
    worker = await timed_core.connected_worker(credit=2)
    late = await timed_core.create("later", thread_id="t", options=_at(clock, 600))
    assert late.state == QUEUED
    now = await timed_core.started(worker, "now", thread_id="t")
    await now.say_all()
    await clock.forward(590)
    assert not worker.now.has_heard("assignment")
    await clock.forward(12)
    job = await worker.take()
    assert job.run_id == late.id
    await job.say_all()
    assert (await timed_core.ended(late.id)).state == SUCCEEDED


async def test_delayed_run_can_be_cancelled_before_it_is_due(timed_core: RunningCore, clock: HandClock) -> None:
    await timed_core.connected_worker()
    late = await timed_core.create(thread_id="t", options=_at(clock, 600))
    assert (await timed_core.cancel(late.id)).state == CANCELLED


def _at(clock: HandClock, seconds: float) -> RunOptions:
    options = RunOptions()
    options.start_time.FromMicroseconds(clock.now() + round(seconds * 1e6))
    return options


@pytest.mark.parametrize("seconds", [-5, 0])
async def test_start_that_lies_behind_is_now(timed_core: RunningCore, clock: HandClock, seconds: float) -> None:
    worker = await timed_core.connected_worker()
    job = await timed_core.started(worker, options=_at(clock, seconds))
    await job.say_all()
