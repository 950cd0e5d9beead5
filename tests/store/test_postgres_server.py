"""What only PostgreSQL has: a server that can go away, and other cores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from core_service.adapters.store_sql import open_postgres
from core_service.domain.errors import InvalidArgument, StoreUnavailable
from core_service.ports import AppendOutcome, Page, RequestKey, RunFilter
from tests.store.conftest import TEMPLATE, PostgresServer
from tests.store.cut import CommitCutter, commit_cutter
from tests.store.world import TENANT, HandClock, World, output, texts

CUT_ALL = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE application_name = 'penstock-core' AND datname = current_database()
"""
SOMEBODY_WAITS = """
SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()
"""


def cut_connections(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(CUT_ALL)


async def test_two_cores_open_an_empty_database_at_once(postgres: PostgresServer, clock: HandClock) -> None:
    url = postgres.create()
    async with AsyncExitStack() as stack:
        async with asyncio.timeout(60):
            first, second = await asyncio.gather(*(stack.enter_async_context(open_postgres(url)) for _ in range(2)))
        run = await World(first, clock).running()
        assert await World(second, clock).log(run.id) == [1, 2]


async def test_connections_that_were_cut_while_idle_are_replaced_unseen(
    postgres: PostgresServer, clock: HandClock
) -> None:
    url = postgres.create(template=TEMPLATE)
    async with open_postgres(url, pool_size=4) as store:
        world = World(store, clock)
        run = await world.running()
        append = output(run.id, count=5)
        assert await world.append(append) == [AppendOutcome.WRITTEN]
        await asyncio.gather(*(world.create(world.new_run()) for _ in range(20)))
        await store.renew_core("core_1", address="a:1", lease=30.0)
        await asyncio.to_thread(cut_connections, url)
        await store.renew_core("core_1", address="a:1", lease=30.0)  # which asks the database nothing
        assert await world.append(append) == [AppendOutcome.WRITTEN]
        assert await world.append(output(run.id, expected=7)) == [AppendOutcome.WRITTEN]
        assert await world.log(run.id) == list(range(1, 9))
        news = [world.new_run() for _ in range(20)]
        await asyncio.gather(*map(world.create, news))
        assert len(await store.heads([new.run.id for new in news])) == 20


@asynccontextmanager
async def cut_world(postgres: PostgresServer, clock: HandClock) -> AsyncIterator[tuple[CommitCutter, World]]:
    """A store whose connection may be cut behind a COMMIT."""
    name = str(conninfo_to_dict(postgres.create(template=TEMPLATE))["dbname"])
    async with commit_cutter(postgres.socket) as cutter:
        through = f"postgresql://postgres@127.0.0.1:{cutter.port}/{name}?sslmode=disable&gssencmode=disable"
        async with open_postgres(through, pool_size=1) as store:
            yield cutter, World(store, clock)


async def test_a_commit_whose_answer_was_lost_counts_once(postgres: PostgresServer, clock: HandClock) -> None:
    async with cut_world(postgres, clock) as (cutter, world):
        run = await world.running()
        cutter.cut_next_commit = True
        append = world.ending(run, "bye")
        assert await world.append(append) == [AppendOutcome.WRITTEN]
        assert not cutter.cut_next_commit
        assert await world.append(append) == [AppendOutcome.WRITTEN]
        assert await world.log(run.id) == [1, 2, 3]
        messages = await world.store.list_messages(TENANT, run.thread_id, after_pos=-1, limit=10)
        assert texts([message for _, message in messages]) == ["hello", "bye"]


async def test_commits_of_plain_appends_whose_answers_were_lost_count_once(
    postgres: PostgresServer, clock: HandClock
) -> None:
    async with cut_world(postgres, clock) as (cutter, world):
        one, two = await world.running(), await world.running()
        for seq in range(2, 6):
            cutter.cut_next_commit = True
            outcomes = await world.append(output(one.id, expected=seq), output(two.id, expected=seq))
            assert (outcomes, cutter.cut_next_commit) == ([AppendOutcome.WRITTEN] * 2, False)
        assert await world.log(one.id) == await world.log(two.id) == [1, 2, 3, 4, 5, 6]


async def test_append_with_a_refused_run_waits_for_no_other_operation(
    postgres: PostgresServer, clock: HandClock
) -> None:
    """The log has a connection of its own, also for the question whether the refused one was written before."""
    url = postgres.create(template=TEMPLATE)
    async with open_postgres(url, pool_size=1) as store:
        world = World(store, clock)
        mine, lost = await world.running(), await world.running()
        await world.running("held")
        with psycopg.connect(url) as somebody:
            somebody.execute("SELECT 1 FROM threads WHERE thread_id = 'held' FOR UPDATE")
            waiting = asyncio.create_task(world.create(world.new_run(thread_id="held")))
            async with asyncio.timeout(10):
                outcomes = await world.append(output(mine.id), output(lost.id, fence=7))
            assert outcomes == [AppendOutcome.WRITTEN, AppendOutcome.REFUSED]
            assert not waiting.done()
        await waiting


async def test_an_end_that_speaks_waits_for_its_thread(postgres: PostgresServer, clock: HandClock) -> None:
    url = postgres.create(template=TEMPLATE)
    async with open_postgres(url, pool_size=1) as store:
        world = World(store, clock)
        run = await world.running("held")
        with psycopg.connect(url) as somebody:
            somebody.execute("SELECT 1 FROM threads WHERE thread_id = 'held' FOR UPDATE")
            ending = asyncio.create_task(world.append(world.ending(run, "bye")))
            waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%FOR UPDATE%'"
            async with asyncio.timeout(10):
                while (await asyncio.to_thread(read, url, waits)) != [(1,)]:
                    pass
            assert not ending.done()
        assert await ending == [AppendOutcome.WRITTEN]


def read(url: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query).fetchall()


async def test_a_create_whose_answer_was_lost_is_told_and_makes_one_run(
    postgres: PostgresServer, clock: HandClock
) -> None:
    async with cut_world(postgres, clock) as (cutter, world):
        await world.running()
        cutter.cut_next_commit = True
        key = RequestKey("create", "once", b"the same")
        with pytest.raises(StoreUnavailable):
            await world.create(world.new_run(request=key))
        repeated = await world.create(world.new_run(request=key))
        assert repeated.repeated
        assert len(await world.store.list_runs(TENANT, RunFilter(), Page(10))) == 2


async def test_a_database_that_is_not_there_is_unavailable_not_an_error(
    postgres: PostgresServer, clock: HandClock
) -> None:
    url = postgres.create(template=TEMPLATE)
    async with open_postgres(url, pool_size=1) as store:
        assert await store.is_available()
        name = str(conninfo_to_dict(url)["dbname"])
        await asyncio.to_thread(rename_database, postgres, name, "gone")
        assert not await store.is_available()
        with pytest.raises(StoreUnavailable):
            await store.get_run(TENANT, "run_1")
        await asyncio.to_thread(rename_database, postgres, "gone", name)
        assert await store.is_available()


def rename_database(postgres: PostgresServer, name: str, to: str) -> None:
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", (name,))
        rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
        connection.execute(rename.format(sql.Identifier(name), sql.Identifier(to)))


async def test_an_append_waits_for_an_uncommitted_takeover_and_is_then_refused(
    postgres: PostgresServer, clock: HandClock
) -> None:
    url = postgres.create(template=TEMPLATE)
    async with open_postgres(url) as store:
        world = World(store, clock)
        run, other = await world.running(), await world.running()
        connection = await asyncio.to_thread(lambda: psycopg.connect(url))
        await asyncio.to_thread(connection.execute, "UPDATE heads SET fence = 2 WHERE run_id = %s", (run.id,))
        appending = asyncio.create_task(world.append(output(run.id), output(other.id)))
        async with asyncio.timeout(10):
            await asyncio.to_thread(wait_until_somebody_waits, url)
        await asyncio.to_thread(connection.commit)
        await asyncio.to_thread(connection.close)
        assert await appending == [AppendOutcome.REFUSED, AppendOutcome.WRITTEN]
        assert await world.log(run.id) == [1, 2]
        assert await world.log(other.id) == [1, 2, 3]


def wait_until_somebody_waits(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        while not connection.execute(SOMEBODY_WAITS).fetchone():
            pass


async def test_a_nul_in_a_question_is_refused_not_an_error(postgres: PostgresServer) -> None:
    async with open_postgres(postgres.create(template=TEMPLATE)) as store:
        with pytest.raises(InvalidArgument):
            await store.get_run(TENANT, "run_\0")
