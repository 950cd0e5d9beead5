"""A question is settled once: by an answer, by its expiry or by the end of its run (promise 7)."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from core_service.domain.errors import (
    IdempotencyMismatch,
    InputAnswered,
    InputNotFound,
    InvalidArgument,
    Refusal,
    RunHasEnded,
    RunNotFound,
)
from core_service.domain.runs import CANCELLED, QUEUED, WAITING, end_state
from core_service.ports import Answer, AppendOutcome, InputFilter, Noted, Page, RequestKey, RunChange
from penstock.v1.run_pb2 import EndReason, Input, InputOutcome
from tests.store.world import ANSWERED, PAST, TENANT, World, output, question, records, resolved

USER = EndReason.END_REASON_USER
INPUT_EXPIRED = EndReason.END_REASON_INPUT_EXPIRED
DECLINED = InputOutcome.INPUT_OUTCOME_DECLINED
EXPIRED = InputOutcome.INPUT_OUTCOME_EXPIRED
WITHDRAWN = InputOutcome.INPUT_OUTCOME_WITHDRAWN


def key(name: str, body: bytes = b"body") -> RequestKey:
    return RequestKey("answer", name, body)


async def outcomes(world: World, run_id: str) -> list[tuple[int, str, int | None]]:
    rows = (await world.store.run_records(run_id)).questions
    return [(row.outcome, row.answered_by, row.resolved_seq) for row in rows]


async def ids(world: World, which: InputFilter, size: int = 100) -> list[str]:
    found: list[Input] = []
    after: tuple[int, str] | None = None
    while page := await world.store.list_inputs(TENANT, which, Page(size, after)):
        assert len(page) <= size
        found += page
        after = (page[-1].create_time.ToMicroseconds(), page[-1].request.id)
    return [one.request.id for one in found]


# ── answering ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_answer_is_a_row_and_the_log_comes_later(world: World) -> None:
    run, (first, second) = await world.asking("first", "second")
    head = await world.answer(run.id, first)
    assert (head.run_id, head.state, head.owner, head.last_seq) == (run.id, WAITING, world.owner, 5)
    assert await outcomes(world, run.id) == [(ANSWERED, "ada", None), (0, "", None)]
    (row, _) = (await world.store.run_records(run.id)).questions
    assert (row.answer_json, row.origin_json) == ('{"answer":"ada"}', '{"from":"test"}')
    assert await world.log(run.id) == [1, 2, 3, 4, 5]
    found = await world.store.get_input(TENANT, first)
    assert found is not None
    assert (found.outcome, found.answered_by, found.answer_json) == (ANSWERED, "ada", '{"answer":"ada"}')
    assert found.HasField("resolve_time")
    assert await ids(world, InputFilter(is_open=True)) == [second]


async def test_a_second_answer_is_refused_and_told_who_was_first(world: World) -> None:
    run, (input_id,) = await world.asking("ok")
    await world.answer(run.id, input_id, by="ada")
    with pytest.raises(InputAnswered) as caught:
        await world.answer(run.id, input_id, by="bob")
    assert caught.value.metadata == {"input_id": input_id, "outcome": "answered", "answered_by": "ada"}
    assert await outcomes(world, run.id) == [(ANSWERED, "ada", None)]


async def test_answers_are_taken_all_or_none(world: World) -> None:
    run, (first, second) = await world.asking("first", "second")
    await world.answer(run.id, second, by="bob")
    with pytest.raises(InputAnswered):
        await world.answer(run.id, first, second)
    with pytest.raises(InputNotFound) as caught:
        await world.answer(run.id, first, "inp_unknown")
    assert caught.value.metadata == {"input_id": "inp_unknown", "run_id": run.id}
    with pytest.raises(InvalidArgument):
        await world.answer(run.id, first, first)
    assert await outcomes(world, run.id) == [(0, "", None), (ANSWERED, "bob", None)]


async def test_a_question_of_another_run_is_not_found(world: World) -> None:
    run, _ = await world.asking("ok")
    _, (foreign,) = await world.asking("ok")
    with pytest.raises(InputNotFound):
        await world.answer(run.id, foreign)


async def test_an_answer_to_no_run_or_a_foreign_one_is_refused(world: World) -> None:
    run, (input_id,) = await world.asking("ok")
    with pytest.raises(RunNotFound):
        await world.answer("run_unknown", input_id)
    answers = [Answer(input_id, ANSWERED, "{}")]
    with pytest.raises(RunNotFound):
        await world.store.answer("elsewhere", run.id, answers, answered_by="", origin_json="", request=None)
    assert await outcomes(world, run.id) == [(0, "", None)]


async def test_an_answer_to_an_ended_run_is_refused(world: World) -> None:
    run, (input_id,) = await world.asking("ok")
    await world.end(run)
    with pytest.raises(RunHasEnded) as caught:
        await world.answer(run.id, input_id)
    assert caught.value.metadata == {"run_id": run.id}


async def test_a_decline_is_an_answer(world: World) -> None:
    run, (input_id,) = await world.asking("ok")
    answers = [Answer(input_id, DECLINED, "")]
    await world.store.answer(TENANT, run.id, answers, answered_by="ada", origin_json="", request=None)
    with pytest.raises(InputAnswered) as caught:
        await world.answer(run.id, input_id)
    assert caught.value.metadata["outcome"] == "declined"


async def test_a_question_past_its_expiry_cannot_be_answered(world: World) -> None:
    run, (input_id,) = await world.asking("ok", expires=PAST)
    with pytest.raises(InputAnswered) as caught:
        await world.answer(run.id, input_id)
    assert caught.value.metadata == {"input_id": input_id, "outcome": "expired", "answered_by": ""}


async def test_a_repeated_answer_changes_nothing(world: World) -> None:
    run, (input_id,) = await world.asking("ok")
    first = await world.answer(run.id, input_id, request=key("one"))
    assert await world.answer(run.id, input_id, by="bob", request=key("one")) == first
    assert await outcomes(world, run.id) == [(ANSWERED, "ada", None)]
    with pytest.raises(IdempotencyMismatch):
        await world.answer(run.id, input_id, request=key("one", b"another body"))
    await world.end(run)
    assert (await world.answer(run.id, input_id, request=key("one"))).run_id == run.id


async def test_a_refused_answer_leaves_its_request_unused(world: World) -> None:
    run, (first, second) = await world.asking("first", "second")
    await world.answer(run.id, first)
    with pytest.raises(InputAnswered):
        await world.answer(run.id, first, request=key("one"))
    await world.answer(run.id, second, request=key("one", b"another body"))
    assert [outcome for outcome, _, _ in await outcomes(world, run.id)] == [ANSWERED, ANSWERED]


# ── expiry and end ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_open_questions_expire_and_each_run_is_named_once(world: World) -> None:
    two, (first, second) = await world.asking("first", "second", expires=PAST)
    one, (third,) = await world.asking("third", expires=PAST)
    fresh, (fourth,) = await world.asking("fourth")
    forever, (fifth,) = await world.asking("fifth", expires=None)
    heads = await world.store.expire_inputs(limit=10)
    assert sorted(head.run_id for head in heads) == sorted([two.id, one.id])
    assert await outcomes(world, two.id) == [(EXPIRED, "", None)] * 2
    assert await world.store.expire_inputs(limit=10) == []
    assert sorted(await ids(world, InputFilter(is_open=True))) == sorted([fourth, fifth])
    assert sorted(await ids(world, InputFilter(is_open=False))) == sorted([first, second, third])
    signalled = await world.store.signalled([two.id, one.id, fresh.id, forever.id])
    assert sorted(signalled) == sorted([two.id, one.id])


async def test_expiry_goes_on_where_its_limit_cut_it(world: World) -> None:
    runs = [(await world.asking("ok", expires=PAST))[0].id for _ in range(5)]
    found = [head.run_id for _ in range(3) for head in await world.store.expire_inputs(limit=2)]
    assert sorted(found) == sorted(runs)


@pytest.mark.parametrize(("reason", "expected"), [(USER, WITHDRAWN), (INPUT_EXPIRED, EXPIRED)])
async def test_an_end_settles_what_the_log_does_not_tell_of(
    world: World, reason: EndReason.ValueType, expected: int
) -> None:
    run, (told, answered, still_open) = await world.asking("told", "answered", "open")
    await world.answer(run.id, told)
    await world.append(output(run.id, expected=6, noted=Noted(resolved=((told, 7),))))
    await world.answer(run.id, answered)
    change = RunChange(state=end_state(reason), reason=reason, ended=b"", release=True)
    await world.append(output(run.id, expected=7, count=3, change=change))
    assert await outcomes(world, run.id) == [(ANSWERED, "ada", 7), (expected, "", 10), (expected, "", 10)]
    found = await world.store.get_input(TENANT, answered)
    assert found is not None
    assert (found.outcome, found.answer_json) == (expected, "")
    assert found.HasField("resolve_time")
    assert await ids(world, InputFilter(is_open=True)) == []
    assert await world.store.signalled([run.id]) == []
    assert still_open in await ids(world, InputFilter(is_open=False))


# ── races ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_of_answers_at_once_one_wins(world: World) -> None:
    waiting = [await world.asking("ok") for _ in range(20)]

    async def try_answer(run_id: str, input_id: str, by: str) -> str:
        try:
            await world.answer(run_id, input_id, by=by)
        except InputAnswered as error:
            return error.metadata["answered_by"]
        return by

    async with asyncio.timeout(60):
        winners = await asyncio.gather(
            *(try_answer(run.id, input_id, by) for run, (input_id,) in waiting for by in ("ada", "bob", "cyd"))
        )
    for number, (run, _) in enumerate(waiting):
        told = set(winners[3 * number : 3 * number + 3])
        assert [{by} for _, by, _ in await outcomes(world, run.id)] == [told]


async def test_answer_cancel_expiry_and_end_at_once_leave_rows_that_agree_with_the_log(world: World) -> None:
    runs = [await world.asking("ok", expires=None) for _ in range(40)]

    async def end(run_id: str) -> AppendOutcome:
        change = RunChange(state=CANCELLED, reason=USER, ended=b"", release=True)
        (outcome,) = await world.append(output(run_id, expected=4, count=2, change=change))
        return outcome

    async def try_answer(run_id: str, input_id: str) -> str:
        try:
            await world.answer(run_id, input_id)
        except Refusal as error:
            return error.reason
        return "answered"

    async with asyncio.timeout(60):
        results = await asyncio.gather(
            *(
                operation
                for run, (input_id,) in runs
                for operation in (
                    try_answer(run.id, input_id),
                    end(run.id),
                    try_answer(run.id, input_id),
                    world.store.request_cancel(TENANT, run.id, USER, request=None),
                    world.store.expire_inputs(limit=10),
                )
            )
        )
    for number, (run, _) in enumerate(runs):
        first, ended, second = results[5 * number : 5 * number + 3]
        assert ended is AppendOutcome.WRITTEN
        assert [first, second].count("answered") <= 1
        assert {first, second} <= {"answered", "INPUT_ANSWERED", "RUN_ENDED"}
        assert await outcomes(world, run.id) == [(WITHDRAWN, "", 6)]


async def test_expiry_and_answers_at_once_settle_each_question_once(sqlite_world: World) -> None:
    world = sqlite_world
    soon = world.clock.now() + 1_000_000
    waiting = [await world.asking("ok", expires=soon) for _ in range(20)]

    async def try_answer(run_id: str, input_id: str) -> bool:
        try:
            await world.answer(run_id, input_id)
        except InputAnswered:
            return False
        return True

    async def expire() -> list[str]:
        world.clock.forward(2)
        return [head.run_id for head in await world.store.expire_inputs(limit=100)]

    answers = [try_answer(run.id, input_id) for run, (input_id,) in waiting]
    async with asyncio.timeout(60):
        results = await asyncio.gather(*answers[:10], expire(), *answers[10:])
    expired = results[10]
    assert isinstance(expired, list)
    won = [*results[:10], *results[11:]]
    for (run, _), answered in zip(waiting, won, strict=True):
        assert (run.id in expired) is not answered


# ── lists ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_questions_are_listed_oldest_first_and_page_by_page(world: World) -> None:
    asked: list[str] = []
    for _ in range(3):
        asked += (await world.asking("first", "second"))[1]
        world.clock.forward(1)
    for size in (1, 2, 100):
        listed = await ids(world, InputFilter(), size)
        assert sorted(listed) == sorted(asked)
        assert [set(listed[n : n + 2]) for n in (0, 2, 4)] == [set(asked[n : n + 2]) for n in (0, 2, 4)]


async def test_questions_are_filtered(world: World) -> None:
    run, (first, second) = await world.asking("first", "second", thread_id="thr_1")
    created = await world.create(dataclasses.replace(world.new_run(agent_id="other")))
    asked = question("third", 3)
    await world.append(output(created.run.id, data=records(3, 3), noted=Noted(asked=(asked,))))
    third = asked.request.id
    await world.answer(run.id, first)
    assert sorted(await ids(world, InputFilter(run_id=run.id))) == sorted([first, second])
    assert await ids(world, InputFilter(run_id=run.id, is_open=True)) == [second]
    assert await ids(world, InputFilter(run_id=run.id, is_open=False)) == [first]
    assert await ids(world, InputFilter(thread_id="thr_1", is_open=True)) == [second]
    assert sorted(await ids(world, InputFilter(thread_id="thr_1"))) == sorted([first, second])
    assert await ids(world, InputFilter(thread_id="thr_1", run_id=created.run.id)) == []
    assert await ids(world, InputFilter(agent_id="other")) == [third]
    assert await ids(world, InputFilter(agent_id="echo", is_open=False)) == [first]
    assert sorted(await ids(world, InputFilter(is_open=True))) == sorted([second, third])


async def test_a_listed_question_names_its_run(world: World) -> None:
    run, (input_id,) = await world.asking("ok")
    found = await world.store.get_input(TENANT, input_id)
    assert found is not None
    assert (found.run_id, found.thread_id, found.agent_id) == (run.id, run.thread_id, "echo")
    assert (found.request.id, found.request.message, found.outcome) == (input_id, "ok?", 0)
    assert found.HasField("create_time")
    assert not found.HasField("resolve_time")
    assert await world.store.list_inputs(TENANT, InputFilter(), Page(10)) == [found]
    assert await world.store.get_input("elsewhere", input_id) is None
    assert await world.store.list_inputs("elsewhere", InputFilter(), Page(10)) == []


async def test_question_that_was_asked_by_the_append_of_the_end_is_withdrawn(world: World) -> None:
    run = await world.running()
    told, untold = question("told", 3), question("untold", 4)
    noted = Noted(asked=(told, untold), resolved=((told.request.id, 5),))
    data = records(3, 4) + resolved(5, told.request.id, DECLINED) + records(6, 6)
    await world.append(dataclasses.replace(world.ending(run), last=6, data=data, noted=noted))
    assert await outcomes(world, run.id) == [(DECLINED, "", 5), (WITHDRAWN, "", 6)]
    assert await ids(world, InputFilter(is_open=True)) == []


async def test_question_that_was_withdrawn_while_its_run_goes_on_takes_no_answer(world: World) -> None:
    run, (input_id,) = await world.asking("ok")
    await world.append(output(run.id, expected=4, noted=Noted(resolved=((input_id, 5),))))
    with pytest.raises(InputAnswered) as caught:
        await world.answer(run.id, input_id)
    assert caught.value.metadata["outcome"] == "withdrawn"
    assert await outcomes(world, run.id) == [(WITHDRAWN, "", 5)]


# ── signals ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_nobodys_runs_with_answers_or_cancels_are_found(world: World) -> None:
    answered, (input_id,) = await world.asking("ok", release=True)
    cancelled, _ = await world.asking("ok", release=True)
    quiet, _ = await world.asking("ok", release=True)
    owned, (owned_input,) = await world.asking("ok")
    assert await world.store.nobodys_signals(limit=10) == []
    assert (await world.answer(answered.id, input_id)).is_nobodys
    await world.answer(owned.id, owned_input)
    await world.store.request_cancel(TENANT, cancelled.id, USER, request=None)
    await world.store.request_cancel(TENANT, owned.id, USER, request=None)
    found = await world.store.nobodys_signals(limit=10)
    assert sorted(head.run_id for head in found) == sorted([answered.id, cancelled.id])
    assert len(await world.store.nobodys_signals(limit=1)) == 1
    change = RunChange(state=QUEUED)
    await world.append(output(answered.id, expected=4, noted=Noted(resolved=((input_id, 5),)), change=change))
    assert [head.run_id for head in await world.store.nobodys_signals(limit=10)] == [cancelled.id]
    assert await world.store.signalled([quiet.id]) == []
