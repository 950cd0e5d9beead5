"""What expires of ended runs, in portions; and whose policy holds for them."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import func, select

from core_service.adapters.sql import expiry
from core_service.adapters.sql.schema import metadata
from core_service.adapters.sql.statements import text
from core_service.adapters.store_sql import SqlStore
from core_service.domain.errors import RunNotFound
from core_service.ports import Append, Keep, Kept, RequestKey, Segment, Term
from penstock.v1.agent_pb2 import Agent
from penstock.v1.message_pb2 import Message, Role
from penstock.v1.run_pb2 import Run
from tests.store.world import TENANT, World, message, output, records, texts

AT_ONCE = Term(TENANT, "echo", Keep(events=1, messages=1, runs=1))


async def ended_run(world: World, *said: str, thread_id: str = "", events: int = 0) -> Run:
    """A run that ended, with what it said and some segments of one event each."""
    run = await world.running(thread_id)
    for seq in range(3, 3 + events):
        await world.append(output(run.id, expected=seq - 1))
    await world.end(run, *said)
    return run


async def overdue(world: World, what: Kept, *, limit: int = 10) -> list[str]:
    world.clock.forward(1)
    return list(await world.store.retention.overdue(AT_ONCE, what, limit=limit))


async def log_of(world: World, run: Run) -> tuple[int, list[int]]:
    """Where the run's head says that its log begins, and the events that there are."""
    head = await world.store.head(run.id)
    assert head is not None
    rows = await world.store.read_segments(run.id, after_seq=0, limit=10_000)
    return head.oldest_seq, [seq for row in rows for seq in range(row.first_seq, row.last_seq + 1)]


async def shown(world: World, thread_id: str) -> tuple[list[str], int]:
    """The texts of a thread's messages, and how many it says that there are."""
    found = await world.store.list_messages(TENANT, thread_id, after_pos=0, limit=100)
    thread = await world.store.get_thread(TENANT, thread_id)
    assert thread is not None
    return texts([message for _, message in found]), thread.message_count


# ── policies ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_policies_are_replaced_listed_and_deleted(world: World) -> None:
    store = world.store.retention
    await store.set_policy(TENANT, "echo", Keep(events=1))
    await store.set_policy(TENANT, "echo", Keep(messages=2, runs=0))
    await store.set_policy(TENANT, "", Keep(runs=3))
    await store.set_policy("somebody else", "echo", Keep(events=4))
    both = [("", Keep(runs=3)), ("echo", Keep(messages=2, runs=0))]
    assert list(await store.policies(TENANT, after=None, limit=10)) == both
    assert list(await store.policies(TENANT, after=None, limit=1)) == both[:1]
    assert list(await store.policies(TENANT, after="", limit=10)) == both[1:]
    assert await store.delete_policy(TENANT, "echo")
    assert not await store.delete_policy(TENANT, "echo")
    assert list(await store.policies(TENANT, after=None, limit=10)) == both[:1]


async def test_own_policy_wins_over_the_tenants_and_that_over_the_defaults_field_by_field(world: World) -> None:
    store = world.store.retention
    await world.store.declare_agents(TENANT, [Agent(id="calls"), Agent(id="echo")])
    await world.store.declare_agents("somebody else", [Agent(id="echo")])
    await store.set_policy(TENANT, "echo", Keep(events=1, runs=0))
    await store.set_policy(TENANT, "", Keep(events=2, messages=3))
    terms = await store.terms(Keep(events=7, messages=8, runs=9), after=("", ""), limit=10)
    assert list(terms) == [
        Term(TENANT, "calls", Keep(2, 3, 9)),
        Term(TENANT, "echo", Keep(1, 3, 0)),
        Term("somebody else", "echo", Keep(7, 8, 9)),
    ]
    assert list(await store.terms(Keep(), after=(TENANT, "echo"), limit=10)) == [
        Term("somebody else", "echo", Keep(0, 0, 0))
    ]


# ── what is overdue ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_only_runs_that_ended_long_enough_ago_are_overdue_longest_first(sqlite_world: World) -> None:
    world = sqlite_world
    first = await ended_run(world)
    world.clock.forward(10)
    second = await ended_run(world)
    await world.running()
    world.clock.forward(10)
    await ended_run(world)
    term = Term(TENANT, "echo", Keep(events=9_000_000))
    found = world.store.retention.overdue
    assert list(await found(term, Kept.EVENTS, limit=10)) == [first.id, second.id]
    assert list(await found(term, Kept.EVENTS, limit=1)) == [first.id]
    assert list(await found(Term(TENANT, "other", term.keep), Kept.EVENTS, limit=10)) == []
    assert list(await found(Term("somebody else", "echo", term.keep), Kept.EVENTS, limit=10)) == []


async def test_what_has_expired_is_not_overdue_again(world: World) -> None:
    run = await ended_run(world, "said")
    await world.store.retention.expire_events([run.id])
    assert (await overdue(world, Kept.EVENTS), await overdue(world, Kept.MESSAGES)) == ([], [run.id])
    await world.store.retention.expire_messages([run.id])
    assert (await overdue(world, Kept.MESSAGES), await overdue(world, Kept.RUNS)) == ([], [run.id])
    await world.store.retention.delete_runs(TENANT, [run.id])
    assert await overdue(world, Kept.RUNS) == []


# ── events ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("folded", [False, True])
async def test_expired_run_has_no_events_and_is_otherwise_as_it_was(world: World, *, folded: bool) -> None:
    run = await ended_run(world, "said", events=5)
    other = await ended_run(world)
    before = await world.store.get_run(TENANT, run.id)
    if folded:
        await world.store.fold(run.id, [Segment(1, 8, records(1, 8))])
    assert list(await world.store.retention.expire_events([run.id])) == [run.id]
    assert await log_of(world, run) == (9, [])
    assert await world.store.get_run(TENANT, run.id) == before
    assert (await log_of(world, other))[1] == [1, 2, 3]
    assert await shown(world, run.thread_id) == (["hello", "said"], 2)


async def test_running_run_does_not_expire(world: World) -> None:
    run = await world.running()
    assert list(await world.store.retention.expire_events([run.id, "run_none"])) == []
    assert list(await world.store.retention.expire_messages([run.id])) == []
    assert list(await world.store.retention.delete_runs(TENANT, [run.id])) == []
    assert await log_of(world, run) == (1, [1, 2])
    assert await shown(world, run.thread_id) == (["hello"], 1)


async def test_long_logs_expire_from_the_front_a_portion_at_a_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "ROWS", 4)
    runs = sorted([await ended_run(world, events=5), await ended_run(world)], key=lambda run: run.id)
    ids = [run.id for run in runs]
    last = {run.id: (await log_of(world, run))[1][-1] for run in runs}
    left = sum([len(await world.store.read_segments(run_id, after_seq=0, limit=100)) for run_id in ids])
    finished: list[str] = []
    while len(finished) < 2:
        done = await world.store.retention.expire_events(ids)
        now = sum([len(await world.store.read_segments(run_id, after_seq=0, limit=100)) for run_id in ids])
        assert left - 4 <= now < left
        for run in runs:
            oldest, kept = await log_of(world, run)
            assert kept == list(range(oldest, last[run.id] + 1))
        left = now
        finished += [run_id for run_id in done if run_id not in finished]
        assert set(await overdue(world, Kept.EVENTS)) == set(ids) - set(finished)
    assert left == 0


async def test_a_portion_is_bounded_by_its_bytes_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run = await ended_run(world, events=5)
    monkeypatch.setattr(expiry, "BYTES", 1)
    for oldest in (3, 4, 5):
        assert list(await world.store.retention.expire_events([run.id])) == []
        assert (await log_of(world, run))[0] == oldest


async def test_fold_of_what_was_read_before_it_expired_brings_nothing_back(world: World) -> None:
    run = await ended_run(world, events=5)
    chunks = await world.store.read_segments(run.id, after_seq=0, limit=100)
    await world.store.retention.expire_events([run.id])
    await world.store.fold(run.id, chunks)
    assert await log_of(world, run) == (9, [])
    assert run.id not in await world.store.foldable(ended_before=2**62, limit=10)


async def test_fold_of_a_run_that_is_half_expired_brings_nothing_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await ended_run(world, events=5)
    chunks = await world.store.read_segments(run.id, after_seq=0, limit=100)
    monkeypatch.setattr(expiry, "ROWS", 3)
    await world.store.retention.expire_events([run.id])
    oldest, kept = await log_of(world, run)
    await world.store.fold(run.id, chunks)
    assert (oldest, kept) == await log_of(world, run) == (5, [5, 6, 7, 8])


async def test_folds_and_expiry_at_the_same_moment_leave_nothing(world: World) -> None:
    runs = [await ended_run(world, events=5) for _ in range(8)]
    chunks = {run.id: await world.store.read_segments(run.id, after_seq=0, limit=100) for run in runs}
    async with asyncio.timeout(30):
        await asyncio.gather(
            *(world.store.fold(run.id, chunks[run.id]) for run in runs[:4]),
            world.store.retention.expire_events([run.id for run in runs]),
            *(world.store.fold(run.id, chunks[run.id]) for run in runs[4:]),
            world.store.retention.expire_events([run.id for run in runs[::-1]]),
        )
    assert [await log_of(world, run) for run in runs] == [(9, [])] * 8


# ── messages ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_expired_messages_leave_the_thread_and_its_count(world: World) -> None:
    first = await ended_run(world, "one", "two", thread_id="t")
    await ended_run(world, "three", thread_id="t")
    assert await shown(world, "t") == (["hello", "one", "two", "hello", "three"], 5)
    assert list(await world.store.retention.expire_messages([first.id])) == [first.id]
    assert await shown(world, "t") == (["hello", "three"], 2)
    head = await world.store.head(first.id)
    assert head is not None
    assert head.oldest_seq == 1
    await world.store.retention.expire_messages([first.id])
    assert await shown(world, "t") == (["hello", "three"], 2)


async def test_messages_of_many_threads_expire_beside_runs_that_end_there(world: World) -> None:
    runs = [await ended_run(world, "said", thread_id=f"t{number}") for number in range(4)]
    going = [await world.running(f"t{number}") for number in range(4)]
    async with asyncio.timeout(30):
        await asyncio.gather(
            world.store.retention.expire_messages([run.id for run in runs]),
            world.append(*(world.ending(run, "new") for run in going)),
            world.store.retention.expire_messages([run.id for run in runs[::-1]]),
        )
    assert [await shown(world, f"t{number}") for number in range(4)] == [(["hello", "new"], 2)] * 4


async def test_own_messages_are_what_the_run_said(world: World) -> None:
    await ended_run(world, "before", thread_id="t")
    run = await ended_run(world, "one", "two", thread_id="t")
    await ended_run(world, "after", thread_id="t")
    store = world.store.retention
    assert texts(await store.own_messages(TENANT, run.id)) == ["one", "two"]
    assert list(await store.own_messages("somebody else", run.id)) == []
    await store.expire_events([run.id])
    assert texts(await store.own_messages(TENANT, run.id)) == ["one", "two"]
    await store.expire_messages([run.id])
    assert list(await store.own_messages(TENANT, run.id)) == []


async def test_steering_is_not_among_what_a_run_said(world: World) -> None:
    run = await world.running()
    ending = world.ending(run)
    said: tuple[Message, ...] = (message("steer"), message("answer", Role.ROLE_ASSISTANT))
    await world.append(with_messages(ending, said))
    assert texts(await world.store.retention.own_messages(TENANT, run.id)) == ["answer"]


def with_messages(ending: Append, said: tuple[Message, ...]) -> Append:
    assert ending.change is not None
    return replace(ending, change=replace(ending.change, messages=said))


# ── runs ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

TABLES = ("segments", "messages", "inputs", "inbox", "steps", "run_labels", "webhooks", "heads", "runs")


async def test_deleted_run_leaves_no_row(world: World) -> None:
    key = RequestKey("create", "k", b"fingerprint")
    new = world.new_run(thread_id="t", request=key)
    new.run.metadata["team"] = "blue"
    await world.create(new)
    await world.end(new.run, "said")
    kept = await ended_run(world, "kept", thread_id="t")
    assert list(await world.store.retention.delete_runs(TENANT, [new.run.id])) == [new.run.id]
    assert await world.store.get_run(TENANT, new.run.id) is None
    assert await world.store.head(new.run.id) is None
    assert await shown(world, "t") == (["hello", "kept"], 2)
    assert await world.store.get_run(TENANT, kept.id) is not None
    with pytest.raises(RunNotFound):
        await world.create(new)


async def test_no_table_keeps_a_deleted_run(world: World) -> None:
    run = await ended_run(world, "said", events=3)
    await world.store.retention.delete_runs(TENANT, [run.id])
    store = world.store
    assert isinstance(store, SqlStore)
    [remains] = await store.remains(limit=10)
    while not (await store.clear_remains(remains)).is_done:
        pass
    for table in TABLES:
        assert await rows_of(store, table, run.id) == 0, table


async def rows_of(store: SqlStore, table: str, run_id: str) -> int:
    one = metadata.tables[table]
    statement = select(func.count()).select_from(one).where(one.c.run_id == text("run"))
    return int(await store._database.read(lambda tx: tx.one(statement, run=run_id)[0]))


def test_every_table_with_runs_is_known_here() -> None:
    assert {table.name for table in metadata.sorted_tables if "run_id" in table.c} == set(TABLES)


async def test_run_is_kept_while_somebody_is_still_to_be_told_of_its_end(world: World) -> None:
    run = await world.running()
    ending = world.ending(run)
    assert ending.change is not None
    await world.append(replace(ending, change=replace(ending.change, webhook_url="https://example.com/")))
    assert await overdue(world, Kept.RUNS) == []
    assert await overdue(world, Kept.EVENTS) == [run.id]
