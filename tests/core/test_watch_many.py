"""WatchMany: many watches on one stream, each exact, none in the way of another."""

from __future__ import annotations

import pytest
from google.rpc import code_pb2

from core_service.rpc import watch_many
from penstock.v1.run_service_pb2 import WatchAction, WatchManyRequest, WatchRunResponse
from penstock.v1.worker_service_pb2 import Output
from tests.core.running_core import RunningCore

PART_BYTES = 64 << 10
MESSAGE_BYTES = 1 << 20


async def test_several_watches_see_their_runs_whole(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(credit=5)
    jobs = [await any_core.started(worker) for _ in range(5)]
    many = any_core.watch_many()
    for number, job in enumerate(jobs, 1):
        await many.start(number, job.run_id)
        await many.start(number + 10, job.run_id, after=1)
    for piece in range(10):
        for job in jobs:
            await job.say(f"{piece} ")
    for job in jobs:
        await job.end()
    await many.read_until_over(*many.parts)
    for number, job in enumerate(jobs, 1):
        assert many.seen[number].text == "".join(f"{piece} " for piece in range(10))
        assert many.seen[number].run_id == job.run_id
    await many.close()
    assert await many.read() is None


async def test_flags_say_once_that_history_is_over_and_that_the_run_is(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker)
    await job.say("history")
    await job.acked()
    many = core.watch_many()
    await many.start(1, job.run_id)
    await many.read_to(1, 5)
    assert [part.caught_up for part in many.parts[1]] == [True]
    await job.say_all("live")
    await many.read_until_over(1)
    assert [part.caught_up for part in many.parts[1]].count(True) == 1
    assert [part.ended for part in many.parts[1]].count(True) == 1
    assert many.parts[1][-1].ended
    last = many.seen[1].cursor
    await many.start(2, job.run_id, after=last)
    await many.read_until_over(2)
    (only,) = many.parts[2]
    assert (only.events, only.last_seq, only.caught_up, only.ended) == (b"", 0, True, True)


async def test_refused_watches_are_told_and_the_others_go_on(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker)
    many = core.watch_many()
    await many.start(1, job.run_id)
    await many.start(2, "run_unknown")
    await many.start(3, job.run_id, after=3)
    await many.start(4, job.run_id, after=-1)
    await many.start(5, "\0")
    await many.start(-6, job.run_id)
    await many.read_until_over(2, 3, 4, 5, -6)
    errors = {number: parts[0].error for number, parts in many.parts.items() if parts and parts[0].HasField("error")}
    assert {number: (error.code, error.reason) for number, error in errors.items()} == {
        2: (code_pb2.NOT_FOUND, "RUN_NOT_FOUND"),
        3: (code_pb2.OUT_OF_RANGE, "CURSOR_AHEAD"),
        4: (code_pb2.INVALID_ARGUMENT, "INVALID_ARGUMENT"),
        5: (code_pb2.NOT_FOUND, "RUN_NOT_FOUND"),
        -6: (code_pb2.INVALID_ARGUMENT, "WORKER_PROTOCOL"),
    }
    assert errors[3].metadata["last_seq"] == "2"
    assert all(error.message for error in errors.values())
    await job.say_all("goes on")
    await many.read_until_over(1)


async def test_stopped_watch_says_nothing_more_and_its_number_is_free(core: RunningCore) -> None:
    worker = await core.connected_worker(credit=2)
    job = await core.started(worker)
    other = await core.started(worker)
    many = core.watch_many()
    await many.start(1, job.run_id)
    await many.start(2, other.run_id)
    await many.read_to(1, 2)
    await many.read_to(2, 2)
    await many.stop(1)
    await many.stop(99)
    await many.start(3, other.run_id)
    await many.read_to(3, 2)  # requests are handled in order: the stop was, too
    await job.say("unseen ")
    await job.acked()
    await other.say("seen")
    await many.read_to(2, 5)
    assert many.seen[1].cursor == 2
    await many.start(1, job.run_id, after=2)
    await job.say_all("seen")
    await other.end()
    await many.read_until_over(1, 2, 3)
    assert many.seen[1].text == "unseen seen"
    assert (await core.status()).watches == 0


async def test_number_in_use_is_refused_and_its_watch_goes_on(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker)
    many = core.watch_many()
    first = await many.start(1, job.run_id)
    await many.read_to(1, 2)
    await many.start(1, job.run_id)
    await many.read()
    assert many.parts[1][-1].error.reason == "WORKER_PROTOCOL"
    many.seen[1] = first
    await job.say_all("goes on")
    await many.read_to(1, 7)


async def test_watches_take_turns_and_messages_stay_small(core: RunningCore) -> None:
    """A long history does not hold up the others, and no part or message passes its bound."""
    worker = await core.connected_worker(credit=21)
    long = await core.started(worker)
    for _ in range(30):
        await long.send(*(Output(text="x" * 1_000) for _ in range(100)))
    await long.acked()
    short = [await core.started(worker) for _ in range(20)]
    many = core.watch_many()
    await many.start(1, long.run_id)
    for number, job in enumerate(short, 2):
        await many.start(number, job.run_id)
        await job.say_all("short")
    await many.read_until_over(*range(2, 22))
    assert many.seen[1].cursor < (await core.get(long.run_id)).last_seq, "the long one is still under way"
    await long.say_all()
    await many.read_until_over(1)
    parts = [part for message in many.messages for part in message.parts]
    large = [part for part in parts if len(part.events) > PART_BYTES]
    assert all(len(WatchRunResponse.FromString(part.events).events) == 1 for part in large)
    assert max(message.ByteSize() for message in many.messages) < MESSAGE_BYTES + 2 * PART_BYTES
    for message in many.messages:
        numbers = [part.watch_id for part in message.parts]
        assert len(set(numbers)) == len(numbers)


async def test_reader_that_does_not_read_delays_nobody_and_gets_everything(core: RunningCore) -> None:
    worker = await core.connected_worker(credit=2)
    job = await core.started(worker)
    stalled = core.watch_many()
    await stalled.start(1, job.run_id)
    await stalled.read_to(1, 2)
    for _ in range(100):
        await job.send(*(Output(text="x" * 500) for _ in range(200)))
        await job.acked()
    await job.say_all()
    assert (await core.ended(job.run_id)).last_seq > 20_000
    await stalled.read_until_over(1)
    assert stalled.seen[1].kinds[-1] == "run_ended"


async def test_idle_stream_says_that_it_lives(core: RunningCore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_many, "PROGRESS_SECONDS", 0.01)
    many = core.watch_many()
    message = await many.read()
    assert message is not None
    assert list(message.parts) == []


async def test_request_of_a_newer_client_is_passed_over(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker)
    call = core.runs.WatchMany()
    await call.write(WatchManyRequest(actions=[WatchAction()]))
    many = core.watch_many()
    await many.start(1, job.run_id)
    await job.say_all()
    await many.read_until_over(1)
    assert not call.done()
    call.cancel()


async def test_client_that_goes_away_leaves_no_watch(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker)
    many = core.watch_many()
    for number in range(1, 21):
        await many.start(number, job.run_id)
    for number in range(1, 21):
        await many.read_to(number, 2)
    assert (await core.status()).watches == 20
    many.cancel()
    await core.until_watches(0)
    await job.say_all()


async def test_store_that_fails_a_read_refuses_that_watch_alone(core: RunningCore) -> None:
    worker = await core.connected_worker(credit=2)
    job = await core.started(worker)
    await job.say_all("old")
    other = await core.started(worker)
    await worker.cut()
    await core.restart()
    await core.worker(worker_id=worker.worker_id).connect(other)
    many = core.watch_many()
    core.store.fail("read_segments", when=lambda run_id, **_: run_id == job.run_id)
    await many.start(1, job.run_id)
    await many.start(2, other.run_id)
    await many.read_until_over(1)
    assert many.parts[1][-1].error.reason == "STORE_UNAVAILABLE"
    await many.start(3, job.run_id, after=many.seen[1].cursor)
    await other.say_all("live")
    await many.read_until_over(2, 3)
