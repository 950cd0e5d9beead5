"""penstock.Client and threads: a real core, a real client, restarts in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from penstock import Client, errors
from penstock.client.thread_events import ThreadEvent
from tests.core.faults import WAIT
from tests.core.running_core import RunningCore, texts
from tests.core.threads import THREAD


@pytest.fixture
async def client(core: RunningCore) -> AsyncIterator[Client]:
    async with Client(core.core.address, patience=WAIT) as client:
        yield client


async def test_a_state_is_any_value_and_a_patch_a_list_of_operations(client: Client) -> None:
    await client.create_thread(THREAD)
    thread = await client.set_state(THREAD, {"topic": "water", "n": [1, 2.5, None]})
    assert (thread.state_json, thread.state_version) == ('{"topic":"water","n":[1,2.5,null]}', 1)
    patch = [{"op": "replace", "path": "/n", "value": "ä"}]
    thread = await client.patch_state(THREAD, patch, expected_version=1)
    assert (thread.state_json, thread.state_version) == ('{"topic":"water","n":"ä"}', 2)
    for change in (
        client.set_state(THREAD, 1, expected_version=1),
        client.patch_state(THREAD, [], expected_version=1),
    ):
        with pytest.raises(errors.NotPossible) as refused:
            await change
        assert (refused.value.reason, refused.value.metadata) == ("STATE_CHANGED", {"version": "2"})


async def test_a_thread_is_forked_measured_and_deleted(core: RunningCore, client: Client) -> None:
    worker = await core.connected_worker(credit=2)
    job = await core.started(worker, "question", thread_id=THREAD)
    await job.say_all("answer")
    await core.ended(job.run_id)
    [question, _] = [message async for message in client.messages(THREAD)]
    whole = await client.fork_thread(THREAD, new_thread_id="thr_whole", metadata={"a": "b"})
    at_message = await client.fork_thread(THREAD, message_id=question.id)
    at_event = await client.fork_thread(THREAD, event=(job.run_id, 1))
    said = [texts([message async for message in client.messages(one.id)]) for one in (whole, at_message, at_event)]
    assert said == [["question", "answer"], ["question"], ["question"]]
    assert (whole.id, dict(whole.metadata)) == ("thr_whole", {"a": "b"})
    with pytest.raises(ValueError, match="not at both"):
        await client.fork_thread(THREAD, message_id=question.id, event=(job.run_id, 1))
    storage = await client.thread_storage(THREAD)
    assert (storage.runs, storage.messages, storage.events) == (1, 2, (await core.get(job.run_id)).last_seq)
    running = await core.started(worker, thread_id="thr_whole")
    with pytest.raises(errors.NotPossible):
        await client.delete_thread("thr_whole")
    deleting = asyncio.create_task(client.delete_thread("thr_whole", cancel=True))
    await worker.now.hears("cancel_requested")
    await running.end()
    await deleting
    with pytest.raises(errors.NotFound):
        await client.thread("thr_whole")


async def test_a_watch_of_a_thread_goes_on_over_a_restart_of_the_core(core: RunningCore) -> None:
    await core.restart(grpc_port=port_of(core))
    worker = await core.connected_worker(credit=2)
    job = await core.started(worker, thread_id=THREAD)
    await job.say_all("before ")
    seen: list[ThreadEvent] = []
    async with Client(core.core.address, patience=WAIT) as client:
        watching = asyncio.create_task(watch(client, seen))
        await core.until(lambda: any(one.event.HasField("run_ended") for one in seen))
        await core.restart()
        await asyncio.wait_for(core.channel.channel_ready(), WAIT)
        again = core.worker(worker_id=worker.worker_id)
        await again.connect(credit=1)
        job = await core.started(again, thread_id=THREAD)
        await job.say_all("after ")
        await core.until(lambda: sum(one.event.HasField("run_ended") for one in seen) == 2)
        assert "".join(one.event.part_delta.text for one in seen) == "before after "
        assert len({one.cursor for one in seen}) == len(seen)
        middle = len(seen) // 2
        rest = client.watch_thread(THREAD, after=seen[middle].cursor)
        assert [await anext(rest) for _ in seen[middle + 1 :]] == seen[middle + 1 :]
        await rest.aclose()
        await client.delete_thread(THREAD)
        with pytest.raises(errors.NotFound):
            async with asyncio.timeout(WAIT):
                await watching


async def watch(client: Client, seen: list[ThreadEvent]) -> None:
    async for one in client.watch_thread(THREAD):
        seen.append(one)  # noqa: PERF401 - others look at what is there so far


def port_of(core: RunningCore) -> int:
    """The port that the core has now: the next one can have it too."""
    return int(core.core.address.rpartition(":")[2])
