"""Cancelling all runs that match: which, how many at a time, and what a repeat does."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from core_service.domain.runs import CANCELLED, QUEUED, SUCCEEDED
from core_service.engine import bulk_cancels
from penstock.v1.run_pb2 import EndReason
from penstock.v1.run_service_pb2 import CancelRunsRequest, CancelRunsResponse, ListRunsRequest
from tests.core.faults import WAIT
from tests.core.refusals import refused
from tests.core.running_core import RunningCore
from tests.core.scripted_worker import agent
from tests.core.threads import THREAD

INVALID = grpc.StatusCode.INVALID_ARGUMENT


async def cancel_runs(core: RunningCore, **fields: Any) -> CancelRunsResponse:
    return await core.runs.CancelRuns(CancelRunsRequest(**fields), timeout=WAIT)


async def test_all_runs_of_a_thread_are_cancelled_and_none_of_those_that_waited_starts(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(credit=5)
    job = await any_core.started(worker, thread_id=THREAD)
    waiting = [await any_core.create(thread_id=THREAD) for _ in range(3)]
    other = await any_core.started(worker, thread_id="thr_2")
    answer = await cancel_runs(any_core, thread_id=THREAD)
    assert list(answer.run_ids) == [*(run.id for run in reversed(waiting)), job.run_id]
    assert not answer.more
    assert {(await any_core.get(run.id)).state for run in waiting} == {CANCELLED}
    request = (await worker.now.hears("cancel_requested")).cancel_requested
    assert (request.run_id, request.reason) == (job.run_id, EndReason.END_REASON_USER)
    await job.end()
    assert (await any_core.ended(job.run_id)).state == CANCELLED
    assert not worker.now.has_heard("assignment")
    assert not (await any_core.get(other.run_id)).cancel_requested
    await other.say_all()


async def test_runs_are_chosen_by_agent_state_and_time(core: RunningCore) -> None:
    worker = await core.connected_worker(agent("echo"), agent("other"), credit=2)
    done = await core.started(worker)
    await done.say_all()
    running = await core.started(worker, agent_id="other")
    first = await core.create()
    second = await core.create()
    third = await core.create(agent_id="other")

    assert list((await cancel_runs(core, agent_id="other", states=[QUEUED])).run_ids) == [third.id]
    assert not (await cancel_runs(core, states=[SUCCEEDED])).run_ids
    assert not (await cancel_runs(core, agent_id="other", states=[QUEUED])).run_ids
    assert list((await cancel_runs(core, created_before=second.create_time, agent_id="echo")).run_ids) == [first.id]
    reason = EndReason.END_REASON_SUPERSEDED
    assert set((await cancel_runs(core, all=True, reason=reason)).run_ids) == {running.run_id, second.id}
    assert (await core.get(second.id)).reason == reason
    assert (await core.get(done.run_id)).state == SUCCEEDED
    await running.end()


async def test_labels_choose_runs_for_lists_and_cancels(any_core: RunningCore) -> None:
    await any_core.connected_worker(credit=0)
    wanted = await any_core.create(metadata={"team": "a", "job": "1"})
    await any_core.create(metadata={"team": "a"})
    await any_core.create(metadata={"job": "1"})
    both = {"team": "a", "job": "1"}
    listed = await any_core.runs.ListRuns(ListRunsRequest(metadata=both), timeout=WAIT)
    assert [run.id for run in listed.runs] == [wanted.id]
    assert list((await cancel_runs(any_core, metadata=both)).run_ids) == [wanted.id]
    everything = await any_core.runs.ListRuns(ListRunsRequest(states=[QUEUED]), timeout=WAIT)
    assert len(everything.runs) == 2


async def test_a_cancel_of_everything_has_to_be_asked_for(core: RunningCore) -> None:
    await core.connected_worker(credit=0)
    run = await core.create()
    with refused(INVALID, "INVALID_ARGUMENT", field="all"):
        await cancel_runs(core)
    with refused(INVALID, "INVALID_ARGUMENT", field="reason"):
        await cancel_runs(core, all=True, reason=EndReason.END_REASON_COMPLETED)
    with refused(INVALID, "INVALID_ARGUMENT", field="request_id"):
        await cancel_runs(core, all=True, request_id="a b")
    assert (await core.get(run.id)).state == QUEUED
    assert list((await cancel_runs(core, all=True)).run_ids) == [run.id]


async def test_a_large_selection_is_cancelled_page_by_page(core: RunningCore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_cancels, "MOST_RUNS", 4)
    monkeypatch.setattr(bulk_cancels, "RUNS_PER_PAGE", 2)
    worker = await core.connected_worker(credit=1)
    job = await core.started(worker)
    runs = [await core.create() for _ in range(8)]
    found: list[list[str]] = []
    more = True
    while more:
        answer = await cancel_runs(core, all=True, request_id=f"c{len(found)}")
        found.append(list(answer.run_ids))
        more = answer.more
    assert [len(ids) for ids in found] == [4, 4, 1]
    assert [run_id for ids in found for run_id in ids] == [*(run.id for run in reversed(runs)), job.run_id]
    await job.end()


async def test_a_repeat_spares_what_was_created_since(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(credit=1)
    job = await any_core.started(worker)
    first = await cancel_runs(any_core, agent_id="echo", request_id="c1")
    later = await any_core.create()
    again = await cancel_runs(any_core, agent_id="echo", request_id="c1")
    assert list(first.run_ids) == list(again.run_ids) == [job.run_id]
    assert not (await any_core.get(later.id)).cancel_requested
    with refused(grpc.StatusCode.ALREADY_EXISTS, "IDEMPOTENCY_MISMATCH"):
        await cancel_runs(any_core, all=True, request_id="c1")
    await job.end()


async def test_a_run_that_ends_meanwhile_stays_as_it_is(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker)
    gate = core.store.hold("list_runs", after=True)
    cancelling = asyncio.create_task(cancel_runs(core, all=True))
    await gate.reached()
    await job.say_all("done")
    await core.ended(job.run_id)
    gate.open()
    await cancelling
    run = await core.get(job.run_id)
    assert (run.state, run.cancel_requested) == (SUCCEEDED, False)
