"""The thread's shared state: what one run changed, the next one finds, and a retried or adopted one takes up."""

from __future__ import annotations

from penstock.v1.thread_service_pb2 import GetThreadRequest
from penstock.v1.worker_service_pb2 import Output, StateOutput
from tests.core.running_core import RunningCore

SNAPSHOT = Output(state=StateOutput(snapshot_json='{"count": 1}'))
PATCH = Output(state=StateOutput(patch_json='[{"op":"replace","path":"/count","value":2}]'))


async def test_next_run_of_a_thread_finds_the_state_and_patches_it(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(credit=3)
    first = await any_core.started(worker, thread_id="thr_state")
    await first.send(SNAPSHOT)
    await first.say_all()

    second = await any_core.started(worker, thread_id="thr_state")
    assert second.assignment.state_json == '{"count":1}'
    await second.send(PATCH)
    await second.say_all()

    events = await any_core.events(second.run_id)
    assert [event.state_patched.version for event in events if event.HasField("state_patched")] == [2]
    thread = (await any_core.threads.GetThread(GetThreadRequest(thread_id="thr_state"))).thread
    assert (thread.state_json, thread.state_version) == ('{"count":2}', 2)


async def test_adopted_run_patches_the_state_that_it_began_with(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(credit=3)
    first = await any_core.started(worker, thread_id="thr_state")
    await first.send(SNAPSHOT)
    await first.say_all()
    second = await any_core.started(worker, thread_id="thr_state")
    await second.say("thinking ")
    await second.acked()

    await worker.cut()
    await worker.connect(second)
    await second.send(PATCH)
    await second.end()
    await any_core.ended(second.run_id)
    thread = (await any_core.threads.GetThread(GetThreadRequest(thread_id="thr_state"))).thread
    assert (thread.state_json, thread.state_version) == ('{"count":2}', 2)
