"""Cancels, wherever the run is, and against its own end in both orders (ENGINE.md D2, D3)."""

from __future__ import annotations

import asyncio

import grpc

from core_service.domain.runs import CANCELLED, QUEUED, RUNNING, SUCCEEDED
from penstock.v1.run_pb2 import EndReason
from tests.core.hand_clock import HandClock
from tests.core.refusals import refused
from tests.core.running_core import RunningCore

USER = EndReason.END_REASON_USER
GRACE = 10.0


# ── where the run is ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_queued_run_is_cancelled_at_once(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(credit=0)
    run = await any_core.create()
    watch = await any_core.watch(run.id).read_to(1)
    cancelled = await any_core.cancel(run.id)
    assert (cancelled.state, cancelled.reason, cancelled.cancel_requested) == (CANCELLED, USER, True)
    await watch.read_to_end()
    assert watch.seen.kinds == ["run_queued", "run_ended"]
    await worker.give_credit(1)
    job = await any_core.started(worker, "the next is not held up")
    await job.say_all()


async def test_cancel_of_one_that_waits_behind_leaves_the_others_in_order(core: RunningCore) -> None:
    worker = await core.connected_worker(credit=3)
    first = await core.started(worker, thread_id="t")
    second = await core.create(thread_id="t")
    third = await core.create(thread_id="t")
    assert (await core.cancel(second.id)).state == CANCELLED
    await first.say_all()
    job = await worker.take()
    assert job.run_id == third.id
    await job.say_all()


async def test_cancel_of_the_head_of_a_queue_lets_the_next_go(core: RunningCore) -> None:
    worker = await core.connected_worker(credit=0)
    head = await core.create(thread_id="t")
    behind = await core.create(thread_id="t")
    await core.cancel(head.id)
    await worker.give_credit(1)
    job = await worker.take()
    assert job.run_id == behind.id
    await job.say_all()


async def test_running_run_is_asked_to_stop_and_may_clean_up(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker)
    await job.say("half ")
    cancelled = await core.cancel(job.run_id, EndReason.END_REASON_SUPERSEDED)
    assert (cancelled.state, cancelled.cancel_requested) == (RUNNING, True)
    request = (await worker.now.hears("cancel_requested")).cancel_requested
    assert (request.run_id, request.reason) == (job.run_id, EndReason.END_REASON_SUPERSEDED)
    await job.say_all("and a goodbye")
    run = await core.ended(job.run_id)
    assert (run.state, run.reason) == (CANCELLED, EndReason.END_REASON_SUPERSEDED)
    watch = await core.watch(job.run_id).read_to_end()
    assert watch.seen.text == "half and a goodbye"


async def test_grace_ends_the_run_whatever_the_handler_does(timed_core: RunningCore, clock: HandClock) -> None:
    worker = await timed_core.connected_worker()
    job = await timed_core.started(worker)
    await timed_core.cancel(job.run_id)
    request = (await worker.now.hears("cancel_requested")).cancel_requested
    assert request.grace_until.ToMicroseconds() == clock.now() + GRACE * 1_000_000
    await clock.forward(GRACE - 1)
    await job.say("still talking")
    await job.acked()
    await clock.forward(2)
    run = await timed_core.ended(job.run_id)
    assert (run.state, run.reason) == (CANCELLED, USER)
    await worker.now.hears("revoked")
    await job.end()
    await worker.now.hears("revoked")


async def test_ended_run_is_returned_as_it_is(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker)
    await job.say_all("done")
    run = await core.cancel(job.run_id)
    assert (run.state, run.cancel_requested) == (SUCCEEDED, False)


async def test_second_cancel_changes_nothing(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker)
    await core.cancel(job.run_id, EndReason.END_REASON_DISCONNECTED, request_id="key")
    await core.cancel(job.run_id, EndReason.END_REASON_DISCONNECTED, request_id="key")
    await core.cancel(job.run_id, EndReason.END_REASON_USER)
    with refused(grpc.StatusCode.ALREADY_EXISTS, "IDEMPOTENCY_MISMATCH"):
        await core.cancel(job.run_id, EndReason.END_REASON_USER, request_id="key")
    await worker.now.hears("cancel_requested")
    assert not worker.now.has_heard("cancel_requested")
    await job.end()
    assert (await core.ended(job.run_id)).reason == EndReason.END_REASON_DISCONNECTED


async def test_reason_of_another_group_is_refused(core: RunningCore) -> None:
    for reason in (EndReason.END_REASON_COMPLETED, EndReason.END_REASON_TIMEOUT, 50):
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", field="reason"):
            await core.cancel("run_x", reason)  # type: ignore[arg-type]


# ── against the end ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_cancel_that_comes_before_the_end_wins(any_core: RunningCore) -> None:
    """Both are on their way, uncommitted; the owner heard of the cancel first."""
    worker = await any_core.connected_worker()
    job = await any_core.started(worker)
    gate = any_core.store.hold("append")
    await job.say("something")
    await gate.reached()
    await any_core.cancel(job.run_id)
    await worker.now.hears("cancel_requested")
    await job.end()
    gate.open()
    await job.acked()
    assert (await any_core.ended(job.run_id)).state == CANCELLED


async def test_end_that_comes_before_the_cancel_wins(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker()
    job = await any_core.started(worker)
    gate = any_core.store.hold("append")
    await job.end()
    await gate.reached()
    run = await any_core.cancel(job.run_id)
    assert run.state == RUNNING, "the end is not committed yet"
    gate.open()
    run = await any_core.ended(job.run_id)
    assert run.state == SUCCEEDED
    assert not worker.now.has_heard("cancel_requested")


async def test_cancel_against_a_claim_ends_the_run_once(any_core: RunningCore) -> None:
    """The cancel finds the run queued, and a worker gets it before the end is written."""
    worker = await any_core.connected_worker(credit=0)
    run = await any_core.create()
    gate = any_core.store.hold("take")
    cancelling = asyncio.create_task(any_core.cancel(run.id))
    await gate.reached()
    await worker.give_credit(1)
    await any_core.status()
    gate.open()
    await cancelling
    assert (await any_core.ended(run.id)).state == CANCELLED


async def test_claim_that_was_first_is_cancelled_by_its_owner(core: RunningCore) -> None:
    worker = await core.connected_worker(credit=0)
    run = await core.create()
    gate = core.store.hold("request_cancel")
    cancelling = asyncio.create_task(core.cancel(run.id))
    await gate.reached()
    await worker.give_credit(1)
    job = await worker.take()
    gate.open()
    assert (await cancelling).state == RUNNING
    await worker.now.hears("cancel_requested")
    await job.end()
    assert (await core.ended(run.id)).state == CANCELLED


async def test_twenty_cancels_at_once_are_one_end(any_core: RunningCore) -> None:
    await any_core.connected_worker(credit=0)
    run = await any_core.create()
    watch = any_core.watch(run.id)
    gate = any_core.store.hold("append")
    cancels = [asyncio.create_task(any_core.cancel(run.id)) for _ in range(20)]
    await gate.reached()
    await any_core.status()
    gate.open()
    assert {run.state for run in await asyncio.gather(*cancels)} == {CANCELLED}
    await watch.read_to_end()
    assert watch.seen.kinds == ["run_queued", "run_ended"]
    await any_core.watch(run.id, after=1).read_to_end()  # what is in memory now is what is stored, too


async def test_client_that_goes_away_in_the_middle_of_a_cancel_has_cancelled(core: RunningCore) -> None:
    await core.connected_worker(credit=0)
    run = await core.create()
    gate = core.store.hold("request_cancel", after=True)
    cancelling = asyncio.create_task(core.cancel(run.id))
    await gate.reached()
    cancelling.cancel()
    await core.status()
    gate.open()
    await core.reaches(run.id, CANCELLED)


# ── without an owner ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_cancel_while_nobody_owns_the_run_reaches_its_worker(timed_core: RunningCore, clock: HandClock) -> None:
    worker = await timed_core.connected_worker()
    job = await timed_core.started(worker)
    await timed_core.crash()
    await timed_core.start()
    assert (await timed_core.cancel(job.run_id)).state == RUNNING
    again = timed_core.worker(worker_id=worker.worker_id)
    await again.connect(job)
    await again.now.hears("cancel_requested")
    await job.end()
    assert (await timed_core.ended(job.run_id)).state == CANCELLED


async def test_grace_survives_the_core(timed_core: RunningCore, clock: HandClock) -> None:
    """Scenario 16: the core is killed in the grace, and still the run ends when it is over."""
    worker = await timed_core.connected_worker()
    job = await timed_core.started(worker)
    await timed_core.cancel(job.run_id)
    await clock.forward(GRACE - 2)
    await timed_core.crash()
    await timed_core.start()
    again = timed_core.worker(worker_id=worker.worker_id)
    await again.connect(job)
    request = (await again.now.hears("cancel_requested")).cancel_requested
    assert request.grace_until.ToMicroseconds() == clock.now() + 2_000_000
    await clock.forward(3)
    assert (await timed_core.ended(job.run_id)).state == CANCELLED


async def test_cancelled_run_whose_worker_is_lost_is_not_tried_again(timed_core: RunningCore, clock: HandClock) -> None:
    await timed_core.restart(cancel_grace=100.0)
    worker = await timed_core.connected_worker()
    job = await timed_core.started(worker)
    await timed_core.cancel(job.run_id)
    await worker.cut()
    await timed_core.until_workers(0)
    await clock.forward(31)
    assert (await timed_core.ended(job.run_id)).state == CANCELLED


async def test_cancel_of_a_queued_run_that_the_core_did_not_survive_is_carried_out(
    timed_core: RunningCore, clock: HandClock
) -> None:
    await timed_core.connected_worker(credit=0)
    run = await timed_core.create()
    gate = timed_core.store.hold("request_cancel", after=True)
    cancelling = asyncio.create_task(timed_core.cancel(run.id))
    await gate.reached()
    await timed_core.crash()
    await asyncio.gather(cancelling, return_exceptions=True)
    await timed_core.start()
    assert (await timed_core.get(run.id)).state == QUEUED
    await clock.forward(70)
    assert (await timed_core.ended(run.id)).state == CANCELLED


async def test_lost_ring_of_a_cancel_is_found_by_the_sweep(timed_core: RunningCore, clock: HandClock) -> None:
    """A cancel that was noted in the store and of which the owner never heard."""
    worker = await timed_core.connected_worker()
    job = await timed_core.started(worker)
    timed_core.place.execute(f"UPDATE runs SET cancel_reason = {USER}, cancel_time = {clock.now()}")
    await clock.forward(6)
    await worker.now.hears("cancel_requested")
    await job.end()
    assert (await timed_core.ended(job.run_id)).state == CANCELLED
