"""Long logs and their readers: slow ones, late ones, ones that page while the log is folded, and snapshots."""

from __future__ import annotations

import asyncio

from core_service.domain.grammar import Grammar
from core_service.domain.runs import SUCCEEDED
from penstock.v1.run_service_pb2 import ListEventsRequest
from penstock.v1.worker_service_pb2 import Output, ToolCallOutput, ToolResultOutput
from tests.core.hand_clock import HandClock
from tests.core.places import Place
from tests.core.running_core import RunningCore, texts
from tests.core.scripted_worker import Job


async def _speak_at_length(job: Job, *, batches: int, size: int = 500, text: str = "x" * 100) -> None:
    """Many commits of many deltas."""
    for _ in range(batches):
        await job.send(*(Output(text=text) for _ in range(size)))
        await job.acked()


async def test_watcher_that_reads_nothing_does_not_slow_the_run_and_then_gets_everything(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker)
    asleep = [core.watch(job.run_id) for _ in range(5)]
    for watch in asleep:
        await watch.read_to(2)
    awake = core.watch(job.run_id)
    reading = asyncio.create_task(awake.read_to_end())
    await _speak_at_length(job, batches=20, size=1_000)
    await job.say_all()
    await reading
    assert awake.seen.cursor > 20_000
    for watch in asleep:
        assert watch.seen.cursor == 2
        await watch.read_to_end()
        assert watch.seen.events[-1] == awake.seen.events[-1]


async def test_tail_that_is_too_small_is_made_up_for_by_the_store(core: RunningCore) -> None:
    """Scenario 22, tail eviction: every watcher falls out of memory again and again."""
    await core.restart(tail_run_bytes=2_048, tail_bytes=1 << 20)
    worker = await core.connected_worker(credit=3)
    jobs = [await core.started(worker) for _ in range(3)]
    readers = []
    for piece in range(40):
        for job in jobs:
            await job.say(*(f"{piece} {number} " for number in range(20)))
            await job.acked()
        readers += [asyncio.create_task(core.watch(job.run_id, after=piece).read_to_end()) for job in jobs[:1]]
    for job in jobs:
        await job.end()
    for reader in readers:
        await reader
    for job in jobs:
        await core.watch(job.run_id).read_to_end()
    assert core.store.calls_of("read_segments")


async def test_folding_under_watchers_leaves_no_gap(sqlite_place: Place, clock: HandClock) -> None:
    """Scenario 22: the many small segments become few compressed ones while watchers page through them."""
    core = RunningCore(sqlite_place, clock=clock, tail_run_bytes=1_024, tail_bytes=1 << 20)
    await core.start()
    worker = await core.connected_worker()
    job = await core.started(worker)
    await _speak_at_length(job, batches=60, size=100, text="y" * 200)
    await job.say_all()
    await core.restart()
    rows = len(sqlite_place.runs()[job.run_id].rows)
    watches = [core.watch(job.run_id, after) for after in (0, 1, 100, 4_095, 4_096, 4_097)]
    many = core.watch_many()
    await many.start(1, job.run_id)
    for watch in watches:
        await watch.read()
    paged = (await core.runs.ListEvents(ListEventsRequest(run_id=job.run_id, page_size=10))).events
    gate = core.store.hold("read_segments", after=True, when=lambda run_id, *, after_seq, limit: after_seq > 1_000)
    late = asyncio.create_task(core.watch(job.run_id, after=2_000).read_to_end())
    await gate.reached()
    await clock.forward(70)
    await core.until(lambda: sqlite_place.rows("SELECT folded FROM runs") == [(1,)])
    folded = sqlite_place.runs()[job.run_id]
    assert len(folded.rows) < rows
    assert max(len(data) for _, _, data in folded.rows) <= 1 << 20
    assert max(last - first for first, last, _ in folded.rows) < 4_096
    gate.open()
    for watch in (*watches, await late):
        await watch.read_to_end()
        assert watch.seen.cursor == folded.last_seq
    await many.read_until_over(1)
    rest = ListEventsRequest(run_id=job.run_id, after_seq=10, page_size=10_000)
    while len(paged) < folded.last_seq:
        rest.after_seq = len(paged)
        paged.extend((await core.runs.ListEvents(rest)).events)
    assert list(paged) == folded.events
    assert (await core.snapshot(job.run_id)).run.state == SUCCEEDED
    await core.hang_up()
    await core.stop()
    core.check()


async def test_damaged_log_does_not_keep_others_from_being_folded(timed_core: RunningCore, clock: HandClock) -> None:
    worker = await timed_core.connected_worker(credit=2)
    jobs = [await timed_core.started(worker) for _ in range(2)]
    for job in jobs:
        await job.say("a")
        await job.acked()
        await job.say_all("b")
    damaged, sound = jobs
    timed_core.place.execute(f"DELETE FROM segments WHERE run_id = '{damaged.run_id}' AND last_seq = 5")
    await clock.forward(70)
    await clock.forward(10)
    folded = f"SELECT run_id FROM runs WHERE folded AND run_id IN ('{sound.run_id}', '{damaged.run_id}')"
    await timed_core.until(lambda: timed_core.place.rows(folded) == [(sound.run_id,)])
    timed_core.place.forget(damaged.run_id)


async def test_snapshot_is_the_fold_of_the_events_up_to_its_seq_at_any_moment(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker()
    job = await any_core.started(worker)
    outputs = [
        *(Output(text=f"{number} ") for number in range(20)),
        Output(reasoning="hm"),
        Output(tool_call=ToolCallOutput(call_id="c", tool_name="t", arguments_delta='{"a"')),
        Output(tool_call=ToolCallOutput(call_id="c", arguments_delta=":1}", done=True)),
        Output(tool_result=ToolResultOutput(call_id="c", delta="[1,")),
        Output(tool_result=ToolResultOutput(call_id="c", delta="2]", done=True)),
        *(Output(text=f"{number} ") for number in range(20)),
    ]

    async def look() -> None:
        while True:
            snapshot = await any_core.snapshot(job.run_id)
            watch = await any_core.watch(job.run_id).read_to(snapshot.run.last_seq)
            watch.cancel()
            upto = watch.seen.events[: snapshot.run.last_seq]
            assert list(snapshot.messages) == Grammar.rebuild(upto).messages()
            if snapshot.run.reason:
                return

    looking = asyncio.create_task(look())
    for output in outputs:
        await job.send(output)
        await job.acked()
    await job.end()
    await looking
    snapshot = await any_core.snapshot(job.run_id)
    said = "".join(f"{number} " for number in range(20))
    assert texts(snapshot.messages) == [said, "", said]
    assert all(message.completion for message in snapshot.messages)


async def test_watch_goes_on_from_a_snapshot_that_is_newer_than_what_the_core_has_heard(any_core: RunningCore) -> None:
    """The commit is in the database, and its answer has not come back yet."""
    worker = await any_core.connected_worker()
    job = await any_core.started(worker)
    gate = any_core.store.hold("append", after=True)
    await job.say("committed")
    await gate.reached()
    snapshot = await any_core.snapshot(job.run_id)
    assert snapshot.run.last_seq == 5
    watch = any_core.watch(job.run_id, after=5)
    await watch.read()
    gate.open()
    await job.say_all(" and on")
    await watch.read_to_end()
    assert watch.seen.text == " and on"


async def test_snapshot_of_what_is_open_has_its_text_so_far(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker)
    assert (await core.snapshot(job.run_id)).messages == []
    await job.say("half a sen")
    await job.acked()
    (message,) = (await core.snapshot(job.run_id)).messages
    (part,) = message.parts
    assert (message.completion, part.completion, part.text.text) == (0, 0, "half a sen")
    await job.say_all("tence")


async def test_backlog_stops_the_reading_of_workers_and_loses_nothing(core: RunningCore) -> None:
    """The store hangs: what waits in memory is bounded, the worker is held up, and then everything comes."""
    await core.restart(backlog_bytes=1 << 20)
    worker = await core.connected_worker()
    job = await core.started(worker)
    gate = core.store.hold("append")
    sending = asyncio.create_task(_send(job, 120))
    await gate.reached()
    done, _ = await asyncio.wait([sending], timeout=0.5)
    assert not done, "12 MB were taken into memory"
    gate.open()
    await sending
    await job.say_all()
    watch = await core.watch(job.run_id).read_to_end()
    assert len(watch.seen.text) == 120 * 100 * 1_000


async def _send(job: Job, batches: int) -> None:
    for _ in range(batches):
        await job.send(*(Output(text="z" * 1_000) for _ in range(100)))
