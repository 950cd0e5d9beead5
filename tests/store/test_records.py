"""What an append notes beside the log is there when the log is, and only then."""

from __future__ import annotations

import dataclasses

import pytest

from core_service.domain.errors import InvalidArgument
from core_service.ports import AppendOutcome, InboxState, Noted, RunRecords, StepRow
from penstock.v1.run_pb2 import InputOutcome, UnreadPolicy
from tests.store.world import ANSWERED, FUTURE, TENANT, World, output, question, records, resolved

WRITTEN, REFUSED = AppendOutcome.WRITTEN, AppendOutcome.REFUSED
EXPIRED = InputOutcome.INPUT_OUTCOME_EXPIRED
WITHDRAWN = InputOutcome.INPUT_OUTCOME_WITHDRAWN


def step(key: str, started_seq: int, ended_seq: int | None = None, result_json: str = "") -> StepRow:
    return StepRow(key, key.rpartition("/")[0], started_seq, ended_seq, bool(result_json), b"\0hash", result_json)


async def test_steps_come_back_in_the_order_they_were_started(world: World) -> None:
    run, other = await world.running(), await world.running()
    inner, outer = step("a#1/b#1", 4), step("a#1", 3)
    await world.append(
        output(run.id, count=2, noted=Noted(steps=(inner, outer))),
        output(other.id, noted=Noted(steps=(step("a#1", 3),))),
    )
    done = dataclasses.replace(inner, ended_seq=5, is_completed=True, result_json='{"n":1}')
    cut = dataclasses.replace(outer, ended_seq=6)
    await world.append(output(run.id, expected=4, count=2, noted=Noted(steps=(done, cut))))
    assert await world.store.run_records(run.id) == RunRecords(steps=(cut, done))
    assert await world.store.run_records(other.id) == RunRecords(steps=(step("a#1", 3),))
    assert await world.store.run_records("run_unknown") == RunRecords()


async def test_a_question_is_open_until_the_log_tells_how_it_was_settled(world: World) -> None:
    run = await world.running()
    asked = question("ok", 3, expires=FUTURE)
    await world.append(output(run.id, noted=Noted(asked=(asked,))))
    assert await world.store.run_records(run.id) == RunRecords(questions=(asked,))
    input_id = asked.request.id
    told = resolved(4, input_id, EXPIRED)
    await world.append(output(run.id, expected=3, data=told, noted=Noted(resolved=((input_id, 4),))))
    settled = dataclasses.replace(asked, outcome=EXPIRED, resolved_seq=4)
    assert await world.store.run_records(run.id) == RunRecords(questions=(settled,))
    found = await world.store.get_input(TENANT, input_id)
    assert found is not None
    assert found.HasField("resolve_time")


async def test_a_question_may_be_asked_and_settled_by_one_append(world: World) -> None:
    run = await world.running()
    asked = question("ok", 3)
    data = records(3, 3) + resolved(4, asked.request.id, ANSWERED, "{}")
    noted = Noted(asked=(asked,), resolved=((asked.request.id, 4),))
    await world.append(output(run.id, count=2, data=data, noted=noted))
    (row,) = (await world.store.run_records(run.id)).questions
    assert (row.outcome, row.answer_json, row.resolved_seq) == (ANSWERED, "{}", 4)


async def test_an_answer_that_the_log_tells_of_keeps_who_gave_it_and_when(world: World) -> None:
    run, (input_id,) = await world.asking("ok")
    await world.answer(run.id, input_id)
    before = await world.store.get_input(TENANT, input_id)
    world.clock.forward(60)
    # The event of the tests says less than a real one; what it does not say is not asked for here.
    await world.append(output(run.id, expected=4, noted=Noted(resolved=((input_id, 5),))))
    assert await world.store.get_input(TENANT, input_id) == before
    (row,) = (await world.store.run_records(run.id)).questions
    assert (row.outcome, row.answered_by, row.origin_json, row.resolved_seq) == (ANSWERED, "ada", '{"from":"test"}', 5)


async def test_messages_are_received_and_read(world: World) -> None:
    run = await world.running()
    for text in ("one", "two", "three"):
        await world.steer(run.id, text, policy=UnreadPolicy.UNREAD_POLICY_RETURN)
    await world.append(
        output(run.id, count=2, noted=Noted(received=((1, 3), (2, 4)))),
    )
    await world.append(output(run.id, expected=4, count=0, acked=2, noted=Noted(read=((1, 1), (2, 2)))))
    inbox = (await world.store.run_records(run.id)).inbox
    assert [(row.pos, row.state, row.read_no, row.seq) for row in inbox] == [
        (1, InboxState.READ, 1, 3),
        (2, InboxState.READ, 2, 4),
        (3, InboxState.UNREAD, None, None),
    ]
    assert {row.unread_policy for row in inbox} == {UnreadPolicy.UNREAD_POLICY_RETURN}


async def test_an_append_without_events_notes_and_may_be_repeated(world: World) -> None:
    run = await world.running()
    await world.steer(run.id)
    read = output(run.id, count=0, acked=3, noted=Noted(read=((1, 1),)))
    assert await world.append(read) == [WRITTEN]
    assert await world.append(read) == [WRITTEN]
    assert await world.log(run.id) == [1, 2]
    (row,) = (await world.store.run_records(run.id)).inbox
    assert (row.state, row.read_no) == (InboxState.READ, 1)


@pytest.mark.parametrize(("fence", "expected"), [(2, 2), (1, 3)])
async def test_a_refused_append_notes_nothing(world: World, fence: int, expected: int) -> None:
    run, other = await world.running(), await world.running()
    noted = Noted(steps=(step("a#1", 3),), asked=(question("ok", 3),))
    outcomes = await world.append(
        output(run.id, fence=fence, expected=expected, count=0, noted=noted),
        output(other.id, noted=Noted(steps=(step("a#1", 3),))),
    )
    assert outcomes == [REFUSED, WRITTEN]
    assert await world.store.run_records(run.id) == RunRecords()
    assert len((await world.store.run_records(other.id)).steps) == 1


async def test_a_result_that_a_database_cannot_hold_is_refused_on_both(world: World) -> None:
    run = await world.running()
    with pytest.raises(InvalidArgument):
        await world.append(output(run.id, noted=Noted(steps=(step("a#1", 3, 4, '"\0"'),))))
    assert await world.log(run.id) == [1, 2]


async def test_a_run_shows_its_open_questions(world: World) -> None:
    run, (first, second) = await world.asking("first", "second")
    shown = await world.store.get_run(TENANT, run.id)
    assert shown is not None
    assert [asked.id for asked in shown.inputs] == [first, second]
    await world.answer(run.id, first)
    shown = await world.store.get_run(TENANT, run.id)
    assert shown is not None
    assert [asked.id for asked in shown.inputs] == [second]
