"""Threads: one active run at a time, first in first out, and what clients read of them."""

from __future__ import annotations

import asyncio

import grpc

from core_service.domain.runs import QUEUED
from penstock.v1.agent_service_pb2 import ListAgentsRequest
from penstock.v1.event_pb2 import Event
from penstock.v1.run_pb2 import BusyPolicy, Run, RunOptions, RunState
from penstock.v1.run_service_pb2 import ListEventsRequest, ListRunsRequest
from penstock.v1.thread_service_pb2 import (
    CreateThreadRequest,
    GetThreadRequest,
    ListMessagesRequest,
    ListThreadsRequest,
)
from tests.core.hand_clock import HandClock
from tests.core.refusals import refused
from tests.core.running_core import RunningCore, texts
from tests.core.scripted_worker import agent

INVALID = grpc.StatusCode.INVALID_ARGUMENT


async def test_runs_of_a_thread_follow_one_another_in_order(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(credit=10)
    runs = [await any_core.create(str(number), thread_id="t") for number in range(5)]
    assert [run.state for run in runs[1:]] == [QUEUED] * 4
    for run in runs:
        job = await worker.take()
        assert job.run_id == run.id
        assert not worker.now.has_heard("assignment")
        await job.say_all(f"answer {run.id}")
    messages = (await any_core.threads.ListMessages(ListMessagesRequest(thread_id="t"))).messages
    said = [text for number, run in enumerate(runs) for text in (str(number), f"answer {run.id}")]
    assert texts(messages) == said


async def test_hundred_creates_at_once_on_one_thread_are_one_queue(any_core: RunningCore) -> None:
    """Scenario 17, for one core: never two at a time, all of them, in the order of their places."""
    await any_core.restart(max_queued_per_thread=200)
    worker = await any_core.connected_worker(credit=200)
    runs = await asyncio.gather(*(any_core.create(str(number), thread_id="t") for number in range(100)))
    done: list[str] = []
    for _ in runs:
        job = await worker.take()
        assert not worker.now.has_heard("assignment")
        await job.say_all()
        done.append(job.run_id)
    assert sorted(done) == sorted(run.id for run in runs)
    places = dict(any_core.place.rows("SELECT run_id, queue_pos FROM runs"))
    assert done == sorted(done, key=lambda run_id: int(places[run_id]))


async def test_end_against_enqueue_leaves_nobody_behind(any_core: RunningCore) -> None:
    """The run ends and another one joins the queue at the same moment, many times."""
    worker = await any_core.connected_worker(credit=50)
    following = await any_core.create(thread_id="t")
    for _ in range(20):
        job = await worker.take()
        following, _ = await asyncio.gather(any_core.create(thread_id="t"), job.say_all())
    last = await worker.take()
    assert last.run_id == following.id
    await last.say_all()


async def test_enqueue_while_the_end_is_being_written_goes_next(core: RunningCore) -> None:
    worker = await core.connected_worker(credit=2)
    first = await core.started(worker, thread_id="t")
    gate = core.store.hold("promote")
    behind = await core.create(thread_id="t")
    await first.end()
    await gate.reached()
    last = await core.create(thread_id="t")
    gate.open()
    await worker.give_credit(1)
    for run in (behind, last):
        job = await worker.take()
        assert job.run_id == run.id
        await job.say_all()


async def test_promotion_that_failed_is_made_up_for_by_the_sweep(timed_core: RunningCore, clock: HandClock) -> None:
    worker = await timed_core.connected_worker(credit=2)
    first = await timed_core.started(worker, thread_id="t")
    behind = await timed_core.create(thread_id="t")
    failed = timed_core.store.fail("promote")
    await first.say_all()
    await timed_core.until(lambda: failed.hits == 1)
    await clock.forward(6)
    job = await worker.take()
    assert job.run_id == behind.id
    await job.say_all()


async def test_busy_thread_refuses_who_does_not_want_to_wait(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(credit=5)
    job = await any_core.started(worker, thread_id="t")
    reject = RunOptions(busy_policy=BusyPolicy.BUSY_POLICY_REJECT)
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "THREAD_BUSY", run_id=job.run_id):
        await any_core.create(thread_id="t", options=reject)
    await job.say_all()
    free = await any_core.started(worker, thread_id="t", options=reject)
    await free.say_all()


async def test_full_queues_are_refused(core: RunningCore) -> None:
    await core.restart(max_queued_per_thread=2, max_queued_per_agent=4)
    worker = await core.connected_worker(credit=1)
    job = await core.started(worker, thread_id="t")
    waiting = [await core.create(thread_id="t") for _ in range(2)]
    with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL"):
        await core.create(thread_id="t")
    heads = [await core.create() for _ in range(4)]
    with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL"):
        await core.create()
    await job.say_all()
    await worker.give_credit(10)
    for _ in (*waiting, *heads):
        await (await worker.take()).say_all()


async def test_higher_priority_goes_first_among_those_that_wait(core: RunningCore) -> None:
    worker = await core.connected_worker(credit=0)
    low = await core.create(options=RunOptions(priority=-5))
    usual = await core.create()
    high = await core.create(options=RunOptions(priority=5))
    order = []
    for _ in range(3):
        await worker.give_credit(1)
        job = await worker.take()
        order.append(job.run_id)
        await job.say_all()
    assert order == [high.id, usual.id, low.id]


# ── what clients read ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_thread_is_created_read_and_listed(any_core: RunningCore) -> None:
    made = (await any_core.threads.CreateThread(CreateThreadRequest(thread_id="t", metadata={"a": "b"}))).thread
    assert (made.id, made.metadata["a"], made.active_run_id) == ("t", "b", "")
    worker = await any_core.connected_worker()
    job = await any_core.started(worker, thread_id="t")
    found = (await any_core.threads.GetThread(GetThreadRequest(thread_id="t"))).thread
    assert (found.active_run_id, found.message_count) == (job.run_id, 1)
    await job.say_all("hi")
    found = (await any_core.threads.GetThread(GetThreadRequest(thread_id="t"))).thread
    assert (found.active_run_id, found.message_count, found.metadata["a"]) == ("", 2, "b")
    own = (await any_core.threads.CreateThread(CreateThreadRequest())).thread
    assert own.id.startswith("thr_")
    listed = (await any_core.threads.ListThreads(ListThreadsRequest())).threads
    assert [thread.id for thread in listed] == [own.id, "t"]


async def test_repeated_create_of_a_thread_is_one_thread(any_core: RunningCore) -> None:
    request = CreateThreadRequest(request_id="key", metadata={"a": "b"})
    first = (await any_core.threads.CreateThread(request)).thread
    assert (await any_core.threads.CreateThread(request)).thread == first
    with refused(grpc.StatusCode.ALREADY_EXISTS, "IDEMPOTENCY_MISMATCH"):
        await any_core.threads.CreateThread(CreateThreadRequest(request_id="key"))
    with refused(grpc.StatusCode.ALREADY_EXISTS, "THREAD_EXISTS"):
        await any_core.threads.CreateThread(CreateThreadRequest(thread_id=first.id))


async def test_unknown_thread_is_refused(core: RunningCore) -> None:
    for thread_id in ("t", "", "\0", "x" * 10_000):
        with refused(grpc.StatusCode.NOT_FOUND, "THREAD_NOT_FOUND"):
            await core.threads.GetThread(GetThreadRequest(thread_id=thread_id))
        with refused(grpc.StatusCode.NOT_FOUND, "THREAD_NOT_FOUND"):
            await core.threads.ListMessages(ListMessagesRequest(thread_id=thread_id))
    assert (await core.runs.ListRuns(ListRunsRequest(thread_id="\0"))).runs == []


async def test_lists_page_through_everything_once(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(agent("echo"), agent("other"), credit=20)
    runs: list[Run] = []
    for number in range(7):
        job = await any_core.started(worker, thread_id="t" if number % 2 else "", agent_id="echo")
        await job.say_all(f"{number}")
        runs.append(await any_core.get(job.run_id))
    newest_first = [run.id for run in reversed(runs)]
    assert await _run_ids(any_core, ListRunsRequest(page_size=3)) == newest_first
    assert await _run_ids(any_core, ListRunsRequest(page_size=2, thread_id="t")) == newest_first[1::2]
    assert await _run_ids(any_core, ListRunsRequest(agent_id="other")) == []
    succeeded = ListRunsRequest(states=[RunState.RUN_STATE_SUCCEEDED], page_size=5)
    assert await _run_ids(any_core, succeeded) == newest_first
    assert await _run_ids(any_core, ListRunsRequest(states=[RunState.RUN_STATE_FAILED])) == []
    since = ListRunsRequest(created_since=runs[3].create_time, created_before=runs[5].create_time)
    assert await _run_ids(any_core, since) == [runs[4].id, runs[3].id]
    assert len(await _messages(any_core, "t", page_size=2)) == 6
    first = await any_core.agents.ListAgents(ListAgentsRequest(page_size=1))
    second = await any_core.agents.ListAgents(ListAgentsRequest(page_size=1, page_token=first.next_page_token))
    assert [known.id for known in (*first.agents, *second.agents)] == ["echo", "other"]
    assert second.next_page_token == ""


async def test_bad_pages_are_refused(core: RunningCore) -> None:
    await core.threads.CreateThread(CreateThreadRequest(thread_id="t"))
    threads_token = "dGhyZWFkczoxOng"  # of another list
    for token in ("x", "!!", "\0", threads_token, "cnVuczp4", "cnVuczo", "é"):
        with refused(INVALID, "INVALID_PAGE_TOKEN"):
            await core.runs.ListRuns(ListRunsRequest(page_token=token))
        with refused(INVALID, "INVALID_PAGE_TOKEN"):
            await core.agents.ListAgents(ListAgentsRequest(page_token=token))
        with refused(INVALID, "INVALID_PAGE_TOKEN"):
            await core.threads.ListMessages(ListMessagesRequest(thread_id="t", page_token=token))
    for token in ("x", "cnVuczoxOng"):
        with refused(INVALID, "INVALID_PAGE_TOKEN"):
            await core.threads.ListThreads(ListThreadsRequest(page_token=token))
    with refused(INVALID, "INVALID_ARGUMENT", field="page_size"):
        await core.runs.ListRuns(ListRunsRequest(page_size=-1))
    with refused(INVALID, "INVALID_ARGUMENT", field="page_size"):
        await core.agents.ListAgents(ListAgentsRequest(page_size=-1))
    with refused(INVALID, "INVALID_ARGUMENT", field="page_size"):
        await core.runs.ListEvents(ListEventsRequest(run_id="run_x", page_size=-1))
    assert (await core.runs.ListRuns(ListRunsRequest(page_size=1_000_000))).runs == []


async def test_events_are_listed_in_pages(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker)
    await job.say_all(*(f"{number} " for number in range(30)))
    whole = await core.events(job.run_id)
    for size in (1, 7, 100):
        paged: list[Event] = []
        while len(paged) < len(whole):
            request = ListEventsRequest(run_id=job.run_id, after_seq=len(paged), page_size=size)
            page = await core.runs.ListEvents(request)
            assert 0 < len(page.events) <= size
            assert page.head_seq == len(whole)
            paged.extend(page.events)
        assert paged == whole
    beyond = await core.runs.ListEvents(ListEventsRequest(run_id=job.run_id, after_seq=len(whole)))
    assert list(beyond.events) == []


async def _run_ids(core: RunningCore, request: ListRunsRequest) -> list[str]:
    """All pages of a list."""
    found: list[str] = []
    while True:
        page = await core.runs.ListRuns(request)
        assert len(page.runs) <= (request.page_size or 100)
        found.extend(run.id for run in page.runs)
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


async def _messages(core: RunningCore, thread_id: str, *, page_size: int) -> list[str]:
    request = ListMessagesRequest(thread_id=thread_id, page_size=page_size)
    found: list[str] = []
    while True:
        page = await core.threads.ListMessages(request)
        found.extend(texts(page.messages))
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token
