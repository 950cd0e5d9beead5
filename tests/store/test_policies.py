"""What a create does to a thread that is busy: interrupt, rollback, steer (ENGINE.md, G4)."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from core_service.domain.errors import QueueFull, ThreadBusy, ThreadWaiting
from core_service.domain.runs import ENDED, QUEUED, RUNNING, WAITING
from core_service.domain.threads import Turn, decide
from core_service.ports import AppendOutcome, Created, InboxState, NewRun, RequestKey
from penstock.v1.run_pb2 import BusyPolicy, EndReason, Run, RunState, UnreadPolicy
from tests.store.world import TENANT, World, texts

REJECT = BusyPolicy.BUSY_POLICY_REJECT
ENQUEUE = BusyPolicy.BUSY_POLICY_ENQUEUE
INTERRUPT = BusyPolicy.BUSY_POLICY_INTERRUPT
ROLLBACK = BusyPolicy.BUSY_POLICY_ROLLBACK
STEER = BusyPolicy.BUSY_POLICY_STEER
SUPERSEDED = EndReason.END_REASON_SUPERSEDED
USER = EndReason.END_REASON_USER
THREAD = "thr_1"


def on_thread(world: World, policy: BusyPolicy.ValueType, **more: object) -> NewRun:
    return dataclasses.replace(world.new_run(thread_id=THREAD, policy=policy), **more)  # type: ignore[arg-type]


async def superseding(world: World, policy: BusyPolicy.ValueType) -> tuple[Created, list[str]]:
    created = await world.create(on_thread(world, policy))
    return created, [head.run_id for head in created.superseded]


# ── the table ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("policy", "turns"),
    [
        (ENQUEUE, (Turn.BEHIND, Turn.BEHIND, Turn.UNANSWERED)),
        (REJECT, (Turn.BUSY, Turn.BUSY, Turn.UNANSWERED)),
        (INTERRUPT, (Turn.INTERRUPT, Turn.INTERRUPT, Turn.INTERRUPT)),
        (ROLLBACK, (Turn.ROLLBACK, Turn.ROLLBACK, Turn.ROLLBACK)),
        (STEER, (Turn.BEHIND, Turn.STEER, Turn.STEER)),
    ],
)
def test_the_table_of_policies(policy: BusyPolicy.ValueType, turns: tuple[Turn, Turn, Turn]) -> None:
    states: tuple[RunState.ValueType, ...] = (QUEUED, RUNNING, WAITING)
    assert tuple(decide(policy, state, waiting=0) for state in states) == turns
    assert {decide(policy, state, waiting=0, cancelled=True) for state in states} == {turns[0]}
    assert {decide(policy, state, waiting=1, delayed=True) for state in (None, *states)} == {Turn.LATER}
    assert decide(policy, None, waiting=0) is Turn.HEAD
    assert decide(policy, None, waiting=1) is turns[0]


# ── interrupt and rollback ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("policy", "reason"), [(INTERRUPT, SUPERSEDED), (ROLLBACK, EndReason.END_REASON_ROLLED_BACK)])
async def test_an_interrupt_notes_a_cancel_for_all_that_is_active(
    world: World, policy: BusyPolicy.ValueType, reason: EndReason.ValueType
) -> None:
    holder = await world.running(THREAD)
    waiting = [await world.queued(THREAD) for _ in range(2)]
    elsewhere = await world.running()
    created, superseded = await superseding(world, policy)
    assert (created.started, created.run.state) == (False, QUEUED)
    assert superseded == [holder.id, *(run.id for run in waiting)]
    for head in created.superseded:
        assert head == await world.head(head.run_id)
        assert head.cancel_reason == reason
        assert head.cancel_time is not None
    assert (await world.head(created.run.id)).cancel_reason is None
    assert (await world.head(elsewhere.id)).cancel_reason is None
    overdue = [head.run_id for head in await world.store.overdue_queued(limit=10)]
    assert sorted(overdue) == sorted(run.id for run in waiting)


async def test_the_interrupter_runs_next(world: World) -> None:
    holder = await world.running(THREAD)
    await world.queued(THREAD)
    created, _ = await superseding(world, INTERRUPT)
    assert await world.store.promote([(TENANT, THREAD)]) == set()
    assert await world.cancelled(await world.head(holder.id)) is AppendOutcome.WRITTEN
    assert await world.store.promote([(TENANT, THREAD)]) == {"echo"}
    assert [owned.run.id for owned in await world.claim(limit=5)] == [created.run.id]


async def test_an_interrupt_of_an_idle_thread_starts_at_once(world: World) -> None:
    created, superseded = await superseding(world, INTERRUPT)
    assert (created.started, superseded) == (True, [])


async def test_a_run_that_was_to_be_cancelled_keeps_its_reason(world: World) -> None:
    holder = await world.running(THREAD)
    await world.store.request_cancel(TENANT, holder.id, USER, request=None)
    created, superseded = await superseding(world, INTERRUPT)
    assert (created.started, superseded) == (False, [])
    assert (await world.head(holder.id)).cancel_reason == USER
    second, superseded = await superseding(world, INTERRUPT)
    assert superseded == [created.run.id]
    assert second.run.id != created.run.id


async def test_an_interrupt_does_not_touch_delayed_runs(world: World) -> None:
    await world.running(THREAD)
    later = world.new_run(thread_id=THREAD, available_in=1e9, claim=False)
    delayed = (await world.create(dataclasses.replace(later, delayed=True))).run
    _, superseded = await superseding(world, INTERRUPT)
    assert delayed.id not in superseded
    assert (await world.head(delayed.id)).cancel_reason is None


async def test_a_waiting_thread_is_interrupted(world: World) -> None:
    run, _ = await world.asking("ok", thread_id=THREAD)
    _, superseded = await superseding(world, INTERRUPT)
    assert superseded == [run.id]


async def test_an_interrupted_thread_is_not_full_of_runs_that_will_not_run(world: World) -> None:
    await world.running(THREAD)
    for _ in range(5):
        await world.create(on_thread(world, INTERRUPT, max_queued_per_thread=2))
    await world.create(on_thread(world, ENQUEUE, max_queued_per_thread=2))
    with pytest.raises(QueueFull):
        await world.create(on_thread(world, ENQUEUE, max_queued_per_thread=2))


async def test_a_thread_whose_waiting_runs_are_all_to_be_cancelled_promotes_none(world: World) -> None:
    holder = await world.running(THREAD)
    waiting = await world.queued(THREAD)
    await world.store.request_cancel(TENANT, waiting.id, USER, request=None)
    await world.end(holder)
    assert await world.store.stuck_threads(limit=10) == []
    assert await world.store.promote([(TENANT, THREAD)]) == set()
    assert [head.run_id for head in await world.store.overdue_queued(limit=10)] == [waiting.id]
    assert (await world.create(on_thread(world, ENQUEUE))).started


async def test_interrupts_and_ends_at_once_leave_nobody_behind(world: World) -> None:
    for number in range(20):
        await world.running(f"thr_{number}")

    async def interrupt(number: int) -> Created:
        return await world.create(world.new_run(thread_id=f"thr_{number}", claim=False, policy=INTERRUPT))

    async def end(number: int) -> None:
        thread = await world.thread(f"thr_{number}")
        head = await world.head(thread.active_run_id)
        append = world.ending(await run_of(world, head.run_id), expected=head.last_seq)
        assert await world.append(append) == [AppendOutcome.WRITTEN]
        await world.store.promote([(TENANT, f"thr_{number}")])

    async with asyncio.timeout(60):
        created = await asyncio.gather(*(operation for n in range(20) for operation in (interrupt(n), end(n))))
    await world.store.promote(await world.store.stuck_threads(limit=100))
    claimed = {owned.run.id for owned in await world.claim(limit=100)}
    assert claimed == {one.run.id for one in created if one is not None}
    for one in created:
        for head in one.superseded if one is not None else ():
            assert (await world.head(head.run_id)).state in ENDED


async def run_of(world: World, run_id: str) -> Run:
    run = await world.store.get_run(TENANT, run_id)
    assert run is not None
    return run


# ── steer ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("waits", [False, True])
async def test_a_steering_create_hands_its_messages_to_the_holder(world: World, waits: bool) -> None:  # noqa: FBT001
    if waits:
        holder, _ = await world.asking("ok", thread_id=THREAD)
    else:
        holder = await world.running(THREAD)
    policy = UnreadPolicy.UNREAD_POLICY_RETURN
    new = dataclasses.replace(world.new_run(thread_id=THREAD, policy=STEER, texts=("one", "two")), unread_policy=policy)
    created = await world.create(new)
    assert (created.run.id, created.steered, created.started) == (holder.id, await world.head(holder.id), False)
    assert created.run == await world.store.get_run(TENANT, holder.id)
    rows = (await world.store.run_records(holder.id)).inbox
    assert [(row.pos, row.state, row.unread_policy, row.message.run_id) for row in rows] == [
        (1, InboxState.UNREAD, policy, holder.id),
        (2, InboxState.UNREAD, policy, holder.id),
    ]
    assert texts([row.message for row in rows]) == ["one", "two"]
    assert await world.store.get_run(TENANT, new.run.id) is None
    assert (await world.thread(THREAD)).message_count == 1
    assert await world.store.signalled([holder.id]) == [holder.id]


async def test_a_repeated_steering_create_returns_the_holder(world: World) -> None:
    holder = await world.running(THREAD)
    request = RequestKey("create", "one", b"body")
    new = on_thread(world, STEER, request=request)
    await world.create(new)
    await world.end(holder)
    again = await world.create(on_thread(world, STEER, request=request))
    assert (again.repeated, again.run.id, again.steered) == (True, holder.id, None)
    assert len((await world.store.run_records(holder.id)).inbox) == 1


async def test_a_steering_create_starts_a_run_when_there_is_none(world: World) -> None:
    created = await world.create(on_thread(world, STEER))
    assert (created.started, created.steered) == (True, None)
    assert (await world.thread(THREAD)).message_count == 1


async def test_a_steering_create_queues_behind_what_reads_no_message(world: World) -> None:
    head = await world.create(dataclasses.replace(on_thread(world, ENQUEUE), session=None, started=None))
    behind = await world.create(on_thread(world, STEER))
    assert (behind.started, behind.steered) == (False, None)
    assert behind.run.id != head.run.id
    await world.claim()
    await world.store.request_cancel(TENANT, head.run.id, USER, request=None)
    assert (await world.create(on_thread(world, STEER))).steered is None


async def test_a_cancelled_question_keeps_nobody_waiting(world: World) -> None:
    run, (input_id,) = await world.asking("ok", thread_id=THREAD)
    with pytest.raises(ThreadWaiting) as caught:
        await world.create(on_thread(world, ENQUEUE))
    assert caught.value.metadata == {"run_id": run.id, "input_ids": input_id}
    await world.store.request_cancel(TENANT, run.id, USER, request=None)
    for policy in (ENQUEUE, STEER):
        created = await world.create(on_thread(world, policy))
        assert (created.started, created.steered) == (False, None)
    with pytest.raises(ThreadBusy):
        await world.create(on_thread(world, REJECT))


async def test_a_refusal_names_at_most_twenty_questions(world: World) -> None:
    _, ids = await world.asking(*map(str, range(25)), thread_id=THREAD)
    with pytest.raises(ThreadWaiting) as caught:
        await world.create(on_thread(world, ENQUEUE))
    assert caught.value.metadata["input_ids"].split(",") == ids[:20]


async def test_steering_creates_and_ends_at_once_lose_no_message(world: World) -> None:
    holders = [await world.running(f"thr_{number}") for number in range(30)]

    async def steer(number: int) -> Created:
        return await world.create(world.new_run(thread_id=f"thr_{number}", claim=False, policy=STEER))

    async with asyncio.timeout(60):
        results = await asyncio.gather(
            *(operation for n, run in enumerate(holders) for operation in (steer(n), world.end(run)))
        )
    for holder, created in zip(holders, results[::2], strict=True):
        assert created is not None
        inbox = (await world.store.run_records(holder.id)).inbox
        if created.steered is not None:
            assert [row.state for row in inbox] == [InboxState.TO_FOLLOW_UP]
        else:
            assert (inbox, created.run.state) == ((), QUEUED)


# ── the thread's state ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_create_may_set_the_state_of_an_idle_thread(world: World) -> None:
    created = await world.create(on_thread(world, ENQUEUE, state_json='{"n":1}'))
    assert (created.started, created.state_json, created.state_version) == (True, '{"n":1}', 1)
    thread = await world.thread(THREAD)
    assert (thread.state_json, thread.state_version) == ('{"n":1}', 1)
    await world.end(created.run)
    again = await world.create(on_thread(world, ENQUEUE, state_json='{"n":2}', session=None, started=None))
    (owned,) = await world.claim()
    assert (owned.run.id, owned.state_json, owned.state_version) == (again.run.id, '{"n":2}', 2)


@pytest.mark.parametrize("policy", [ENQUEUE, INTERRUPT, STEER])
async def test_the_state_of_a_busy_thread_is_its_runs(world: World, policy: BusyPolicy.ValueType) -> None:
    holder = await world.running(THREAD)
    with pytest.raises(ThreadBusy) as caught:
        await world.create(on_thread(world, policy, state_json='{"n":1}'))
    assert caught.value.metadata == {"run_id": holder.id}
    thread = await world.thread(THREAD)
    assert (thread.state_json, thread.state_version, thread.message_count) == ("", 0, 1)
    assert (await world.head(holder.id)).cancel_reason is None
