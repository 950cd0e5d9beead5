"""What expires of ended runs: who still gets what, and that nobody ever sees a gap (ENGINE.md, scenario 22)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import grpc
import pytest

from core_service.domain.runs import SUCCEEDED
from penstock.v1.message_pb2 import Role
from penstock.v1.retention_service_pb2 import (
    DeleteRetentionRequest,
    ListRetentionRequest,
    RetentionPolicy,
    SetRetentionRequest,
)
from penstock.v1.run_pb2 import Run
from penstock.v1.run_service_pb2 import ListEventsRequest, StreamRunRequest
from penstock.v1.thread_service_pb2 import GetThreadRequest, ListMessagesRequest
from tests.core.faults import Gate
from tests.core.hand_clock import HandClock
from tests.core.places import Place
from tests.core.refusals import refused
from tests.core.running_core import RunningCore, create_request, texts
from tests.core.scripted_worker import agent
from tests.core.waits import until

ROUND = 40.0
"""Seconds within which each agent is looked at."""


async def keep(core: RunningCore, agent_id: str = "", **kept: timedelta) -> RetentionPolicy:
    """Set a policy."""
    policy = RetentionPolicy(agent_id=agent_id)
    for field, duration in kept.items():
        getattr(policy, field).FromTimedelta(duration)
    return (await core.retention.SetRetention(SetRetentionRequest(policy=policy))).policy


async def ended_run(core: RunningCore, *said: str, **fields: Any) -> Run:
    """A run that said this, each in a commit of its own."""
    worker = core.workers[0] if core.workers else await core.connected_worker()
    await worker.give_credit(1)
    job = await core.started(worker, **fields)
    for text in said:
        await job.say(text)
        await job.acked()
    await job.say_all()
    return await core.ended(job.run_id)


async def expired(core: RunningCore, *runs: Run) -> None:
    """Return once the events of these runs are gone."""

    async def are_gone() -> bool:
        stored = core.place.runs()
        return all(not stored[run.id].rows for run in runs)

    await until(are_gone)


# ── policies ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_policies_are_set_listed_and_deleted(any_core: RunningCore) -> None:
    await any_core.connected_worker(agent("echo"), agent("calls"))
    own = await keep(any_core, "echo", keep_events=timedelta(days=7), keep_runs=timedelta(0))
    whole = await keep(any_core, keep_events=timedelta(days=30), keep_messages=timedelta(days=1.5))
    assert own.HasField("keep_runs")
    assert not own.HasField("keep_messages")
    first = await any_core.retention.ListRetention(ListRetentionRequest(page_size=1))
    request = ListRetentionRequest(page_size=1, page_token=first.next_page_token)
    second = await any_core.retention.ListRetention(request)
    assert [*first.policies, *second.policies] == [whole, own]
    assert second.next_page_token == ""
    await any_core.retention.DeleteRetention(DeleteRetentionRequest(agent_id="echo"))
    with refused(grpc.StatusCode.NOT_FOUND, "RETENTION_NOT_FOUND", agent_id="echo"):
        await any_core.retention.DeleteRetention(DeleteRetentionRequest(agent_id="echo"))
    assert list((await any_core.retention.ListRetention(ListRetentionRequest())).policies) == [whole]


async def test_bad_policies_are_refused_with_the_field(core: RunningCore) -> None:
    await core.connected_worker()
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", field="policy"):
        await keep(core)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", field="keep_runs"):
        await keep(core, keep_runs=timedelta(seconds=-1))
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", field="keep_events"):
        await keep(core, keep_events=timedelta(days=40_000))
    with refused(grpc.StatusCode.NOT_FOUND, "AGENT_NOT_FOUND", agent_id="nobody"):
        await keep(core, "nobody", keep_events=timedelta(days=1))
    assert list((await core.retention.ListRetention(ListRetentionRequest())).policies) == []


# ── events ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_expired_events_are_refused_with_the_oldest_and_the_run_is_still_told(any_place: Place) -> None:
    async with RunningCore(any_place) as core:
        key = "the-same"
        run = await ended_run(core, "one ", "two", request_id=key)
        await core.restart(keep_events=0.001)
        await expired(core, run)
        oldest = str(run.last_seq + 1)
        for after in (0, run.last_seq - 1):
            with refused(grpc.StatusCode.OUT_OF_RANGE, "EVENTS_EXPIRED", oldest_seq=oldest):
                await core.watch(run.id, after).read_to_end()
            with refused(grpc.StatusCode.OUT_OF_RANGE, "EVENTS_EXPIRED", oldest_seq=oldest):
                await core.runs.ListEvents(ListEventsRequest(run_id=run.id, after_seq=after))
        with refused(grpc.StatusCode.OUT_OF_RANGE, "EVENTS_EXPIRED", oldest_seq=oldest):
            again = core.runs.StreamRun(StreamRunRequest(create=create_request(request_id=key)))
            async for message in again:
                assert message.run_id == run.id
        with refused(grpc.StatusCode.OUT_OF_RANGE, "CURSOR_AHEAD", last_seq=str(run.last_seq)):
            await core.watch(run.id, run.last_seq + 1).read_to_end()
        level = await core.watch(run.id, run.last_seq).read_to_end()
        assert (level.seen.events, level.messages[-1].head_seq) == ([], run.last_seq)
        assert await core.get(run.id) == run
        assert await core.ended(run.id) == run


async def test_events_that_were_in_memory_expire_with_the_others(timed_core: RunningCore, clock: HandClock) -> None:
    await timed_core.connected_worker()
    run = await ended_run(timed_core, "one")
    open_watch = await timed_core.watch(run.id).read_to_end()
    assert open_watch.seen.text == "one"
    await keep(timed_core, keep_events=timedelta(seconds=1))
    await clock.forward(ROUND)
    with refused(grpc.StatusCode.OUT_OF_RANGE, "EVENTS_EXPIRED", oldest_seq=str(run.last_seq + 1)):
        await timed_core.watch(run.id).read_to_end()


async def test_snapshot_of_a_run_without_events_is_made_of_its_messages(any_place: Place) -> None:
    async with RunningCore(any_place) as core:
        await ended_run(core, "before", thread_id="t")
        run = await ended_run(core, "one ", "two", thread_id="t")
        whole = await core.snapshot(run.id)
        assert texts(whole.messages) == ["one two"]
        await core.restart(keep_events=0.001)
        await expired(core, run)
        late = await core.snapshot(run.id)
        assert (late.run, list(late.messages)) == (whole.run, list(whole.messages))


async def test_watchers_that_page_while_events_expire_see_no_gap(any_place: Place) -> None:
    async with RunningCore(any_place) as core:
        run = await ended_run(core, *map(str, range(40)))
        await core.restart()  # nothing is in memory: they page through the store
        gate = core.store.hold("read_segments", when=lambda run_id, **cursor: cursor["after_seq"] > 0, times=2)
        watch, many = core.watch(run.id), core.watch_many()
        await many.start(1, run.id)
        await until(lambda: has_hits(gate, 2))
        await core.store.retention.expire_events([run.id])
        gate.open()
        oldest = str(run.last_seq + 1)
        with refused(grpc.StatusCode.OUT_OF_RANGE, "EVENTS_EXPIRED", oldest_seq=oldest):
            await watch.read_to_end()
        await many.read_until_over(1)
        error = many.parts[1][-1].error
        assert (error.reason, error.metadata["oldest_seq"]) == ("EVENTS_EXPIRED", oldest)
        assert 0 < watch.seen.cursor < run.last_seq
        assert 0 < many.seen[1].cursor < run.last_seq


async def has_hits(gate: Gate, hits: int) -> bool:
    return gate.hits == hits


async def test_watcher_of_a_half_expired_run_is_told_where_it_begins(
    core: RunningCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await ended_run(core, *map(str, range(40)))
    await core.restart()
    monkeypatch.setattr("core_service.adapters.sql.expiry.ROWS", 10)
    await core.store.retention.expire_events([run.id])
    oldest = core.place.runs()[run.id].oldest_seq
    assert 1 < oldest < run.last_seq
    with refused(grpc.StatusCode.OUT_OF_RANGE, "EVENTS_EXPIRED", oldest_seq=str(oldest)):
        await core.watch(run.id).read_to_end()
    rest = await core.watch(run.id, oldest - 1).read_to_end()
    assert rest.seen.cursor == run.last_seq
    assert [event.seq for event in rest.seen.events] == list(range(oldest, run.last_seq + 1))


async def test_fold_that_finds_its_run_expired_is_no_damage(core: RunningCore) -> None:
    run = await ended_run(core, "one", "two")
    await core.stop()
    gate_core = RunningCore(core.place, fold_delay=0.0)
    await gate_core.start()
    gate = gate_core.store.hold("fold")
    await gate.reached()
    await gate_core.store.retention.expire_events([run.id])
    gate.open()
    await until(lambda: is_unfoldable(gate_core))
    assert gate_core.place.runs()[run.id].rows == []
    await gate_core.hang_up()
    await gate_core.stop()
    await core.start()


async def is_unfoldable(core: RunningCore) -> bool:
    return not await core.store.foldable(ended_before=2**62, limit=10)


# ── messages and runs ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_expired_messages_are_not_shown_to_readers_or_agents(timed_core: RunningCore, clock: HandClock) -> None:
    await timed_core.connected_worker()
    await keep(timed_core, keep_messages=timedelta(minutes=1))
    run = await ended_run(timed_core, "forgotten", thread_id="t")
    await clock.forward(50)
    assert (await timed_core.threads.GetThread(GetThreadRequest(thread_id="t"))).thread.message_count == 2
    await clock.forward(10 + ROUND)
    assert (await timed_core.threads.GetThread(GetThreadRequest(thread_id="t"))).thread.message_count == 0
    assert list((await timed_core.threads.ListMessages(ListMessagesRequest(thread_id="t"))).messages) == []
    worker = timed_core.workers[0]
    await worker.give_credit(1)
    job = await timed_core.started(worker, "anew", thread_id="t")
    assert texts(list(job.assignment.messages)) == ["anew"]
    await job.say_all()
    assert (await timed_core.watch(run.id).read_to_end()).seen.text == "forgotten", "its events are kept"


async def test_expired_run_is_gone_and_its_request_does_not_make_it_again(
    timed_core: RunningCore, clock: HandClock
) -> None:
    await timed_core.connected_worker()
    await keep(timed_core, keep_runs=timedelta(minutes=1))
    run = await ended_run(timed_core, "gone", thread_id="t", request_id="k")
    await clock.forward(60 + ROUND)
    with refused(grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND"):
        await timed_core.get(run.id)
    with refused(grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND"):
        await timed_core.watch(run.id).read_to_end()
    with refused(grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND"):
        await timed_core.create(thread_id="t", request_id="k")
    again = await ended_run(timed_core, "new", thread_id="t")
    assert again.state == SUCCEEDED


async def test_watcher_of_a_run_that_expires_as_a_whole_hears_that_it_is_gone(
    timed_core: RunningCore, clock: HandClock
) -> None:
    run = await ended_run(timed_core, *map(str, range(40)))
    await timed_core.restart(keep_runs=10.0)
    gate = timed_core.store.hold("read_segments", when=lambda run_id, **cursor: cursor["after_seq"] > 0)
    watch = timed_core.watch(run.id)
    await gate.reached()
    await clock.forward(10 + ROUND)
    gate.open()
    with refused(grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND", run_id=run.id):
        await watch.read_to_end()
    await until(lambda: has_no_segments(timed_core))


# ── the loop ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_policy_of_an_agent_wins_over_the_tenants_and_that_over_the_settings(
    sqlite_place: Place, clock: HandClock
) -> None:
    async with RunningCore(sqlite_place, clock=clock, keep_events=1.0) as core:
        worker = await core.connected_worker(agent("echo"), agent("calls"), credit=2)
        runs = {}
        for agent_id in ("echo", "calls"):
            job = await core.started(worker, agent_id=agent_id)
            await job.say_all()
            runs[agent_id] = job.run_id
        await keep(core, "echo", keep_events=timedelta(0))
        await keep(core, keep_events=timedelta(minutes=2))

        def kept() -> set[str]:
            stored = core.place.runs()
            return {agent_id for agent_id, run_id in runs.items() if stored[run_id].rows}

        await clock.forward(100)
        assert kept() == {"echo", "calls"}
        await clock.forward(20 + ROUND)
        assert kept() == {"echo"}
        await core.retention.DeleteRetention(DeleteRetentionRequest(agent_id="echo"))
        await core.retention.DeleteRetention(DeleteRetentionRequest())
        await clock.forward(ROUND)
        assert kept() == set()


async def test_active_runs_are_left_alone_however_old_they_are(timed_core: RunningCore, clock: HandClock) -> None:
    worker = await timed_core.connected_worker()
    day = timedelta(seconds=1)
    await keep(timed_core, keep_events=day, keep_messages=day, keep_runs=day)
    job = await timed_core.started(worker, thread_id="t")
    queued = await timed_core.create(thread_id="t")
    await clock.forward(ROUND)
    await job.say_all("still here")
    assert (await timed_core.watch(job.run_id).read_to_end()).seen.text == "still here"
    await worker.give_credit(1)
    second = await worker.take()
    assert second.run_id == queued.id
    assert texts(list(second.assignment.messages)) == ["hello", "still here", "hello"]
    await second.say_all()


async def test_store_that_is_away_delays_the_expiry(timed_core: RunningCore, clock: HandClock) -> None:
    await timed_core.connected_worker()
    run = await ended_run(timed_core, "one")
    gate = timed_core.store.fail("retention.expire_events", after=True)
    await keep(timed_core, keep_events=timedelta(seconds=1), keep_runs=timedelta(minutes=3))
    await clock.forward(ROUND)
    assert gate.hits == 1
    await clock.forward(ROUND)
    assert timed_core.place.runs()[run.id].rows == []
    await clock.forward(120 + ROUND)
    assert timed_core.place.runs() == {}


async def test_more_runs_than_one_portion_takes_expire_in_one_go(any_place: Place) -> None:
    async with RunningCore(any_place, max_queued_per_agent=1_000) as core:
        worker = await core.connected_worker(credit=250)
        made = await asyncio.gather(*(core.create() for _ in range(250)))
        for _ in made:
            await (await worker.take()).end()
        await core.until(lambda: all(run.state == SUCCEEDED for run in core.place.runs().values()))
        await core.hang_up()
        await core.restart(keep_events=0.001)
        await until(lambda: has_no_segments(core))


async def has_no_segments(core: RunningCore) -> bool:
    return core.place.rows("SELECT count(*) FROM segments") == [(0,)]


async def test_what_a_run_said_stays_in_its_thread_when_its_events_expire(any_place: Place) -> None:
    async with RunningCore(any_place) as core:
        run = await ended_run(core, "kept", thread_id="t")
        await core.restart(keep_events=0.001)
        await expired(core, run)
        found = (await core.threads.ListMessages(ListMessagesRequest(thread_id="t"))).messages
        assert [(message.role, *texts([message])) for message in found] == [
            (Role.ROLE_USER, "hello"),
            (Role.ROLE_ASSISTANT, "kept"),
        ]
