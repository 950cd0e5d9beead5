"""A database of an earlier version is brought along, rows and all."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import psycopg
from alembic import command
from sqlalchemy import create_engine

from core_service.adapters.sql.migrate import config
from core_service.adapters.store_sql import open_postgres, open_sqlite
from core_service.domain.runs import RUNNING
from core_service.ports import InputFilter, Page, RunFilter, RunRecords
from penstock.v1.run_pb2 import Run
from penstock.v1.thread_pb2 import Thread
from tests.store.conftest import PostgresServer
from tests.store.world import START, TENANT, HandClock, World, message, output, records, texts

ROWS: list[tuple[str, tuple[object, ...]]] = [
    (
        "INSERT INTO threads "
        "(tenant, thread_id, body, queue_seq, message_count, state, state_version, created, updated) "
        "VALUES (%s, %s, %s, 2, 1, %s, 4, %s, %s)",
        (TENANT, "thr_old", Thread(id="thr_old").SerializeToString(), '{"n":1}', START, START),
    ),
    *(
        (
            "INSERT INTO runs (run_id, tenant, thread_id, agent_id, agent_version, body, state, reason, holds_thread, "
            "queue_pos, priority, available_time, attempt, leg, failures, lost_workers, max_attempts, created, folded) "
            "VALUES (%s, %s, 'thr_old', 'echo', 'v7', %s, %s, 0, %s, %s, 0, %s, %s, 0, 0, 0, 3, %s, %s)",
            (
                run_id,
                TENANT,
                Run(id=run_id, thread_id="thr_old", agent_id="echo").SerializeToString(),
                state,
                place == 1,
                place,
                START,
                attempt,
                START + place,
                False,
            ),
        )
        for run_id, state, place, attempt in (("run_old", RUNNING, 1, 1), ("run_next", 1, 2, 0))
    ),
    *(
        (
            "INSERT INTO heads (run_id, tenant, fence, last_seq, acked, oldest_seq, owner, session) "
            "VALUES (%s, %s, 1, 2, 0, 1, 'core_a', 'wrk_a')",
            (run_id, TENANT),
        )
        for run_id in ("run_old", "run_next")
    ),
    (
        "INSERT INTO segments (tenant, run_id, first_seq, last_seq, codec, data) VALUES (%s, 'run_old', 1, 2, 0, %s)",
        (TENANT, records(1, 2)),
    ),
    (
        "INSERT INTO messages (tenant, thread_id, pos, message_id, run_id, body, is_input, hidden) "
        "VALUES (%s, 'thr_old', %s, 'msg_old', 'run_old', %s, %s, %s)",
        (TENANT, 1 << 20, message("hello").SerializeToString(), True, False),
    ),
]


def first_version(url: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        command.upgrade(config(connection), "0001")
    engine.dispose()


async def test_runs_of_the_first_version_go_on_on_sqlite(sqlite_path: Path, clock: HandClock) -> None:
    await asyncio.to_thread(first_version, f"sqlite:///{sqlite_path}")
    with sqlite3.connect(sqlite_path) as connection:
        for sql, values in ROWS:
            connection.execute(sql.replace("%s", "?"), values)
    connection.close()
    async with open_sqlite(sqlite_path, clock=clock, holder="core") as store:
        await goes_on(World(store, clock))


async def test_runs_of_the_first_version_go_on_on_postgresql(postgres: PostgresServer, clock: HandClock) -> None:
    url = postgres.create()
    await asyncio.to_thread(first_version, url.replace("postgresql://", "postgresql+psycopg://", 1))
    with psycopg.connect(url) as connection:
        for sql, values in ROWS:
            connection.execute(sql, values)
    async with open_postgres(url) as store:
        await goes_on(World(store, clock))


async def goes_on(world: World) -> None:
    adopted = await world.store.adopt("run_old", attempt=1, owner="core_b", session="wrk_a")
    assert adopted is not None
    assert (adopted.run.depth, adopted.run.parent_run_id, adopted.run_left, adopted.deadline) == (0, "", None, None)
    assert (adopted.state_json, adopted.state_version, texts(adopted.input)) == ('{"n":1}', 4, ["hello"])
    assert await world.log("run_old") == [1, 2]
    assert await world.store.run_records("run_old") == RunRecords()
    assert [run.id for run in await world.store.list_runs(TENANT, RunFilter(), Page(9))] == ["run_next", "run_old"]
    assert await world.store.list_inputs(TENANT, InputFilter(), Page(9)) == []
    assert await world.store.join_due(limit=9) == []
    run = adopted.run
    await world.append(output(run.id, fence=2))
    await world.end(run, "bye", fence=2)
    assert await world.shown("thr_old") == ["hello", "bye"]
    assert await world.store.promote([(TENANT, "thr_old")]) == {"echo"}
