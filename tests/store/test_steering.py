"""Messages to a run under way: a row first, the log later; what nobody read is returned or followed up."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from core_service.domain.errors import IdempotencyMismatch, QueueFull, RunHasEnded, RunNotFound
from core_service.domain.runs import end_state
from core_service.ports import InboxState, Noted, RequestKey, RunChange
from penstock.v1.run_pb2 import EndReason, UnreadPolicy
from tests.store.world import TENANT, World, message, output, texts

RETURN = UnreadPolicy.UNREAD_POLICY_RETURN
FOLLOW_UP = UnreadPolicy.UNREAD_POLICY_FOLLOW_UP
UNSPECIFIED = UnreadPolicy.UNREAD_POLICY_UNSPECIFIED
USER = EndReason.END_REASON_USER
COMPLETED = EndReason.END_REASON_COMPLETED


def key(name: str, body: bytes = b"body") -> RequestKey:
    return RequestKey("steer", name, body)


async def inbox(world: World, run_id: str) -> list[tuple[int, str, InboxState]]:
    rows = (await world.store.run_records(run_id)).inbox
    return [(row.pos, texts([row.message])[0], row.state) for row in rows]


async def test_messages_wait_in_order_until_the_log_tells_of_them(world: World) -> None:
    run = await world.running()
    assert await world.store.signalled([run.id]) == []
    head, first = await world.steer(run.id, "one")
    await world.steer(run.id, "two")
    assert (head.run_id, head.last_seq, texts([first])) == (run.id, 2, ["one"])
    assert await inbox(world, run.id) == [(1, "one", InboxState.UNREAD), (2, "two", InboxState.UNREAD)]
    assert (await world.store.run_records(run.id)).inbox[0].message == first
    assert await world.store.signalled([run.id, "run_unknown"]) == [run.id]
    await world.append(output(run.id, noted=Noted(received=((1, 3),))))
    assert await world.store.signalled([run.id]) == [run.id]
    await world.append(output(run.id, expected=3, noted=Noted(received=((2, 4),))))
    assert await world.store.signalled([run.id]) == []
    assert await world.log(run.id) == [1, 2, 3, 4]


async def test_any_active_run_takes_messages_and_an_ended_one_none(world: World) -> None:
    waiting, _ = await world.asking("ok")
    await world.steer(waiting.id)
    ended = await world.running()
    await world.end(ended)
    queued = await world.queued()
    await world.steer(queued.id)
    with pytest.raises(RunHasEnded) as caught:
        await world.steer(ended.id)
    assert caught.value.metadata == {"run_id": ended.id}
    with pytest.raises(RunNotFound):
        await world.steer("run_unknown")
    with pytest.raises(RunNotFound):
        await world.store.steer(
            "elsewhere", queued.id, message("x"), unread_policy=UNSPECIFIED, max_unread=1, request=None
        )


async def test_only_so_many_messages_wait_to_be_read(world: World) -> None:
    run = await world.running()
    for _ in range(2):
        await world.steer(run.id, max_unread=2)
    with pytest.raises(QueueFull):
        await world.steer(run.id, max_unread=2, request=key("one"))
    await world.append(output(run.id, count=0, noted=Noted(read=((1, 1),))))
    await world.steer(run.id, max_unread=2, request=key("one"))
    assert [pos for pos, _, _ in await inbox(world, run.id)] == [1, 2, 3]


async def test_a_repeated_message_is_one(world: World) -> None:
    run = await world.running()
    _, first = await world.steer(run.id, "one", request=key("one"))
    await world.steer(run.id, "two")
    head, again = await world.steer(run.id, "one", request=key("one"))
    assert (head.run_id, again) == (run.id, first)
    assert len(await inbox(world, run.id)) == 2
    with pytest.raises(IdempotencyMismatch):
        await world.steer(run.id, "three", request=key("one", b"another body"))
    await world.end(run)
    assert (await world.steer(run.id, "one", request=key("one")))[1] == first


async def test_concurrent_messages_all_find_a_place(world: World) -> None:
    run = await world.running()
    async with asyncio.timeout(60):
        await asyncio.gather(*(world.steer(run.id, str(number), max_unread=100) for number in range(40)))
    rows = await inbox(world, run.id)
    assert [pos for pos, _, _ in rows] == list(range(1, 41))
    assert sorted(text for _, text, _ in rows) == sorted(map(str, range(40)))


# ── unread ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("of_message", "of_run", "reason", "fate"),
    [
        (UNSPECIFIED, UNSPECIFIED, COMPLETED, InboxState.TO_FOLLOW_UP),
        (UNSPECIFIED, RETURN, COMPLETED, InboxState.RETURNED),
        (FOLLOW_UP, RETURN, COMPLETED, InboxState.TO_FOLLOW_UP),
        (RETURN, FOLLOW_UP, COMPLETED, InboxState.RETURNED),
        (FOLLOW_UP, FOLLOW_UP, USER, InboxState.RETURNED),
    ],
)
async def test_an_end_decides_over_unread_messages(
    world: World,
    of_message: UnreadPolicy.ValueType,
    of_run: UnreadPolicy.ValueType,
    reason: EndReason.ValueType,
    fate: InboxState,
) -> None:
    new = world.new_run()
    new.run.options.unread_policy = of_run
    run = (await world.create(new)).run
    await world.steer(run.id, "read", policy=of_message)
    await world.steer(run.id, "unread", policy=of_message)
    await world.append(output(run.id, count=2, noted=Noted(received=((1, 3), (2, 4)), read=((1, 1),))))
    await world.steer(run.id, "unseen", policy=of_message)
    change = RunChange(state=end_state(reason), reason=reason, ended=b"", release=True)
    await world.append(output(run.id, expected=4, change=change))
    assert [state for _, _, state in await inbox(world, run.id)] == [InboxState.READ, fate, fate]
    assert await world.store.signalled([run.id]) == []
    follow_ups = await world.store.follow_ups(limit=10)
    assert [found.run.id for found in follow_ups] == ([run.id] if fate is InboxState.TO_FOLLOW_UP else [])


async def test_unread_messages_are_followed_up_once(world: World) -> None:
    runs = [await world.running() for _ in range(3)]
    for number, run in enumerate(runs):
        await world.steer(run.id, f"{number} a")
        await world.steer(run.id, f"{number} b")
        await world.end(run)
    found = await world.store.follow_ups(limit=10)
    assert [one.run for one in found] == [await world.store.get_run(TENANT, run.id) for run in runs]
    assert [(one.tenant, texts(one.messages)) for one in found] == [
        (TENANT, [f"{number} a", f"{number} b"]) for number in range(3)
    ]
    assert len(await world.store.follow_ups(limit=2)) == 2
    request = RequestKey("follow up", runs[0].id, b"")
    new = dataclasses.replace(
        world.new_run(thread_id=runs[0].thread_id, request=request), follow_up_of=runs[0].id, input=found[0].messages
    )
    created = await world.create(new)
    assert not created.repeated
    assert [state for _, _, state in await inbox(world, runs[0].id)] == [InboxState.FOLLOWED_UP] * 2
    assert [one.run.id for one in await world.store.follow_ups(limit=10)] == [run.id for run in runs[1:]]
    again = await world.create(dataclasses.replace(new, run=world.new_run(thread_id=runs[0].thread_id).run))
    assert (again.repeated, again.run.id) == (True, created.run.id)


async def test_messages_and_an_end_at_once_lose_none(world: World) -> None:
    runs = [await world.running() for _ in range(30)]

    async def try_steer(run_id: str) -> bool:
        try:
            await world.steer(run_id)
        except RunHasEnded:
            return False
        return True

    async with asyncio.timeout(60):
        results = await asyncio.gather(
            *(operation for run in runs for operation in (try_steer(run.id), world.end(run), try_steer(run.id)))
        )
    for number, run in enumerate(runs):
        taken = [results[3 * number], results[3 * number + 2]].count(True)
        assert [state for _, _, state in await inbox(world, run.id)] == [InboxState.TO_FOLLOW_UP] * taken
