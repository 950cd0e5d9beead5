"""Creates on a busy thread: what becomes of the new run, of the active one, and of those that wait (ENGINE.md G4)."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from core_service.domain.runs import CANCELLED, QUEUED, RUNNING, SUCCEEDED, WAITING
from penstock.v1.run_pb2 import BusyPolicy, EndReason, InputAnswer, RunOptions
from penstock.v1.thread_service_pb2 import GetThreadRequest, ListMessagesRequest
from penstock.v1.worker_service_pb2 import Output, StateOutput
from tests.core.faults import WAIT
from tests.core.refusals import refused
from tests.core.running_core import RunningCore, texts

REJECT = RunOptions(busy_policy=BusyPolicy.BUSY_POLICY_REJECT)
INTERRUPT = RunOptions(busy_policy=BusyPolicy.BUSY_POLICY_INTERRUPT)
ROLLBACK = RunOptions(busy_policy=BusyPolicy.BUSY_POLICY_ROLLBACK)
STEER = RunOptions(busy_policy=BusyPolicy.BUSY_POLICY_STEER)
SUPERSEDED = EndReason.END_REASON_SUPERSEDED
ROLLED_BACK = EndReason.END_REASON_ROLLED_BACK


async def history(core: RunningCore, thread_id: str = "t") -> list[str]:
    answer = await core.threads.ListMessages(ListMessagesRequest(thread_id=thread_id), timeout=WAIT)
    return texts(answer.messages)


async def state(core: RunningCore, thread_id: str = "t") -> str:
    return (await core.threads.GetThread(GetThreadRequest(thread_id=thread_id), timeout=WAIT)).thread.state_json


async def test_reject_names_the_active_run(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker()
    job = await any_core.started(worker, thread_id="t")
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "THREAD_BUSY", run_id=job.run_id):
        await any_core.create(thread_id="t", options=REJECT)
    await job.say_all()


async def test_interrupt_keeps_what_was_said_and_goes_next(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(credit=2)
    job = await any_core.started(worker, "first", thread_id="t")
    await job.say("Well, ")
    await job.acked()
    behind = await any_core.create("behind", thread_id="t")
    new = await any_core.create("instead", thread_id="t", options=INTERRUPT)
    assert new.state == QUEUED
    cancel = (await job.stream.hears("cancel_requested")).cancel_requested
    assert cancel.reason == SUPERSEDED
    await job.end()
    following = await worker.take()
    assert following.run_id == new.id
    await following.say_all("As you like.")
    assert [(await any_core.ended(run)).reason for run in (job.run_id, behind.id)] == [SUPERSEDED, SUPERSEDED]
    assert await history(any_core) == ["first", "Well, ", "behind", "instead", "As you like."]


async def test_interrupt_of_a_run_that_does_not_stop_waits_for_the_grace(any_core: RunningCore) -> None:
    await any_core.restart(cancel_grace=0.2)
    worker = await any_core.connected_worker(credit=2)
    job = await any_core.started(worker, thread_id="t")
    new = await any_core.create(thread_id="t", options=INTERRUPT)
    following = await worker.take()
    assert following.run_id == new.id
    await following.say_all()
    assert (await any_core.ended(job.run_id)).reason == SUPERSEDED


async def test_interrupt_of_a_waiting_run(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(credit=2)
    job = await any_core.started(worker, thread_id="t")
    await job.ask("ask#1")
    await job.release()
    await any_core.until(lambda: any_core.place.runs()[job.run_id].owner is None)
    new = await any_core.create(thread_id="t", options=INTERRUPT)
    following = await worker.take()
    assert following.run_id == new.id
    await following.say_all()
    assert (await any_core.ended(job.run_id)).state == CANCELLED


async def test_rollback_takes_messages_and_state_back(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(credit=4)
    before = await any_core.started(worker, "before", thread_id="t")
    await before.send(Output(state=StateOutput(snapshot_json='{"n":1}')))
    await before.say_all("Answer before.")
    await any_core.ended(before.run_id)
    job = await any_core.started(worker, "first", thread_id="t")
    await job.send(Output(state=StateOutput(snapshot_json='{"n":2}')), Output(text="Half an an"))
    await job.acked()
    behind = await any_core.create("behind", thread_id="t")
    new = await any_core.create("instead", thread_id="t", options=ROLLBACK)
    await job.stream.hears("cancel_requested")
    await job.end()
    following = await worker.take()
    assert following.run_id == new.id
    assert following.assignment.state_json == '{"n":1}'
    assert texts(following.assignment.messages) == ["before", "Answer before.", "instead"]
    await following.say_all("New answer.")
    assert [(await any_core.ended(run)).reason for run in (job.run_id, behind.id)] == [ROLLED_BACK, ROLLED_BACK]
    assert await history(any_core) == ["before", "Answer before.", "instead", "New answer."]
    assert await state(any_core) == '{"n":1}'
    thread = (await any_core.threads.GetThread(GetThreadRequest(thread_id="t"), timeout=WAIT)).thread
    assert thread.message_count == 4


async def test_rollback_of_a_run_whose_state_was_stored_while_it_waited(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(credit=2)
    job = await any_core.started(worker, thread_id="t")
    await job.send(Output(state=StateOutput(snapshot_json='{"n":2}')))
    await job.ask("ask#1")
    await any_core.reaches(job.run_id, WAITING)
    assert await state(any_core) == '{"n":2}'
    new = await any_core.create("instead", thread_id="t", options=ROLLBACK)
    await job.stream.hears("cancel_requested")
    await job.end()
    following = await worker.take()
    assert (following.run_id, following.assignment.state_json) == (new.id, "")
    await following.say_all()


@pytest.mark.parametrize(
    "options", [INTERRUPT, ROLLBACK, STEER, REJECT], ids=["interrupt", "rollback", "steer", "reject"]
)
async def test_idle_thread_starts_the_run_whatever_the_policy(core: RunningCore, options: RunOptions) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker, thread_id="t", options=options)
    await job.say_all()
    assert (await core.ended(job.run_id)).state == SUCCEEDED


async def test_thread_whose_run_waits_refuses_with_the_open_questions(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker()
    job = await any_core.started(worker, thread_id="t")
    await job.ask("ask#1")
    await job.acked()
    run = await any_core.reaches(job.run_id, WAITING)
    question = run.inputs[0].id
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "THREAD_WAITING", run_id=job.run_id, input_ids=question):
        await any_core.create(thread_id="t")
    await any_core.answer(job.run_id, InputAnswer(input_id=question, answer_json='{"answer":"x"}'))
    await job.say_all()


async def test_interrupt_against_the_end_has_one_outcome(any_core: RunningCore) -> None:
    """The end is being committed while the interrupt is stored; and the other way round."""
    worker = await any_core.connected_worker(credit=3)
    job = await any_core.started(worker, thread_id="t")
    gate = any_core.store.hold("append")
    await job.end()
    await gate.reached()
    creating = asyncio.create_task(any_core.create(thread_id="t", options=INTERRUPT))
    await any_core.until(lambda: len(any_core.store.calls_of("create_run")) == 2)
    gate.open()
    new = await creating
    following = await worker.take()
    assert following.run_id == new.id
    assert (await any_core.ended(job.run_id)).state == SUCCEEDED

    gate = any_core.store.hold("create_run", after=True)
    creating = asyncio.create_task(any_core.create(thread_id="t", options=INTERRUPT))
    await gate.reached()
    await following.say_all()
    gate.open()
    last = await creating
    job = await worker.take()
    assert job.run_id == last.id
    await job.say_all()
    assert (await any_core.ended(new.id)).state in (SUCCEEDED, CANCELLED)


async def test_many_creates_with_every_policy_leave_one_active_run_at_a_time(any_core: RunningCore) -> None:
    """Scenario 17, for one core."""
    await any_core.restart(max_queued_per_thread=500, cancel_grace=0.1)
    worker = await any_core.connected_worker(credit=500)
    policies = [None, INTERRUPT, ROLLBACK, STEER, REJECT]

    async def create(number: int) -> str:
        try:
            return (await any_core.create(str(number), thread_id="t", options=policies[number % 5])).id
        except grpc.aio.AioRpcError:
            return ""

    async def work() -> None:
        while True:
            job = await worker.take()
            await job.say_all()

    working = asyncio.create_task(work())
    created = {run_id for run_id in await asyncio.gather(*(create(number) for number in range(100))) if run_id}
    for run_id in created:
        await any_core.ended(run_id)
    working.cancel()
    assert all(run.state not in (RUNNING, QUEUED) for run in any_core.place.runs().values() if run.run_id in created)
