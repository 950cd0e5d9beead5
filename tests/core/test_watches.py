"""WatchRun: history, live and reconnect are one thing, at every cursor."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from core_service.rpc import watch_run
from penstock.v1.run_service_pb2 import ListEventsRequest, WatchRunRequest
from penstock.v1.worker_service_pb2 import Output
from tests.core.places import Place
from tests.core.refusals import refused
from tests.core.running_core import RunningCore

OUT_OF_RANGE = grpc.StatusCode.OUT_OF_RANGE


async def test_watch_from_every_cursor_joins_history_and_live(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker()
    job = await any_core.started(worker)
    await job.say("one ", "two ", "three ")
    await job.acked()
    now = (await any_core.get(job.run_id)).last_seq
    watches = [any_core.watch(job.run_id, after) for after in range(now + 1)]
    for watch in watches:
        await watch.read()
    await job.say_all("four ", "five")
    for watch in watches:
        await watch.read_to_end()
    last = (await any_core.ended(job.run_id)).last_seq
    assert [watch.seen.cursor for watch in watches] == [last] * len(watches)
    for after in range(last + 1):
        await any_core.watch(job.run_id, after).read_to_end()


async def test_caught_up_is_said_once_and_with_the_last_of_history(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker)
    await job.say("history")
    await job.acked()
    watch = core.watch(job.run_id)
    await watch.read()
    assert watch.messages[-1].caught_up
    assert watch.messages[-1].head_seq == watch.seen.cursor == 5
    await job.say_all("live")
    await watch.read_to_end()
    assert [message.caught_up for message in watch.messages].count(True) == 1
    assert {message.run_id for message in watch.messages} == {job.run_id}
    level = await core.watch(job.run_id, watch.seen.cursor).read_to_end()
    assert [(message.caught_up, list(message.events)) for message in level.messages] == [(True, [])]


async def test_watchers_that_come_while_a_run_speaks_miss_and_repeat_nothing(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker)
    watches = []
    for piece in range(60):
        await job.say(f"{piece} ")
        watches.append(asyncio.create_task(core.watch(job.run_id, min(piece, 2)).read_to_end()))
    await job.end()
    for watch in await asyncio.gather(*watches):
        assert watch.seen.kinds[-1] == "run_ended"


async def test_nobody_sees_what_is_not_committed(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker()
    job = await any_core.started(worker)
    watch = await any_core.watch(job.run_id).read_to(2)
    gate = any_core.store.hold("append")
    await job.say("not yet")
    await gate.reached()
    assert (await any_core.get(job.run_id)).last_seq == 2
    assert len(await any_core.events(job.run_id)) == 2
    late = any_core.watch(job.run_id)
    await late.read_to(2)
    assert late.messages[-1].caught_up
    assert worker.now.accepted(job.run_id) == 0
    gate.open()
    await watch.read_to(5)
    await late.read_to(5)
    await job.say_all()


async def test_cursor_that_cannot_be_is_refused(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker)
    with refused(OUT_OF_RANGE, "CURSOR_AHEAD", last_seq="2"):
        await core.watch(job.run_id, 3).read()
    with refused(OUT_OF_RANGE, "CURSOR_AHEAD", last_seq="2"):
        await core.runs.ListEvents(ListEventsRequest(run_id=job.run_id, after_seq=3))
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", field="after_seq"):
        await core.watch(job.run_id, -1).read()
    core.sightings.clear()
    await job.say_all()


async def test_unknown_run_is_refused(core: RunningCore) -> None:
    for run_id in ("run_unknown", "", "x" * 10_000, "\0"):
        with refused(grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND"):
            await core.runs.WatchRun(WatchRunRequest(run_id=run_id)).read()
        with refused(grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND"):
            await core.get(run_id)
        with refused(grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND"):
            await core.snapshot(run_id)
        with refused(grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND"):
            await core.ended(run_id)
        with refused(grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND"):
            await core.cancel(run_id)
        with refused(grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND"):
            await core.runs.ListEvents(ListEventsRequest(run_id=run_id))
    assert (await core.status()).watches == 0


async def test_idle_watch_says_that_it_lives(core: RunningCore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_run, "PROGRESS_SECONDS", 0.01)
    worker = await core.connected_worker()
    job = await core.started(worker)
    watch = await core.watch(job.run_id).read_to(2)
    message = await watch.read()
    assert message is not None
    assert (list(message.events), message.head_seq, message.caught_up) == ([], 2, False)
    await job.say_all()
    await watch.read_to_end()


async def test_watcher_that_leaves_is_forgotten(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker)
    watch = await core.watch(job.run_id).read_to(2)
    assert (await core.status()).watches == 1
    watch.cancel()
    await job.say_all("goes on")
    assert (await core.status()).watches == 0


async def test_many_outputs_that_one_commit_took_reach_watchers_in_small_messages(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker)
    watch = await core.watch(job.run_id).read_to(2)
    gate = core.store.hold("append")
    await job.say("first")
    await gate.reached()
    for _ in range(40):
        await job.send(*(Output(text="x" * 1_000) for _ in range(100)))
    gate.open()
    await job.say_all("last")
    await watch.read_to_end()
    assert max(message.ByteSize() for message in watch.messages) < 70_000


# ── damaged and expired logs ─────────────────────────────────────────────────────────────────────────────────────────


async def _ended_run(core: RunningCore) -> str:
    """A run of four segments: 1–2, 3–5, 6 and 7 to the end."""
    worker = await core.connected_worker()
    job = await core.started(worker)
    for piece in ("a", "b"):
        await job.say(piece)
        await job.acked()
    await job.say_all()
    await core.hang_up()
    await core.stop()
    return job.run_id


async def test_gap_in_a_log_is_never_delivered(sqlite_place: Place) -> None:
    core = RunningCore(sqlite_place)
    await core.start()
    run_id = await _ended_run(core)
    sqlite_place.execute("DELETE FROM segments WHERE last_seq = 6")
    await core.start()
    watch = core.watch(run_id)
    with refused(grpc.StatusCode.DATA_LOSS, "LOG_DAMAGED"):
        await watch.read_to_end()
    assert watch.seen.cursor <= 5
    with refused(grpc.StatusCode.DATA_LOSS, "LOG_DAMAGED"):
        await core.runs.ListEvents(ListEventsRequest(run_id=run_id, after_seq=5))
    await core.watch(run_id, 6).read_to_end()
    await core.stop()


async def test_expired_events_are_refused_with_the_oldest_that_is_kept(sqlite_place: Place) -> None:
    core = RunningCore(sqlite_place)
    await core.start()
    run_id = await _ended_run(core)
    sqlite_place.execute("DELETE FROM segments WHERE last_seq <= 5", "UPDATE heads SET oldest_seq = 6")
    await core.start()
    for after in (0, 4):
        with refused(OUT_OF_RANGE, "EVENTS_EXPIRED", oldest_seq="6"):
            await core.runs.WatchRun(WatchRunRequest(run_id=run_id, after_seq=after)).read()
    watch = await core.watch(run_id, 5).read_to_end()
    assert watch.seen.kinds[-1] == "run_ended"
    await core.stop()
    core.check()
