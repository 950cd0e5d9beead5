"""Handlers that fail: tried again when that takes nothing back, with growing pauses, up to a limit (ENGINE.md D4)."""

from __future__ import annotations

import pytest

from core_service.domain.runs import FAILED, QUEUED, SUCCEEDED
from penstock.v1.event_pb2 import Event
from penstock.v1.run_pb2 import EndReason, RetryPolicy, RunError, RunOptions
from tests.core.hand_clock import HandClock
from tests.core.running_core import RunningCore
from tests.core.scripted_worker import Job

AGENT_ERROR = EndReason.END_REASON_AGENT_ERROR
BROKEN = RunError(code="BROKEN", message="It broke.", retryable=True)
FATAL = RunError(code="BROKEN", message="It broke for good.", retryable=False)
ALWAYS = RunOptions(retry_policy=RetryPolicy.RETRY_POLICY_ALWAYS)
NEVER = RunOptions(retry_policy=RetryPolicy.RETRY_POLICY_NEVER)


async def fail(job: Job, error: RunError = BROKEN) -> None:
    await job.end(AGENT_ERROR, error)
    await job.acked()


def retries(events: list[Event]) -> list[Event]:
    return [event for event in events if event.HasField("run_retrying")]


async def test_silent_failure_is_tried_again_by_the_same_worker(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(credit=2)
    job = await any_core.started(worker)
    await fail(job)
    again = await worker.take()
    assert (again.run_id, again.attempt) == (job.run_id, 2)
    await again.say_all("Second time lucky.")
    run = await any_core.ended(job.run_id)
    assert (run.state, run.attempt, any_core.place.runs()[run.id].failures) == (SUCCEEDED, 2, 1)
    [retry] = retries(await any_core.events(run.id))
    assert (retry.run_retrying.attempt, retry.run_retrying.error) == (1, BROKEN)
    assert list(retry.run_retrying.retracted_ordinals) == []
    assert not worker.now.has_heard("revoked")


async def test_run_that_fails_too_often_ends_with_its_last_error(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(credit=3)
    created = await any_core.create(options=RunOptions(max_attempts=3))
    for attempt in (1, 2, 3):
        job = await worker.take()
        assert job.attempt == attempt
        await fail(job, RunError(code=f"BROKEN_{attempt}", message="It broke.", retryable=True))
    run = await any_core.ended(created.id)
    assert (run.state, run.reason, run.error.code, run.attempt) == (FAILED, AGENT_ERROR, "BROKEN_3", 3)


@pytest.mark.parametrize(
    ("error", "options"),
    [(FATAL, None), (BROKEN, NEVER), (BROKEN, RunOptions(max_attempts=1))],
    ids=["a fatal error", "the policy never", "one attempt"],
)
async def test_some_failures_are_final(core: RunningCore, error: RunError, options: RunOptions | None) -> None:
    worker = await core.connected_worker(credit=2)
    job = await core.started(worker, options=options)
    await fail(job, error)
    run = await core.ended(job.run_id)
    assert (run.state, run.error.code, run.attempt) == (FAILED, "BROKEN", 1)


async def test_failure_after_something_was_said_is_final(core: RunningCore) -> None:
    worker = await core.connected_worker(credit=2)
    job = await core.started(worker)
    await job.say("Half a sen")
    await fail(job)
    assert (await core.ended(job.run_id)).state == FAILED


async def test_unless_the_policy_takes_it_back(core: RunningCore) -> None:
    worker = await core.connected_worker(credit=2)
    job = await core.started(worker, options=ALWAYS)
    await job.say("Half a sen")
    await fail(job)
    again = await worker.take()
    await again.say_all("A whole sentence.")
    events = await core.events(job.run_id)
    assert [list(event.run_retrying.retracted_ordinals) for event in retries(events)] == [[1]]
    snapshot = await core.snapshot(job.run_id)
    assert [message.retracted for message in snapshot.messages] == [True, False]


async def test_protocol_that_cannot_take_text_back_may_forbid_it(core: RunningCore) -> None:
    worker = await core.connected_worker(credit=2)
    options = RunOptions(retry_policy=RetryPolicy.RETRY_POLICY_ALWAYS, retry_after_output=False)
    job = await core.started(worker, options=options)
    await job.say("Half a sen")
    await fail(job)
    assert (await core.ended(job.run_id)).state == FAILED


async def test_what_a_recorded_step_said_does_not_hinder_a_retry(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(credit=2)
    job = await any_core.started(worker)
    await job.step("look", "I looked. ", result='{"found":1}')
    await fail(job)
    again = await worker.take()
    [record] = again.assignment.records
    assert (record.key, record.step.completed, record.step.result_json, record.step.args_hash) == (
        "look#1",
        True,
        '{"found":1}',
        b"h",
    )
    await again.say_all("Done.")
    events = await any_core.events(job.run_id)
    assert [list(event.run_retrying.retracted_ordinals) for event in retries(events)] == [[]]
    assert "".join(event.part_delta.text for event in events) == "I looked. Done."


async def test_records_of_a_step_outlive_the_core(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(credit=2)
    job = await any_core.started(worker)
    await job.step("look", "I looked. ", result='{"found":1}')
    await job.acked()
    await any_core.crash()
    await any_core.start()
    back = any_core.worker(worker_id=worker.worker_id)
    await back.connect(job, credit=1)
    await fail(job)
    again = await back.take()
    assert [record.key for record in again.assignment.records] == ["look#1"]
    await again.say_all("Done.")
    assert (await any_core.ended(job.run_id)).attempt == 2


async def test_pauses_between_attempts_grow(timed_core: RunningCore, clock: HandClock) -> None:
    await timed_core.restart(retry_backoff=2.0, max_retry_backoff=3.0)
    worker = await timed_core.connected_worker(credit=4)
    job = await timed_core.started(worker, options=RunOptions(max_attempts=4))
    pauses = []
    for _ in range(3):
        await fail(job)
        await timed_core.reaches(job.run_id, QUEUED)
        [*_, retry] = retries(await timed_core.events(job.run_id))
        pauses.append(retry.run_retrying.retry_time.ToMicroseconds() / 1e6 - clock.monotonic())
        await clock.forward(4.0)
        job = await worker.take()
    await job.say_all()
    assert [1.6 <= pauses[0] <= 2.4, 2.4 <= pauses[1] <= 3.6, 2.4 <= pauses[2] <= 3.6] == [True] * 3


async def test_cancelled_run_that_fails_is_cancelled(core: RunningCore) -> None:
    worker = await core.connected_worker(credit=2)
    job = await core.started(worker)
    await core.cancel(job.run_id)
    await job.stream.hears("cancel_requested")
    await fail(job)
    run = await core.ended(job.run_id)
    assert (run.reason, run.attempt) == (EndReason.END_REASON_USER, 1)
