"""Forks: what is copied, up to which point, and what is left as it was."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from core_service.domain.errors import (
    IdempotencyMismatch,
    MessageNotFound,
    RunNotFound,
    ThreadExists,
    ThreadNotFound,
)
from core_service.domain.runs import SUCCEEDED
from core_service.ports import AtEnd, AtEvent, AtMessage, ForkPoint, RequestKey, RunChange
from penstock.v1.message_pb2 import Message, Role
from penstock.v1.run_pb2 import BusyPolicy, Run
from penstock.v1.thread_pb2 import Thread
from tests.store.world import START, TENANT, World, message, output

NUMBERS = itertools.count(1)


def fork_of(source_id: str, thread_id: str = "thr_fork", **labels: str) -> Thread:
    thread = Thread(id=thread_id, forked_from_thread_id=source_id, metadata=labels)
    thread.create_time.FromMicroseconds(START)
    return thread


async def fork(
    world: World, at: ForkPoint, *, source_id: str = "thr_1", thread_id: str = "", request: RequestKey | None = None
) -> Thread:
    thread = fork_of(source_id, thread_id or f"thr_fork_{next(NUMBERS)}")
    return await world.store.fork_thread(TENANT, source_id, thread, at, request=request)


async def messages(world: World, thread_id: str) -> list[tuple[int, Message]]:
    return await world.store.list_messages(TENANT, thread_id, after_pos=-1, limit=10_000)


async def turn(world: World, text: str, *said: str, state_json: str | None = None) -> Run:
    """A run from its create to its end, with what it said and made of the state."""
    created = await world.create(world.new_run(thread_id="thr_1", texts=[text]))
    assert created.started
    change = RunChange(
        state=SUCCEEDED,
        release=True,
        messages=tuple(message(one, Role.ROLE_ASSISTANT) for one in said),
        state_json=state_json,
        state_version=0 if state_json is None else (await world.thread("thr_1")).state_version + 1,
    )
    await world.append(output(created.run.id, change=change))
    return created.run


async def test_a_fork_has_everything_in_order_under_new_ids(world: World) -> None:
    await turn(world, "a", "A", state_json='{"n":1}')
    await turn(world, "b", "B1", "B2")
    forked = await world.store.fork_thread(TENANT, "thr_1", fork_of("thr_1", topic="x"), AtEnd(), request=None)
    assert forked == await world.thread("thr_fork")
    assert (forked.forked_from_thread_id, dict(forked.metadata)) == ("thr_1", {"topic": "x"})
    assert (forked.state_json, forked.state_version, forked.message_count) == ('{"n":1}', 1, 5)
    assert forked.active_run_id == ""
    originals = await messages(world, "thr_1")
    copies = await messages(world, "thr_fork")
    assert await world.shown("thr_fork") == ["a", "A", "b", "B1", "B2"]
    assert not {one.id for _, one in copies} & {one.id for _, one in originals}
    for (_, original), (_, copy) in zip(originals, copies, strict=True):
        copy.id = original.id
        assert copy == original


async def test_a_copy_keeps_the_id_that_its_sender_gave(world: World) -> None:
    new = world.new_run(thread_id="thr_1")
    new.input[0].client_id = "mine"
    await world.end((await world.create(new)).run)
    await fork(world, AtEnd(), thread_id="thr_fork")
    assert [one.client_id for _, one in await messages(world, "thr_fork")] == ["mine"]


async def test_a_run_on_a_fork_is_given_what_was_copied(world: World) -> None:
    await turn(world, "a", "A", state_json="1")
    forked = await fork(world, AtEnd())
    created = await world.create(world.new_run(thread_id=forked.id, texts=["b"]))
    assert created.started
    assert [part.parts[0].text.text for part in created.history] == ["a", "A"]
    assert created.state_json == "1"
    await world.end(created.run, "B")
    assert await world.shown(forked.id) == ["a", "A", "b", "B"]
    assert await world.shown("thr_1") == ["a", "A"]


async def test_a_fork_of_a_fork_goes_on_in_order(world: World) -> None:
    await turn(world, "a", "A")
    first = await fork(world, AtEnd())
    await world.end((await world.create(world.new_run(thread_id=first.id, texts=["b"]))).run, "B")
    second = await fork(world, AtEnd(), source_id=first.id)
    assert await world.shown(second.id) == ["a", "A", "b", "B"]
    assert second.forked_from_thread_id == first.id


async def test_a_fork_at_a_message_has_the_state_of_that_moment(world: World) -> None:
    await turn(world, "a", "A1", "A2", state_json="1")
    await turn(world, "b", "B", state_json="2")
    await turn(world, "c", "C", state_json="3")
    found = {one.parts[0].text.text: one.id for _, one in await messages(world, "thr_1")}

    async def forked_at(text: str) -> tuple[list[str], str]:
        forked = await fork(world, AtMessage(found[text]))
        assert forked.message_count == len(await world.shown(forked.id))
        return await world.shown(forked.id), forked.state_json

    assert await forked_at("a") == (["a"], "")
    assert await forked_at("A1") == (["a", "A1"], "1")
    assert await forked_at("A2") == (["a", "A1", "A2"], "1")
    assert await forked_at("b") == (["a", "A1", "A2", "b"], "1")
    assert await forked_at("C") == (["a", "A1", "A2", "b", "B", "c", "C"], "3")


async def test_a_fork_at_the_last_message_has_what_was_set_since(world: World) -> None:
    await turn(world, "a", "A", state_json="1")
    await world.store.set_state(TENANT, "thr_1", "2", expected_version=None, request=None)
    last = (await messages(world, "thr_1"))[-1][1]
    assert (await fork(world, AtMessage(last.id))).state_json == "2"


async def test_a_fork_at_an_event_has_what_the_run_had_said(world: World) -> None:
    await turn(world, "a", "A", state_json="1")
    second = await turn(world, "b", "B1", "B2", state_json="2")
    await turn(world, "c", "C")
    said = (message("B1", Role.ROLE_ASSISTANT),)
    forked = await fork(world, AtEvent(second.id, said, "1.5"))
    assert await world.shown(forked.id) == ["a", "A", "b", "B1"]
    assert (forked.state_json, forked.message_count) == ("1.5", 4)
    copy = (await messages(world, forked.id))[-1][1]
    assert copy.id != said[0].id
    created = await world.create(world.new_run(thread_id=forked.id, texts=["d"]))
    await world.end(created.run, "D")
    assert await world.shown(forked.id) == ["a", "A", "b", "B1", "d", "D"]


async def test_what_was_rolled_back_is_not_forked(world: World) -> None:
    await turn(world, "a", "A", state_json="1")
    taken_back = (await world.create(world.new_run(thread_id="thr_1", texts=["b"]))).run
    await world.create(
        world.new_run(thread_id="thr_1", texts=["c"], claim=False, policy=BusyPolicy.BUSY_POLICY_ROLLBACK)
    )
    await world.cancelled(await world.head(taken_back.id), rolled_back=True)
    assert await world.shown((await fork(world, AtEnd())).id) == ["a", "A", "c"]
    at_event = await fork(world, AtEvent(taken_back.id, (message("B"),), "2"))
    assert (await world.shown(at_event.id), at_event.state_json) == (["a", "A"], "1")


async def test_a_fork_of_many_messages_is_whole(world: World) -> None:
    new = world.new_run(thread_id="thr_1", texts=[str(number) for number in range(950)])
    await world.end((await world.create(new)).run, "end")
    forked = await fork(world, AtEnd())
    assert await world.shown(forked.id) == [*(str(number) for number in range(950)), "end"]
    assert forked.message_count == 951


async def test_a_thread_without_runs_can_be_forked(world: World) -> None:
    empty = Thread(id="thr_1", state_json="[]")
    await world.store.create_thread(TENANT, empty, request=None)
    forked = await fork(world, AtEnd())
    assert (forked.state_json, forked.message_count) == ("[]", 0)
    assert (await world.create(world.new_run(thread_id=forked.id))).started


async def test_a_fork_that_cannot_be_made_leaves_nothing(world: World) -> None:
    run = await turn(world, "a", "A")
    other = await world.running("thr_2")
    (_, first), *_ = await messages(world, "thr_1")
    with pytest.raises(ThreadNotFound):
        await fork(world, AtEnd(), source_id="thr_nowhere", thread_id="thr_new")
    with pytest.raises(MessageNotFound):
        await fork(world, AtMessage("msg_nowhere"), thread_id="thr_new")
    with pytest.raises(MessageNotFound):
        await fork(world, AtMessage(first.id), source_id="thr_2", thread_id="thr_new")
    with pytest.raises(RunNotFound):
        await fork(world, AtEvent(other.id, (), ""), thread_id="thr_new")
    with pytest.raises(RunNotFound):
        await fork(world, AtEvent("run_nowhere", (), ""), thread_id="thr_new")
    with pytest.raises(ThreadExists):
        await fork(world, AtEnd(), thread_id="thr_2")
    with pytest.raises(ThreadNotFound):
        await world.store.fork_thread("elsewhere", "thr_1", fork_of("thr_1"), AtEnd(), request=None)
    assert await world.store.get_thread(TENANT, "thr_new") is None
    assert await world.shown("thr_2") == ["hello"]
    assert await world.store.get_run(TENANT, run.id) is not None


async def test_a_repeated_fork_is_one_fork(world: World) -> None:
    await turn(world, "a", "A")
    request = RequestKey("fork_thread", "key", b"body")
    made = await fork(world, AtEnd(), request=request)
    assert await fork(world, AtEnd(), request=request) == made
    with pytest.raises(IdempotencyMismatch):
        await fork(world, AtEnd(), request=RequestKey("fork_thread", "key", b"other"))
    threads = await world.rows("SELECT thread_id FROM threads ORDER BY thread_id")
    assert sorted(threads) == sorted([("thr_1",), (made.id,)])


async def test_a_fork_and_an_end_at_once_are_one_after_the_other(world: World) -> None:
    """Answer and state of a run are both in the fork, or neither is."""
    for number in range(20):
        created = await world.create(world.new_run(thread_id="thr_1", texts=["q"]))
        before = await world.thread("thr_1")
        change = RunChange(
            state=SUCCEEDED,
            release=True,
            messages=(message("a", Role.ROLE_ASSISTANT),),
            state_json=str(before.message_count),
            state_version=before.state_version + 1,
        )
        end = world.append(output(created.run.id, change=change))
        if number % 2:
            forked, _ = await asyncio.gather(fork(world, AtEnd()), end)
        else:
            _, forked = await asyncio.gather(end, fork(world, AtEnd()))
        has_answer = len(await world.shown(forked.id)) > before.message_count
        assert (forked.state_json != before.state_json) == has_answer
