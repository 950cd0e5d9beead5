"""The log takes an append whole or not at all, from the run's owner only, and once."""

from __future__ import annotations

import dataclasses
import sqlite3

import psycopg
import pytest

from core_service.domain.errors import InvalidArgument
from core_service.domain.runs import QUEUED, SUCCEEDED, WAITING
from core_service.ports import AppendOutcome, RunChange
from penstock.v1.run_pb2 import EndReason
from tests.store.world import TENANT, World, message, output, records, texts

WRITTEN, REFUSED = AppendOutcome.WRITTEN, AppendOutcome.REFUSED


async def test_one_fenced_run_in_a_batch_of_100_leaves_99_written(world: World) -> None:
    runs = [await world.running() for _ in range(100)]
    stale = runs[41]
    assert await world.store.take(stale.id, fence=1, owner="core_b")
    outcomes = await world.append(*(output(run.id, count=3) for run in runs))
    assert outcomes == [REFUSED if run is stale else WRITTEN for run in runs]
    assert await world.log(stale.id) == [1, 2]
    assert [await world.log(run.id) for run in runs if run is not stale] == [[1, 2, 3, 4, 5]] * 99


@pytest.mark.parametrize("expected", [1, 3])
async def test_an_append_at_the_wrong_seq_is_refused(world: World, expected: int) -> None:
    run = await world.running()
    assert await world.append(output(run.id, expected=expected, count=2)) == [REFUSED]
    assert await world.log(run.id) == [1, 2]


async def test_an_append_to_an_unknown_run_is_refused(world: World) -> None:
    assert await world.append(output("run_unknown")) == [REFUSED]


async def test_a_repeated_append_is_written_and_adds_nothing(world: World) -> None:
    run = await world.running()
    end = dataclasses.replace(
        world.ending(run, "bye"),
        change=RunChange(
            state=SUCCEEDED, release=True, messages=(message("bye"),), state_json='{"n":1}', state_version=1
        ),
    )
    assert await world.append(end) == [WRITTEN]
    assert await world.append(end) == [WRITTEN]
    assert await world.log(run.id) == [1, 2, 3]
    thread = await world.store.get_thread(TENANT, run.thread_id)
    assert thread is not None
    assert (thread.message_count, thread.state_json, thread.state_version) == (2, '{"n":1}', 1)


async def test_an_append_that_another_owner_overtook_is_not_taken_for_its_repeat(world: World) -> None:
    run = await world.running()
    assert await world.store.take(run.id, fence=1, owner="core_b")
    assert await world.append(output(run.id, fence=2)) == [WRITTEN]
    assert await world.append(output(run.id, fence=1)) == [REFUSED]


async def test_outputs_without_events_move_the_accepted_count_only(world: World) -> None:
    run = await world.running()
    assert await world.append(output(run.id, count=0, acked=9)) == [WRITTEN]
    assert await world.log(run.id) == [1, 2]
    adopted = await world.store.adopt(run.id, attempt=1, owner="core_b", session=world.session)
    assert adopted is not None
    assert (adopted.acked, adopted.last_seq, adopted.fence) == (9, 2, 2)


async def test_an_end_frees_the_thread_and_the_owner_in_the_same_transaction(world: World) -> None:
    run = await world.running()
    await world.end(run, "I", "said")
    ended = await world.store.get_run(TENANT, run.id)
    head = await world.store.head(run.id)
    thread = await world.store.get_thread(TENANT, run.thread_id)
    assert ended is not None
    assert head is not None
    assert thread is not None
    assert (ended.state, ended.reason, ended.result_json) == (SUCCEEDED, EndReason.END_REASON_COMPLETED, '{"ok":true}')
    assert ended.HasField("end_time")
    assert (head.owner, head.session, head.last_seq) == (None, None, 3)
    assert (thread.active_run_id, thread.message_count) == ("", 3)
    assert (await world.store.create_run(world.new_run(thread_id=run.thread_id))).started


async def test_a_retry_queues_the_run_again_as_the_head_of_its_thread(world: World) -> None:
    run = await world.running()
    later = world.clock.now() - 5
    change = RunChange(state=QUEUED, failures=1, lost_workers=1, available_time=later, start_by=later + 7, release=True)
    assert await world.append(output(run.id, change=change)) == [WRITTEN]
    (again,) = await world.claim()
    assert (again.run.attempt, again.failures, again.lost_workers, again.fence, again.acked) == (2, 1, 1, 2, 0)
    assert await world.log(run.id) == [1, 2, 3, 4]


async def test_a_pause_keeps_owner_and_thread(world: World) -> None:
    run = await world.running()
    assert await world.append(output(run.id, change=RunChange(state=WAITING, leg=1))) == [WRITTEN]
    head = await world.store.head(run.id)
    paused = await world.store.get_run(TENANT, run.id)
    assert head is not None
    assert paused is not None
    assert (head.owner, head.session, head.state) == (world.owner, world.session, WAITING)
    assert (paused.leg, paused.state) == (1, WAITING)


async def test_a_poisoned_append_raises_and_the_others_can_be_made_again(world: World) -> None:
    runs = [await world.running() for _ in range(8)]
    taken = message("taken")
    batch = [world.ending(run, "fine", expected=2) for run in runs]
    change = RunChange(state=SUCCEEDED, release=True, messages=(taken, taken))
    poisoned = output(runs[5].id, change=change)
    with pytest.raises((sqlite3.IntegrityError, psycopg.IntegrityError)):
        await world.append(*batch[:5], poisoned, *batch[6:])
    assert [await world.log(run.id) for run in runs] == [[1, 2]] * 8
    assert await world.append(*batch[:5], *batch[6:]) == [WRITTEN] * 7
    with pytest.raises((sqlite3.IntegrityError, psycopg.IntegrityError)):
        await world.append(poisoned)
    assert await world.append(output(runs[5].id)) == [WRITTEN]


@pytest.mark.parametrize("text", ['{"a":"\0"}', '"\ud800"'])
async def test_a_state_that_a_database_cannot_hold_is_refused_on_both(world: World, text: str) -> None:
    run = await world.running()
    change = RunChange(state=SUCCEEDED, state_json=text, state_version=1)
    with pytest.raises(InvalidArgument):
        await world.append(output(run.id, change=change))
    assert await world.log(run.id) == [1, 2]


async def test_messages_stand_in_the_order_of_the_conversation(world: World) -> None:
    first = await world.running()
    second = await world.queued(first.thread_id)
    await world.end(first, "answer 1")
    assert await world.store.promote([(TENANT, first.thread_id)]) == {"echo"}
    (claimed,) = await world.claim()
    assert claimed.run.id == second.id
    assert texts(claimed.history) == ["hello", "answer 1"]
    assert texts(claimed.input) == ["hello"]
    await world.end(second, "answer 2", "answer 3", fence=2)
    page = await world.store.list_messages(TENANT, first.thread_id, after_pos=-1, limit=100)
    assert texts([found for _, found in page]) == ["hello", "answer 1", "hello", "answer 2", "answer 3"]
    rest = await world.store.list_messages(TENANT, first.thread_id, after_pos=page[1][0], limit=2)
    assert rest == page[2:4]


async def test_a_segment_is_stored_byte_for_byte(world: World) -> None:
    run = await world.running()
    data = records(3, 40)
    await world.append(output(run.id, count=38, data=data))
    (segment,) = await world.store.read_segments(run.id, after_seq=10, limit=5)
    assert (segment.first_seq, segment.last_seq, segment.data) == (3, 40, data)
