"""Forks through a real core: what a log tells of the middle of a run is what its fork begins with."""

from __future__ import annotations

import asyncio

import grpc

from penstock.v1.run_pb2 import UnreadPolicy
from penstock.v1.worker_service_pb2 import MessageOutput, Output, StateOutput
from tests.core.refusals import refused
from tests.core.running_core import RunningCore, texts
from tests.core.scripted_worker import Job, ScriptedWorker
from tests.core.threads import THREAD, create_thread, fork, get_thread, said_in, set_state

NOT_FOUND = grpc.StatusCode.NOT_FOUND
INVALID = grpc.StatusCode.INVALID_ARGUMENT
NEW_MESSAGE = Output(message=MessageOutput())


def patched(count: int) -> Output:
    return Output(state=StateOutput(patch_json=f'[{{"op":"add","path":"/n{count}","value":{count}}}]'))


async def talk(core: RunningCore, worker: ScriptedWorker) -> Job:
    """A run that says three messages and changes the state after each."""
    job = await core.started(worker, "question", thread_id=THREAD)
    for number in (1, 2, 3):
        await job.send(Output(text=f"answer {number}"), NEW_MESSAGE, patched(number))
    await job.say_all()
    return job


async def test_a_fork_at_any_event_has_what_the_log_tells_up_to_it(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(credit=2)
    await create_thread(any_core)
    await set_state(any_core, '{"n0":0}')
    job = await talk(any_core, worker)
    later = await any_core.started(worker, "later", thread_id=THREAD)
    await later.say_all("never mind")
    states, ended, expected = ['{"n0":0}'], 0, []
    for event in await any_core.events(job.run_id):
        ended += event.HasField("message_ended")
        if event.HasField("state_patched"):
            states.append(states[-1][:-1] + f',"n{len(states)}":{len(states)}}}')
        expected.append((["question", *(f"answer {number}" for number in range(1, ended + 1))], states[-1]))
    assert expected[-1][0] == ["question", "answer 1", "answer 2", "answer 3"]
    assert len(states) == 4

    for seq, (messages, state_json) in enumerate(expected, 1):
        forked = await fork(any_core, event=(job.run_id, seq))
        assert texts(await said_in(any_core, forked.id)) == messages, seq
        assert (forked.state_json, forked.message_count) == (state_json, len(messages)), seq
    assert len(await said_in(any_core)) == 6, "the original is as it was"


async def test_a_fork_of_a_running_run_leaves_out_what_is_not_finished(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker, "question", thread_id=THREAD)
    await job.send(Output(text="done"), NEW_MESSAGE, Output(text="half a"))
    await job.acked()
    run = await core.get(job.run_id)
    forked = await fork(core, event=(job.run_id, run.last_seq))
    assert texts(await said_in(core, forked.id)) == ["question", "done"]
    assert forked.active_run_id == ""
    await job.say_all(" sentence")


async def test_a_message_that_steered_the_run_is_in_forks_behind_it(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker, "question", thread_id=THREAD)
    before = (await core.get(job.run_id)).last_seq
    await core.steer(job.run_id, "read this")
    await job.read(1, (await job.steered()).id)
    await core.steer(job.run_id, "nobody reads this", unread_policy=UnreadPolicy.UNREAD_POLICY_RETURN)
    await job.steered()
    await job.say_all("answer")
    run = await core.ended(job.run_id)
    at_end = await fork(core, event=(job.run_id, run.last_seq))
    assert texts(await said_in(core, at_end.id)) == ["question", "read this", "answer"]
    assert texts(await said_in(core)) == ["question", "read this", "answer"]
    assert texts(await said_in(core, (await fork(core, event=(job.run_id, before))).id)) == ["question"]


async def test_a_fork_at_the_end_and_at_a_message(core: RunningCore) -> None:
    worker = await core.connected_worker(credit=2)
    await talk(core, worker)
    messages = await said_in(core)
    whole = await fork(core, new_thread_id="thr_whole", metadata={"why": "test"})
    assert (whole.id, dict(whole.metadata), whole.forked_from_thread_id) == ("thr_whole", {"why": "test"}, THREAD)
    assert texts(await said_in(core, "thr_whole")) == texts(messages)
    assert whole.state_json == (await get_thread(core)).state_json
    part = await fork(core, message_id=messages[1].id)
    assert texts(await said_in(core, part.id)) == ["question", "answer 1"]
    job = await core.started(worker, "and now", thread_id=part.id)
    assert texts(job.assignment.messages) == ["question", "answer 1", "and now"]
    await job.say_all()


async def test_a_fork_that_cannot_be_made_is_refused(core: RunningCore) -> None:
    worker = await core.connected_worker(credit=2)
    job = await talk(core, worker)
    last_seq = (await core.get(job.run_id)).last_seq
    for seq in (0, -1, last_seq + 1):
        with refused(INVALID, "INVALID_ARGUMENT", field="event.seq"):
            await fork(core, event=(job.run_id, seq))
    with refused(NOT_FOUND, "RUN_NOT_FOUND"):
        await fork(core, event=("run_nowhere", 1))
    other = await core.started(worker, thread_id="thr_2")
    with refused(NOT_FOUND, "RUN_NOT_FOUND", run_id=other.run_id):
        await fork(core, event=(other.run_id, 1))
    await other.say_all()
    with refused(NOT_FOUND, "MESSAGE_NOT_FOUND"):
        await fork(core, message_id="msg_nowhere")
    with refused(NOT_FOUND, "THREAD_NOT_FOUND"):
        await fork(core, thread_id="thr_nowhere")
    with refused(grpc.StatusCode.ALREADY_EXISTS, "THREAD_EXISTS", thread_id="thr_2"):
        await fork(core, new_thread_id="thr_2")
    for fields in ({"new_thread_id": "a b"}, {"metadata": {"": "x"}}, {"request_id": "a b"}):
        with refused(INVALID, "INVALID_ARGUMENT"):
            await fork(core, **fields)


async def test_a_fork_behind_expired_events_is_refused(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await talk(core, worker)
    core.place.execute(f"UPDATE heads SET oldest_seq = 3 WHERE run_id = '{job.run_id}'")
    with refused(grpc.StatusCode.OUT_OF_RANGE, "EVENTS_EXPIRED", oldest_seq="3"):
        await fork(core, event=(job.run_id, 4))
    core.place.execute(f"UPDATE heads SET oldest_seq = 1 WHERE run_id = '{job.run_id}'")


async def test_a_repeated_fork_is_one_thread(any_core: RunningCore) -> None:
    await create_thread(any_core)
    any_core.store.fail("fork_thread", after=True)
    with refused(grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE"):
        await fork(any_core, request_id="f1")
    made = await fork(any_core, request_id="f1")
    assert await fork(any_core, request_id="f1") == made
    with refused(grpc.StatusCode.ALREADY_EXISTS, "IDEMPOTENCY_MISMATCH"):
        await fork(any_core, request_id="f1", new_thread_id="thr_other")


async def test_a_fork_that_meets_an_end_has_all_of_it_or_nothing(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker()
    job = await any_core.started(worker, "question", thread_id=THREAD)
    await job.send(Output(text="answer"), patched(1))
    held = any_core.store.hold("append", when=lambda batch: any(one.change is not None for one in batch))
    await job.end()
    await held.reached()
    before = await fork(any_core)
    forking_gate = any_core.store.hold("fork_thread")
    forking = asyncio.create_task(fork(any_core))
    await forking_gate.reached()
    held.open()
    await any_core.ended(job.run_id)
    forking_gate.open()
    after = await forking
    assert (texts(await said_in(any_core, before.id)), before.state_json) == (["question"], "")
    assert (texts(await said_in(any_core, after.id)), after.state_json) == (["question", "answer"], '{"n1":1}')
