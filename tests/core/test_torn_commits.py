"""Commits that are held, lost, refused or impossible: the log is exact all the same (ENGINE.md A6, A7, B2)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import grpc

from core_service.domain.errors import StoreFull
from core_service.domain.runs import FAILED, RUNNING, SUCCEEDED
from core_service.ports import Append
from penstock.v1.run_pb2 import EndReason
from tests.core.faults import Gate
from tests.core.refusals import refused
from tests.core.running_core import RunningCore
from tests.core.scripted_worker import Job, ScriptedWorker

MANY = 100


async def _jobs(core: RunningCore, count: int) -> tuple[ScriptedWorker, list[Job]]:
    """Runs of one worker, all accepted."""
    worker = await core.connected_worker(credit=count)
    await asyncio.gather(*(core.create() for _ in range(count)))
    return worker, [await worker.take() for _ in range(count)]


async def _stack_up(core: RunningCore, jobs: Sequence[Job]) -> Gate:
    """Hold one commit, and let every run say something that waits behind it: the next batch has them all."""
    gate = core.store.hold("append")
    await jobs[0].say("first ")
    await gate.reached()
    for job in jobs:
        await job.say("then ")
    await core.status()  # on the same connection: the core has read what was said before it answers this
    return gate


# ── lost answers ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_commit_whose_answer_was_lost_counts_once(any_core: RunningCore) -> None:
    """Scenario 6."""
    worker, jobs = await _jobs(any_core, 10)
    watches = [any_core.watch(job.run_id) for job in jobs]
    lost = any_core.store.fail("append", after=True, times=3)
    for job in jobs:
        await job.say("once")
        await job.end()
    for job, watch in zip(jobs, watches, strict=True):
        await job.acked()
        await watch.read_to_end()
        assert watch.seen.text == "once"
    assert lost.hits == 3
    assert not worker.now.has_heard("revoked")


async def test_commit_that_never_happened_is_made_again(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker)
    core.store.fail("append", times=4)
    await job.say_all("once")
    watch = await core.watch(job.run_id).read_to_end()
    assert watch.seen.text == "once"


async def test_full_disk_delays_and_loses_nothing(core: RunningCore) -> None:
    """Scenario 20, as far as the engine goes."""
    worker = await core.connected_worker()
    job = await core.started(worker)
    core.store.fail("append", times=3, error=StoreFull("no room"))
    core.store.fail("create_run", error=StoreFull("no room"))
    await job.say("said ")
    with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "STORE_FULL"):
        await core.create()
    await job.say_all("and kept")
    watch = await core.watch(job.run_id).read_to_end()
    assert watch.seen.text == "said and kept"


async def test_store_that_is_away_is_told_and_its_return_too(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker)
    away = core.store.fail("append", times=1_000)
    await job.say("waits")
    await core.until(lambda: away.hits > 0)
    assert not (await core.status()).store_available
    assert worker.now.accepted(job.run_id) == 0
    away.open()
    await job.say_all(" and comes")
    assert (await core.status()).store_available


# ── the fence ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_append_of_a_run_that_was_adopted_meanwhile_changes_nothing(any_core: RunningCore) -> None:
    """Scenario 5 for one core: the append stands before the database while the worker moves to a new stream."""
    worker = await any_core.connected_worker()
    job = await any_core.started(worker)
    watch = await any_core.watch(job.run_id).read_to(2)
    gate = any_core.store.hold("append")
    await job.say("from the old stream")
    await gate.reached()
    welcome = await worker.connect(job)
    assert [(held.accepted, held.revoked) for held in welcome.held] == [(0, False)]
    gate.open()
    job.last = 0
    await job.say_all("from the new one")
    await watch.read_to_end()
    assert watch.seen.text == "from the new one"


async def test_append_of_a_run_that_another_core_took_changes_nothing(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker()
    job = await any_core.started(worker)
    gate = any_core.store.hold("append")
    await job.say("too late")
    await gate.reached()
    any_core.place.execute("UPDATE heads SET fence = fence + 1, owner = 'core_other', session = 'wrk_other'")
    gate.open()
    revoked = await worker.now.hears("revoked")
    assert (revoked.revoked.run_id, revoked.revoked.attempt) == (job.run_id, 1)
    assert worker.now.accepted(job.run_id) == 0
    await job.say("still too late")
    await worker.now.hears("revoked")
    stored = any_core.place.runs()[job.run_id]
    assert (stored.last_seq, stored.owner, stored.state) == (2, "core_other", RUNNING)
    assert (await any_core.status()).owned_runs == 0


async def test_one_fenced_run_in_a_batch_of_hundred_is_left_out_alone(any_core: RunningCore) -> None:
    """Scenario 7, first half."""
    worker, jobs = await _jobs(any_core, MANY)
    gate = await _stack_up(any_core, jobs)
    fenced = jobs[MANY // 2]
    any_core.place.execute(f"UPDATE heads SET fence = fence + 1 WHERE run_id = '{fenced.run_id}'")
    gate.open()
    revoked = await worker.now.hears("revoked")
    assert revoked.revoked.run_id == fenced.run_id
    sound = [job for job in jobs if job is not fenced]
    for job in sound:
        await job.end()
    for job in sound:
        await job.acked()
    stored = any_core.place.runs()
    assert [stored[job.run_id].state for job in sound] == [SUCCEEDED] * (MANY - 1)
    assert (stored[fenced.run_id].state, stored[fenced.run_id].last_seq) == (RUNNING, 2)


async def test_append_of_an_earlier_owner_does_not_pass_as_that_of_the_next(any_core: RunningCore) -> None:
    """Both wait for the same commit: the old memory of the run, which the fence refuses, and the new one."""
    worker, jobs = await _jobs(any_core, 2)
    other, job = jobs
    watch = any_core.watch(job.run_id)
    gate = any_core.store.hold("append")
    await other.say("holds the journal")
    await gate.reached()
    await job.say("old old old")
    await job.end()
    await any_core.status()
    await worker.connect(job, other)
    job.last = 0
    await job.say("new")
    await any_core.status()
    gate.open()
    await job.acked()
    assert (await any_core.get(job.run_id)).state == RUNNING, "the end was the old owner's"
    await job.end()
    await job.acked()
    other.last = 0
    await other.say_all("new too")
    await watch.read_to_end()
    assert watch.seen.text == "new"


# ── poison ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_one_run_that_the_database_cannot_take_fails_alone(any_core: RunningCore) -> None:
    """Scenario 7, second half: a constraint error of the database itself, in a batch of a hundred."""
    worker, jobs = await _jobs(any_core, MANY)
    poison = jobs[MANY // 2]
    any_core.place.refuse_segment(poison.run_id, last_seq=5)
    watch = await any_core.watch(poison.run_id).read_to(2)
    gate = await _stack_up(any_core, jobs)
    gate.open()
    revoked = await worker.now.hears("revoked")
    assert revoked.revoked.run_id == poison.run_id
    sound = [job for job in jobs if job is not poison]
    for job in sound:
        await job.end()
    for job in sound:
        await job.acked()
    run = await any_core.ended(poison.run_id)
    assert (run.state, run.reason, run.error.code) == (FAILED, EndReason.END_REASON_INTERNAL, "INTERNAL")
    stored = any_core.place.runs()
    assert [stored[job.run_id].state for job in sound] == [SUCCEEDED] * (MANY - 1)
    await watch.read_to_end()
    assert watch.seen.kinds == ["run_queued", "run_started", "run_ended"]


async def test_what_a_poisoned_run_says_meanwhile_leaves_no_gap(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker)
    core.place.refuse_segment(job.run_id, last_seq=5)
    gate = core.store.hold("append")
    await job.say("impossible")
    await gate.reached()
    await job.say(" and possible by itself")
    await core.status()
    gate.open()
    run = await core.ended(job.run_id)
    assert (run.reason, run.last_seq) == (EndReason.END_REASON_INTERNAL, 3)


async def test_run_whose_very_end_cannot_be_stored_is_left_alone_after_a_few_tries(core: RunningCore) -> None:
    worker = await core.connected_worker(credit=2)
    job = await core.started(worker)
    impossible = core.store.fail(
        "append",
        times=1_000,
        when=lambda batch: any(append.run_id == job.run_id for append in batch),
        error=ValueError("impossible"),
    )
    await job.say("hello")
    await core.until(lambda: impossible.hits == 3)
    sound = await core.started(worker)
    await sound.say_all("the core goes on")
    assert impossible.hits == 3


async def test_batch_takes_at_most_one_append_of_a_run(core: RunningCore) -> None:
    worker, jobs = await _jobs(core, 20)
    for _ in range(5):
        for job in jobs:
            await job.say("a ")
    for job in jobs:
        await job.end()
    for job in jobs:
        await job.acked()
    batches: list[Sequence[Append]] = [batch for (batch,) in core.store.calls_of("append")]
    assert all(len({append.run_id for append in batch}) == len(batch) for batch in batches)
    assert worker.now.accepted(jobs[0].run_id) == 6
