"""Questions of runs: asked, answered, declined, expired, withdrawn; with and without somebody who holds the run."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from core_service.domain.runs import CANCELLED, FAILED, QUEUED, RUNNING, SUCCEEDED, WAITING
from penstock.v1.run_pb2 import EndReason, ExpiryAction, InputAnswer, InputKind, InputOutcome
from penstock.v1.run_service_pb2 import InputState
from tests.core.hand_clock import HandClock
from tests.core.refusals import reason_of, refused
from tests.core.running_core import RunningCore
from tests.core.scripted_worker import Job, agent

APPROVAL = InputKind.INPUT_KIND_APPROVAL
ANSWERED = InputOutcome.INPUT_OUTCOME_ANSWERED
DECLINED = InputOutcome.INPUT_OUTCOME_DECLINED
EXPIRED = InputOutcome.INPUT_OUTCOME_EXPIRED
WITHDRAWN = InputOutcome.INPUT_OUTCOME_WITHDRAWN
LEASE = 30.0
MINUTE = Duration(seconds=60)


def yes(input_id: str) -> InputAnswer:
    return InputAnswer(input_id=input_id, answer_json='{"approved": true}')


async def asking(core: RunningCore, *keys: str, **fields: Any) -> tuple[Job, list[str]]:
    """A run that waits, and the ids of its questions by the order of their keys."""
    worker = await core.connected_worker()
    job = await core.started(worker)
    await job.say("I need a yes. ")
    for key in keys or ("ask#1",):
        await job.ask(key, kind=APPROVAL, **fields)
    await job.acked()
    run = await core.reaches(job.run_id, WAITING)
    return job, [question.id for question in run.inputs]


# ── answers to a run that a worker holds ─────────────────────────────────────────────────────────────────────────────


async def test_answer_reaches_the_handler_and_the_run_goes_on(any_core: RunningCore) -> None:
    job, (question,) = await asking(any_core)
    watch = any_core.watch(job.run_id)
    [found] = await any_core.inputs()
    assert (found.run_id, found.request.id, found.request.kind) == (job.run_id, question, APPROVAL)
    run = await any_core.answer(job.run_id, yes(question), answered_by="ada", origin_json='{"leg": 1}')
    assert (run.state, run.leg, list(run.inputs)) == (RUNNING, 1, [])
    told = await job.answered()
    assert (told.key, told.answer.outcome, told.answer.answer_json) == ("ask#1", ANSWERED, '{"approved":true}')
    await job.say_all("Thank you.")
    await watch.read_to_end()
    assert watch.seen.kinds[-11:] == [
        "input_requested",
        "message_ended",
        "run_waiting",
        "input_resolved",
        "run_resumed",
        "message_started",
        "part_started",
        "part_delta",
        "part_ended",
        "message_ended",
        "run_ended",
    ]
    resumed = next(event.run_resumed for event in watch.seen.events if event.HasField("run_resumed"))
    assert (resumed.leg, resumed.origin_json) == (1, '{"leg":1}')
    [settled] = await any_core.inputs(InputState.INPUT_STATE_SETTLED)
    assert (settled.outcome, settled.answered_by, settled.HasField("resolve_time")) == (ANSWERED, "ada", True)
    assert await any_core.inputs() == []


async def test_with_two_questions_open_each_answer_is_handed_over_at_once(core: RunningCore) -> None:
    job, (first, second) = await asking(core, "a", "b")
    assert (await core.answer(job.run_id, yes(second))).state == WAITING
    assert (await job.answered()).key == "b"
    assert (await core.answer(job.run_id, yes(first))).state == RUNNING
    assert (await job.answered()).key == "a"
    await job.say_all()


async def test_handler_that_speaks_after_the_first_answer_resumes_the_run(core: RunningCore) -> None:
    job, (first, _) = await asking(core, "a", "b")
    await core.answer(job.run_id, yes(first))
    await job.say("One of two. ")
    await job.acked()
    assert (await core.get(job.run_id)).state == RUNNING
    await job.say_all("Enough.")
    run = await core.ended(job.run_id)
    assert (run.state, run.leg) == (SUCCEEDED, 2)  # the second question was another pause
    settled = await core.inputs(InputState.INPUT_STATE_SETTLED)
    assert [found.outcome for found in settled] == [ANSWERED, WITHDRAWN]


async def test_several_answers_are_one_transaction(any_core: RunningCore) -> None:
    job, (first, second) = await asking(any_core, "a", "b")
    with refused(grpc.StatusCode.NOT_FOUND, "INPUT_NOT_FOUND", input_id="inp_unknown"):
        await any_core.answer(job.run_id, yes(first), yes("inp_unknown"))
    assert len(await any_core.inputs()) == 2
    assert (await any_core.answer(job.run_id, yes(first), yes(second))).state == RUNNING
    await job.say_all()


async def test_no_is_an_answer(core: RunningCore) -> None:
    job, (question,) = await asking(core)
    await core.answer(job.run_id, InputAnswer(input_id=question, outcome=DECLINED))
    assert (await job.answered()).answer.outcome == DECLINED
    await job.say_all()


@pytest.mark.parametrize("answer", ['{"approved": "yes"}', "{}", "[1", ""])
async def test_answer_that_does_not_fit_is_refused_and_the_question_stays(core: RunningCore, answer: str) -> None:
    job, (question,) = await asking(core)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ANSWER", input_id=question):
        await core.answer(job.run_id, InputAnswer(input_id=question, answer_json=answer))
    assert [found.request.id for found in await core.inputs()] == [question]
    await core.answer(job.run_id, yes(question))
    await job.say_all()


async def test_second_answer_is_refused_with_what_came_of_the_first(any_core: RunningCore) -> None:
    job, (question,) = await asking(any_core)
    await any_core.answer(job.run_id, yes(question))
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "INPUT_ANSWERED", input_id=question, outcome="answered"):
        await any_core.answer(job.run_id, InputAnswer(input_id=question, outcome=DECLINED))
    await job.say_all()
    await any_core.ended(job.run_id)
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "INPUT_ANSWERED", input_id=question, outcome="answered"):
        await any_core.answer(job.run_id, InputAnswer(input_id=question, outcome=DECLINED))


async def test_repeated_answer_is_one_answer_also_after_a_restart(any_core: RunningCore) -> None:
    job, (question,) = await asking(any_core)
    await any_core.answer(job.run_id, yes(question), request_id="once")
    assert (await any_core.answer(job.run_id, yes(question), request_id="once")).state == RUNNING
    with refused(grpc.StatusCode.ALREADY_EXISTS, "IDEMPOTENCY_MISMATCH"):
        await any_core.answer(job.run_id, InputAnswer(input_id=question, outcome=DECLINED), request_id="once")
    await any_core.crash()
    await any_core.start()
    await any_core.answer(job.run_id, yes(question), request_id="once")
    worker = any_core.worker(worker_id=any_core.workers[0].worker_id)
    await worker.connect(job)
    await job.say_all()


async def test_two_answers_at_once_have_one_winner(any_core: RunningCore) -> None:
    job, (question,) = await asking(any_core)
    answers = [any_core.answer(job.run_id, yes(question), answered_by=str(n)) for n in range(8)]
    results = await asyncio.gather(*answers, return_exceptions=True)
    refusals = [reason_of(result) for result in results if isinstance(result, grpc.RpcError)]
    assert refusals == ["INPUT_ANSWERED"] * 7
    await job.say_all()
    events = await any_core.events(job.run_id)
    assert sum(event.HasField("input_resolved") for event in events) == 1


# ── nobody holds the run ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_released_run_is_queued_by_its_answer_and_goes_on_elsewhere(any_core: RunningCore) -> None:
    job, (question,) = await asking(any_core)
    watch = any_core.watch(job.run_id)
    await job.release()
    await any_core.until(lambda: any_core.place.runs()[job.run_id].owner is None)
    other = await any_core.connected_worker()
    run = await any_core.answer(job.run_id, yes(question))
    assert run.state in (QUEUED, RUNNING)
    again = await other.take()
    assert (again.run_id, again.attempt) == (job.run_id, 2)
    [record] = again.assignment.records
    assert (record.key, record.answer.outcome, record.answer.answer_json) == ("ask#1", ANSWERED, '{"approved":true}')
    await again.say_all("Thank you.")
    await watch.read_to_end()
    assert watch.seen.text == "I need a yes. Thank you."
    assert [kind for kind in watch.seen.kinds if kind.startswith("run_")] == [
        "run_queued",
        "run_started",
        "run_waiting",
        "run_resumed",
        "run_started",
        "run_ended",
    ]
    assert any_core.place.runs()[job.run_id].failures == 0


async def test_waiting_run_outlives_core_and_worker(core: RunningCore) -> None:
    job, (question,) = await asking(core)
    await core.crash()
    await core.start(lease=0.2)
    assert [found.request.id for found in await core.inputs()] == [question]
    await core.answer(job.run_id, yes(question))
    other = await core.connected_worker()
    again = await other.take()
    assert (again.run_id, again.attempt, len(again.assignment.records)) == (job.run_id, 2, 1)
    await again.say_all("Back.")
    run = await core.ended(job.run_id)
    assert (run.state, run.leg, core.place.runs()[job.run_id].failures) == (SUCCEEDED, 1, 0)


async def test_lost_worker_of_a_waiting_run_takes_nothing_away(timed_core: RunningCore, clock: HandClock) -> None:
    job, (question,) = await asking(timed_core)
    await job.stream.cut()
    await timed_core.until_workers(0)
    await clock.forward(LEASE + 1)
    await timed_core.until(lambda: timed_core.place.runs()[job.run_id].owner is None)
    assert (await timed_core.get(job.run_id)).state == WAITING
    other = await timed_core.connected_worker()
    await timed_core.answer(job.run_id, yes(question))
    again = await other.take()
    await again.say_all()
    assert timed_core.place.runs()[job.run_id].failures == 0


async def test_lost_worker_of_a_waiting_run_ends_it_when_its_agent_cannot_be_replayed(
    timed_core: RunningCore, clock: HandClock
) -> None:
    worker = await timed_core.connected_worker(agent("echo", replayable=False))
    job = await timed_core.started(worker)
    await job.ask("ask#1")
    await job.acked()
    await job.stream.cut()
    await timed_core.until_workers(0)
    await clock.forward(LEASE + 1)
    run = await timed_core.ended(job.run_id)
    assert (run.state, run.reason) == (FAILED, EndReason.END_REASON_WORKER_LOST)


async def test_worker_that_comes_back_hears_the_answer_that_it_missed(core: RunningCore) -> None:
    job, (question,) = await asking(core)
    await job.stream.cut()
    await core.until_workers(0)
    await core.answer(job.run_id, yes(question))
    await core.workers[0].connect(job)
    assert (await job.answered()).key == "ask#1"
    await job.say_all()


async def test_question_that_is_known_is_attached_to(core: RunningCore) -> None:
    job, (question,) = await asking(core)
    await job.release()
    await core.until(lambda: core.place.runs()[job.run_id].owner is None)
    await core.answer(job.run_id, yes(question))
    await core.workers[0].give_credit(1)
    again = await core.workers[0].take()
    await again.ask("ask#1")
    await again.say_all()
    events = await core.events(job.run_id)
    assert sum(event.HasField("input_requested") for event in events) == 1


# ── expiry ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_question_that_nobody_answers_fails_the_run(timed_core: RunningCore, clock: HandClock) -> None:
    job, (question,) = await asking(timed_core, expire_in=MINUTE)
    await clock.forward(62)
    run = await timed_core.ended(job.run_id)
    assert (run.state, run.reason) == (FAILED, EndReason.END_REASON_INPUT_EXPIRED)
    [settled] = await timed_core.inputs(InputState.INPUT_STATE_SETTLED)
    assert settled.outcome == EXPIRED
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "INPUT_ANSWERED", input_id=question, outcome="expired"):
        await timed_core.answer(job.run_id, yes(question))


async def test_expired_question_may_let_the_handler_go_on(timed_core: RunningCore, clock: HandClock) -> None:
    job, _ = await asking(timed_core, expire_in=MINUTE, on_expiry=ExpiryAction.EXPIRY_ACTION_CONTINUE)
    await clock.forward(62)
    assert (await job.answered()).answer.outcome == EXPIRED
    await job.say_all("Never mind.")
    assert (await timed_core.ended(job.run_id)).state == SUCCEEDED


async def test_question_of_a_run_that_nobody_has_expires_too(timed_core: RunningCore, clock: HandClock) -> None:
    job, _ = await asking(timed_core, expire_in=MINUTE)
    await job.release()
    await timed_core.until(lambda: timed_core.place.runs()[job.run_id].owner is None)
    await clock.forward(62)
    run = await timed_core.ended(job.run_id)
    assert run.reason == EndReason.END_REASON_INPUT_EXPIRED


# ── cancels and ends ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_cancel_of_a_waiting_run_withdraws_its_questions(any_core: RunningCore) -> None:
    job, (question,) = await asking(any_core)
    await any_core.cancel(job.run_id)
    await job.stream.hears("cancel_requested")
    await job.end()
    await job.acked()
    run = await any_core.ended(job.run_id)
    assert run.state == CANCELLED
    [settled] = await any_core.inputs(InputState.INPUT_STATE_SETTLED)
    assert (settled.request.id, settled.outcome) == (question, WITHDRAWN)
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "RUN_ENDED", run_id=job.run_id):
        await any_core.answer(job.run_id, yes(question))


async def test_cancel_of_a_waiting_run_that_nobody_has_is_done_at_once(any_core: RunningCore) -> None:
    job, _ = await asking(any_core)
    await job.release()
    await any_core.until(lambda: any_core.place.runs()[job.run_id].owner is None)
    assert (await any_core.cancel(job.run_id)).state == CANCELLED


async def test_answer_that_meets_the_end_is_refused_and_the_rows_say_so(any_core: RunningCore) -> None:
    """The owner has made the end, and its commit is held; the answer is stored in between."""
    job, (question,) = await asking(any_core)
    gate = any_core.store.hold("append")
    await job.say("I do not care any more.")
    await job.end()
    await gate.reached()
    answer = asyncio.create_task(any_core.answer(job.run_id, yes(question)))
    await any_core.until(lambda: len(any_core.store.calls_of("answer")) == 1)
    gate.open()
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "RUN_ENDED"):
        await answer
    [settled] = await any_core.inputs(InputState.INPUT_STATE_SETTLED)
    assert settled.outcome == WITHDRAWN
