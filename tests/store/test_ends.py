"""What else an end does in its transaction: somebody is told, and a run that is rolled back leaves no trace."""

from __future__ import annotations

import dataclasses

from core_service.domain.runs import CANCELLED, QUEUED, RUNNING, SUCCEEDED
from core_service.ports import AppendOutcome, RunChange
from penstock.v1.run_pb2 import BusyPolicy, EndReason, Run
from tests.store.world import TENANT, World, message, output

ROLLED_BACK = EndReason.END_REASON_ROLLED_BACK
ROLLBACK = BusyPolicy.BUSY_POLICY_ROLLBACK
URL = "https://example.org/hook"


def rolled_back(*said: str) -> RunChange:
    return RunChange(
        state=CANCELLED,
        reason=ROLLED_BACK,
        ended=b"",
        release=True,
        messages=tuple(message(text) for text in said),
        rolled_back=True,
    )


async def test_an_end_makes_one_delivery_per_webhook(world: World) -> None:
    run, quiet, fenced = [await world.running() for _ in range(3)]
    end = world.ending(run)
    assert end.change is not None
    told = dataclasses.replace(end, change=dataclasses.replace(end.change, webhook_url=URL))
    stale = dataclasses.replace(told, run_id=fenced.id, fence=9)
    await world.append(told, world.ending(quiet), stale)
    assert await world.append(told) == [AppendOutcome.WRITTEN]
    rows = await world.rows(
        "SELECT delivery_id, tenant, run_id, url, state, attempts, last_error, delivered, next_time, created "
        "FROM webhooks"
    )
    (delivery_id, *row, next_time, created) = rows[0]
    assert len(rows) == 1
    assert delivery_id.startswith("whk_")
    assert row == [TENANT, run.id, URL, 0, 0, "", None]
    assert next_time == created


# ── rollback ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_run_that_is_rolled_back_takes_its_messages_and_state_with_it(world: World) -> None:
    first = await world.create(world.new_run(thread_id="thr_1", texts=("one",)))
    change = RunChange(
        state=SUCCEEDED, release=True, messages=(message("answer"),), state_json='{"n":1}', state_version=1
    )
    await world.append(output(first.run.id, change=change))
    second = await world.create(world.new_run(thread_id="thr_1", texts=("two", "three")))
    paused = RunChange(state=RUNNING, messages=(message("said"),), state_json='{"n":2}', state_version=3)
    await world.append(output(second.run.id, change=paused))
    assert await world.shown("thr_1") == ["one", "answer", "two", "three", "said"]
    await world.append(output(second.run.id, expected=3, change=rolled_back("last words")))
    thread = await world.thread("thr_1")
    assert await world.shown("thr_1") == ["one", "answer"]
    assert (thread.message_count, thread.state_json, thread.state_version) == (2, '{"n":1}', 4)
    third = await world.create(world.new_run(thread_id="thr_1", texts=("four",)))
    assert [part.text.text for found in third.history for part in found.parts] == ["one", "answer"]
    assert (third.state_json, third.state_version) == ('{"n":1}', 4)


async def test_a_rollback_of_a_run_that_changed_no_state_leaves_its_version(world: World) -> None:
    run = await world.running("thr_1")
    await world.append(output(run.id, change=rolled_back()))
    thread = await world.thread("thr_1")
    assert (thread.message_count, thread.state_json, thread.state_version) == (0, "", 0)


async def test_a_rollback_of_a_run_that_never_started_has_no_state_to_restore(world: World) -> None:
    first = await world.running("thr_1")
    queued = await world.queued("thr_1")
    change = RunChange(state=RUNNING, state_json='{"n":1}', state_version=1)
    await world.append(output(first.id, change=change))
    await world.append(output(queued.id, expected=1, change=rolled_back()))
    thread = await world.thread("thr_1")
    assert (thread.message_count, thread.state_json, thread.state_version) == (1, '{"n":1}', 1)
    assert await world.shown("thr_1") == ["hello"]


async def test_rollback_ends_holder_and_waiting_and_starts_the_new_run(world: World) -> None:
    holder = await world.running("thr_1")
    waiting = await world.queued("thr_1")
    created = await world.create(world.new_run(thread_id="thr_1", texts=("instead",), policy=ROLLBACK))
    for head in created.superseded:
        assert await world.cancelled(head, rolled_back=True) is AppendOutcome.WRITTEN
    assert await world.shown("thr_1") == ["instead"]
    assert (await world.thread("thr_1")).message_count == 1
    assert await world.store.promote([(TENANT, "thr_1")]) == {"echo"}
    (owned,) = await world.claim()
    assert (owned.run.id, owned.history) == (created.run.id, ())
    reasons = [await reason_of(world, run) for run in (holder, waiting)]
    assert reasons == [ROLLED_BACK, ROLLED_BACK]


async def reason_of(world: World, run: Run) -> int:
    found = await world.store.get_run(TENANT, run.id)
    assert found is not None
    assert found.state not in (QUEUED, RUNNING)
    return found.reason
