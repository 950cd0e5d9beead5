"""Messages for runs that are under way: handed over, read, and what becomes of those that nobody read."""

from __future__ import annotations

import grpc

from core_service.domain.runs import CANCELLED, RUNNING, SUCCEEDED, WAITING
from penstock.v1.run_pb2 import BusyPolicy, InputAnswer, RunOptions, UnreadPolicy
from penstock.v1.thread_service_pb2 import ListMessagesRequest
from tests.core.faults import WAIT
from tests.core.refusals import refused
from tests.core.running_core import RunningCore, texts
from tests.core.waits import until

RETURN = UnreadPolicy.UNREAD_POLICY_RETURN
STEER = RunOptions(busy_policy=BusyPolicy.BUSY_POLICY_STEER)


async def history(core: RunningCore, thread_id: str) -> list[str]:
    answer = await core.threads.ListMessages(ListMessagesRequest(thread_id=thread_id), timeout=WAIT)
    return texts(answer.messages)


async def test_message_reaches_the_handler_and_the_log_and_once_read_the_history(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker()
    job = await any_core.started(worker, "Write a poem.", thread_id="t")
    await job.say("Roses are ")
    await job.acked()
    steered = await any_core.steer(job.run_id, "About the sea, please.")
    assert (steered.run.state, steered.message.run_id) == (RUNNING, job.run_id)
    message = await job.steered()
    assert message.id == steered.message.id
    await job.read(1, message.id)
    await job.say_all("wet.")
    events = await any_core.events(job.run_id)
    [received] = [event.message_received for event in events if event.HasField("message_received")]
    assert received.message.id == message.id
    assert list(events[-1].run_ended.unread_message_ids) == []
    assert await history(any_core, "t") == ["Write a poem.", "Roses are ", "About the sea, please.", "wet."]


async def test_message_that_nobody_read_becomes_a_run_of_its_own(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(credit=2)
    job = await any_core.started(worker, "first", thread_id="t", metadata={"team": "a"})
    steered = await any_core.steer(job.run_id, "and then?")
    await job.steered()
    await job.say_all("Done.")
    assert list((await any_core.events(job.run_id))[-1].run_ended.unread_message_ids) == [steered.message.id]
    follow_up = await worker.take()
    assert follow_up.run_id != job.run_id
    assert texts(follow_up.assignment.messages) == ["first", "Done.", "and then?"]
    assert dict(follow_up.assignment.run.metadata) == {"team": "a"}
    await follow_up.say_all("Then this.")
    assert await history(any_core, "t") == ["first", "Done.", "and then?", "Then this."]


async def test_message_that_nobody_read_is_returned_when_its_sender_wants_that(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(credit=2)
    job = await any_core.started(worker, thread_id="t")
    steered = await any_core.steer(job.run_id, "never mind", unread_policy=RETURN)
    await job.steered()
    await job.say_all()
    run = await any_core.ended(job.run_id)
    assert list(run.unread_message_ids) == [steered.message.id]
    after = await any_core.started(worker, "next", thread_id="t")
    assert "never mind" not in texts(after.assignment.messages)
    await after.say_all()


async def test_repeated_message_is_one_message(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker()
    job = await any_core.started(worker)
    first = await any_core.steer(job.run_id, "once", request_id="s")
    assert (await any_core.steer(job.run_id, "once", request_id="s")).message == first.message
    with refused(grpc.StatusCode.ALREADY_EXISTS, "IDEMPOTENCY_MISMATCH"):
        await any_core.steer(job.run_id, "twice", request_id="s")
    await job.read(1, first.message.id)
    await job.say_all()


async def test_ended_run_takes_no_messages(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker)
    await job.say_all()
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "RUN_ENDED"):
        await core.steer(job.run_id, "too late")


async def test_inbox_is_bounded(core: RunningCore) -> None:
    await core.restart(max_unread_messages=2)
    worker = await core.connected_worker()
    job = await core.started(worker)
    messages = [(await core.steer(job.run_id, text)).message.id for text in "ab"]
    with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL"):
        await core.steer(job.run_id, "c")
    await job.read(1, *messages)
    await job.acked()
    third = await core.steer(job.run_id, "c")
    await job.read(2, third.message.id)
    await job.say_all()


async def test_message_to_a_waiting_run_comes_when_it_goes_on(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker)
    await job.ask("ask#1")
    await job.acked()
    run = await core.reaches(job.run_id, WAITING)
    steered = await core.steer(job.run_id, "while you wait")
    await core.answer(job.run_id, InputAnswer(input_id=run.inputs[0].id, answer_json='{"answer":"go"}'))
    assert (await job.steered()).id == steered.message.id
    await job.read(1, steered.message.id)
    await job.say_all()
    kinds = [str(event.WhichOneof("payload")) for event in await core.events(job.run_id)]
    assert kinds.index("run_resumed") < kinds.index("message_received")


async def test_message_to_a_queued_run_comes_with_its_start(core: RunningCore) -> None:
    worker = await core.connected_worker(credit=0)
    run = await core.create()
    steered = await core.steer(run.id, "before you start")
    await worker.give_credit(1)
    job = await worker.take()
    assert (await job.steered()).id == steered.message.id
    await job.read(1, steered.message.id)
    await job.say_all()


async def test_what_an_earlier_attempt_read_and_did_not_read_comes_with_the_next(core: RunningCore) -> None:
    worker = await core.connected_worker(credit=1)
    job = await core.started(worker)
    read = (await core.steer(job.run_id, "read")).message
    unread = (await core.steer(job.run_id, "unread")).message
    await job.read(1, read.id)
    await job.acked()
    await core.crash()
    await core.start(lease=0.2)
    other = await core.connected_worker()
    again = await other.take()
    [record] = again.assignment.records
    assert (record.inbox.read, [message.id for message in record.inbox.messages]) == (1, [read.id])
    assert [message.id for message in again.assignment.inbox] == [unread.id]
    await again.read(2, unread.id)
    await again.say_all()


async def test_create_with_the_policy_steer_goes_to_the_active_run(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(credit=2)
    job = await any_core.started(worker, "first", thread_id="t", options=STEER)
    run = await any_core.create("second", thread_id="t", options=STEER)
    assert run.id == job.run_id
    message = await job.steered()
    assert texts([message]) == ["second"]
    await job.read(1, message.id)
    await job.say_all("Both.")
    after = await any_core.started(worker, "third", thread_id="t", options=STEER)
    assert after.run_id != job.run_id
    await after.say_all()


async def test_cancelled_run_returns_what_it_did_not_read(core: RunningCore) -> None:
    worker = await core.connected_worker(credit=2)
    job = await core.started(worker, thread_id="t")
    await core.steer(job.run_id, "hm")
    await job.steered()
    await core.cancel(job.run_id)
    await job.stream.hears("cancel_requested")
    await job.end()
    run = await core.ended(job.run_id)
    assert run.state == CANCELLED

    async def none_follows() -> bool:
        return (await core.get(job.run_id)).state == CANCELLED

    await until(none_follows)
    after = await core.started(worker, "next", thread_id="t")
    await after.say_all()
    assert (await core.ended(after.run_id)).state == SUCCEEDED
