"""Runs that call runs: bound to their parent's life, and to a depth (ENGINE.md D8)."""

from __future__ import annotations

import grpc

from core_service.domain.runs import CANCELLED, SUCCEEDED
from penstock.v1.run_pb2 import EndReason
from penstock.v1.worker_service_pb2 import ChildStartedOutput, Output
from tests.core.hand_clock import HandClock
from tests.core.refusals import refused
from tests.core.running_core import RunningCore

PARENT = EndReason.END_REASON_PARENT


async def test_child_names_its_parent_and_its_depth(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(credit=3)
    parent = await any_core.started(worker)
    child = await any_core.started(worker, parent_run_id=parent.run_id, parent_call_id="c1")
    grandchild = await any_core.create(parent_run_id=child.run_id)
    run = await any_core.get(child.run_id)
    assert (run.parent_run_id, run.parent_call_id, run.depth) == (parent.run_id, "c1", 1)
    assert (await any_core.get(grandchild.id)).depth == 2
    [queued, *_] = await any_core.events(grandchild.id)
    assert queued.run_queued.run.depth == 2
    await (await worker.take()).say_all()
    await child.say_all()
    await parent.say_all()
    assert (await any_core.ended(child.run_id)).state == SUCCEEDED


async def test_end_of_the_parent_cancels_the_child(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(credit=2)
    parent = await any_core.started(worker)
    child = await any_core.started(worker, parent_run_id=parent.run_id)
    await parent.send(Output(child_started=ChildStartedOutput(child_run_id=child.run_id, agent_id="echo")))
    await parent.acked()
    await any_core.cancel(parent.run_id)
    await parent.stream.hears("cancel_requested", lambda m: m.cancel_requested.run_id == parent.run_id)
    await parent.end()
    cancel = await child.stream.hears("cancel_requested", lambda m: m.cancel_requested.run_id == child.run_id)
    assert cancel.cancel_requested.reason == PARENT
    await child.end()
    run = await any_core.ended(child.run_id)
    assert (run.state, run.reason) == (CANCELLED, PARENT)


async def test_child_that_its_parent_never_told_of_is_found_by_the_sweep(
    timed_core: RunningCore, clock: HandClock
) -> None:
    worker = await timed_core.connected_worker(credit=2)
    parent = await timed_core.started(worker)
    child = await timed_core.started(worker, parent_run_id=parent.run_id)
    await parent.say_all()
    await clock.forward(2)
    await child.stream.hears("cancel_requested")
    await child.end()
    assert (await timed_core.ended(child.run_id)).reason == PARENT


async def test_run_that_has_ended_has_no_children(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker()
    parent = await any_core.started(worker)
    await parent.say_all()
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "RUN_ENDED"):
        await any_core.create(parent_run_id=parent.run_id)
    with refused(grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND"):
        await any_core.create(parent_run_id="run_unknown")


async def test_agents_cannot_call_each_other_for_ever(any_core: RunningCore) -> None:
    await any_core.restart(max_depth=1)
    worker = await any_core.connected_worker(credit=2)
    parent = await any_core.started(worker)
    child = await any_core.started(worker, parent_run_id=parent.run_id)
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "DEPTH_EXCEEDED", max_depth="1"):
        await any_core.create(parent_run_id=child.run_id)
    await child.say_all()
    await parent.say_all()
