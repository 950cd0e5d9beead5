"""What only SQLite has: a file, a lock beside it, a disk that can be full."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from core_service.adapters.sql.file_lock import DatabaseInUse
from core_service.adapters.sql.sqlite import Sqlite
from core_service.adapters.sql.transaction import Transaction
from core_service.adapters.store_sql import SqlStore, open_sqlite
from core_service.domain.errors import StoreFull, StoreUnavailable
from core_service.ports import AppendOutcome
from tests.store.world import HandClock, World, output

HOLD_LOCK = """
import sys
from pathlib import Path
from core_service.adapters.sql.file_lock import exclusive
with exclusive(Path(sys.argv[1]), holder="core 7 (pid 4711)"):
    print("held", flush=True)
    sys.stdin.read()
"""


async def test_a_second_core_is_refused_with_the_name_of_the_first(sqlite_path: Path, clock: HandClock) -> None:
    async with open_sqlite(sqlite_path, clock=clock, holder="core 7 (pid 4711)"):
        with pytest.raises(DatabaseInUse, match=r"in use by core 7 \(pid 4711\)"):
            async with open_sqlite(sqlite_path, clock=clock, holder="core 8"):
                pass
    async with open_sqlite(sqlite_path, clock=clock, holder="core 8") as store:
        assert await store.is_available()


async def test_a_killed_core_leaves_no_lock(sqlite_path: Path, clock: HandClock) -> None:
    first = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLD_LOCK, str(sqlite_path), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert first.stdout is not None
    async with asyncio.timeout(20):
        assert await first.stdout.readline() == b"held\n"
        with pytest.raises(DatabaseInUse, match="pid 4711"):
            async with open_sqlite(sqlite_path, clock=clock, holder="core 8"):
                pass
        first.kill()
        await first.wait()
    async with open_sqlite(sqlite_path, clock=clock, holder="core 8") as store:
        assert await store.is_available()


async def limit_pages(store: SqlStore, pages: Callable[[int], int]) -> None:
    """Set how many pages the file may have, from how many it has. Beyond it SQLite does what it does on a full disk."""

    def work(transaction: Transaction) -> None:
        cursor = transaction.cursor()
        cursor.execute("PRAGMA page_count", ())
        ((now,),) = cursor.fetchall()
        transaction.cursor().execute(f"PRAGMA max_page_count = {pages(now)}", ())

    await store._database.write(work)


async def test_a_full_disk_refuses_and_loses_nothing(sqlite_path: Path, clock: HandClock) -> None:
    async with open_sqlite(sqlite_path, clock=clock, holder="core") as store:
        world = World(store, clock)
        runs = [await world.running() for _ in range(4)]
        batch = [output(run.id, data=b"\x0a\xff\x7f" + b"x" * 16_383) for run in runs]
        await limit_pages(store, lambda now: now)
        with pytest.raises(StoreFull):
            await world.append(*batch)
        assert [await world.log(run.id) for run in runs] == [[1, 2]] * 4
        assert await store.is_available()
        await limit_pages(store, lambda now: now + 10_000)
        assert await world.append(*batch) == [AppendOutcome.WRITTEN] * 4
        assert [(await store.read_segments(run.id, after_seq=2, limit=2))[0].data for run in runs] == [
            one.data for one in batch
        ]


async def test_a_full_disk_refuses_the_whole_group_of_operations(sqlite_path: Path, clock: HandClock) -> None:
    async with open_sqlite(sqlite_path, clock=clock, holder="core") as store:
        world = World(store, clock)
        run = await world.running()
        await limit_pages(store, lambda now: now)
        creates = [world.new_run(texts=("x" * 2_000,)) for _ in range(20)]
        results = await asyncio.gather(*(world.create(new) for new in creates), return_exceptions=True)
        assert any(isinstance(result, StoreFull) for result in results)
        made = [new.run.id for new, result in zip(creates, results, strict=True) if not isinstance(result, StoreFull)]
        assert sorted(head.run_id for head in await store.heads([new.run.id for new in creates])) == sorted(made)
        await limit_pages(store, lambda now: now + 10_000)
        for new, result in zip(creates, results, strict=True):
            if isinstance(result, StoreFull):
                await world.create(new)
        assert len(await store.heads([new.run.id for new in creates])) == 20
        assert await world.log(run.id) == [1, 2]


async def test_a_locked_file_refuses_and_recovers(
    sqlite_path: Path, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core_service.adapters.sql.sqlite.BUSY_MILLIS", 50)
    async with open_sqlite(sqlite_path, clock=clock, holder="core") as store:
        world = World(store, clock)
        run = await world.running()
        shell = sqlite3.connect(sqlite_path, isolation_level=None)
        shell.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable):
            await world.append(output(run.id))
        assert await world.log(run.id) == [1, 2]
        shell.execute("ROLLBACK")
        shell.close()
        assert await world.append(output(run.id)) == [AppendOutcome.WRITTEN]


async def test_operations_that_wait_share_a_commit_and_a_refusal_undoes_only_itself(
    sqlite_path: Path, clock: HandClock
) -> None:
    database = Sqlite(sqlite_path, now=clock.now, synchronous="FULL")
    try:

        def run(sql: str) -> Callable[[Transaction], None]:
            def work(transaction: Transaction) -> None:
                transaction.cursor().execute(sql, ())

            return work

        await database.write(run("CREATE TABLE t (x INTEGER UNIQUE)"))
        works = [run(f"INSERT INTO t VALUES ({number})") for number in (1, 2, 2, 3)]
        results = await asyncio.gather(*map(database.write, works), return_exceptions=True)
        assert [type(result) for result in results] == [type(None), type(None), sqlite3.IntegrityError, type(None)]
        assert await database.read(_numbers) == [(1,), (2,), (3,)]
    finally:
        await asyncio.to_thread(database.close)


def _numbers(transaction: Transaction) -> list[tuple[int, ...]]:
    cursor = transaction.cursor()
    cursor.execute("SELECT x FROM t ORDER BY x", ())
    return cursor.fetchall()


async def test_an_append_of_events_alone_is_three_statements_however_many_runs(
    sqlite_path: Path, clock: HandClock
) -> None:
    """The hot path: what a run notes or changes costs those that do."""
    async with open_sqlite(sqlite_path, clock=clock, holder="core") as store:
        world = World(store, clock)
        runs = [await world.running() for _ in range(5)]
        assert isinstance(store._database, Sqlite)
        executed: list[str] = []
        store._database._connection.set_trace_callback(executed.append)
        await world.append(*(output(run.id) for run in runs))
        store._database._connection.set_trace_callback(None)
    assert [statement.split()[0] for statement in executed] == ["BEGIN", "SELECT", "UPDATE", "INSERT", "COMMIT"]
