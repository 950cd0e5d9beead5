"""Where a core under test keeps its data, and what is really stored there, read behind the core's back."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from core_service.config import CoreSettings
from core_service.domain import segments
from penstock.v1.event_pb2 import Event
from penstock.v1.run_pb2 import RunState

ZLIB = 1


@dataclass
class StoredRun:
    """A run's row and its log."""

    run_id: str
    thread_id: str
    state: RunState.ValueType
    reason: int
    holds_thread: bool
    owner: str | None
    last_seq: int
    oldest_seq: int
    attempt: int
    failures: int
    rows: list[tuple[int, int, bytes]] = field(default_factory=list)
    questions: list[tuple[str, int, int | None]] = field(default_factory=list)
    """Of each question its id, its outcome, and the seq of the event that resolved it."""

    @property
    def events(self) -> list[Event]:
        """All events, in order."""
        return [event for _, _, data in self.rows for event in segments.events(data)]


RUNS = """
SELECT r.run_id, r.thread_id, r.state, r.reason, r.holds_thread, h.owner, h.last_seq, h.oldest_seq, r.attempt,
    r.failures
FROM runs r JOIN heads h ON h.run_id = r.run_id ORDER BY r.created, r.run_id
"""
SEGMENTS = """
SELECT run_id, first_seq, last_seq, codec, data FROM segments
WHERE run_id NOT IN (SELECT resource_id FROM deletions) ORDER BY run_id, last_seq
"""
QUESTIONS = """
SELECT run_id, input_id, outcome, resolved_seq FROM inputs WHERE run_id NOT IN (SELECT resource_id FROM deletions)
"""


@dataclass(frozen=True)
class Place:
    """A database: a file in `data`, or a PostgreSQL database."""

    data: Path
    database_url: str = ""

    def settings(self, **changes: object) -> CoreSettings:
        """Settings of a core here: loopback, a free port, no metrics, and short times."""
        given: dict[str, object] = {
            "grpc_port": 0,
            "metrics": False,
            "data": self.data,
            "database_url": self.database_url,
            "postgres_connections": 4,
            "drain_timeout": 0.5,
            "retry_backoff": 0.0,
        }
        return CoreSettings.load(**given | changes)

    def runs(self) -> dict[str, StoredRun]:
        """All runs by id, oldest first, as they were at one moment."""
        runs, rows, questions = self._snapshot(RUNS, SEGMENTS, QUESTIONS)
        found = {run[0]: StoredRun(*run) for run in runs}
        for run_id, first_seq, last_seq, codec, data in rows:
            raw = zlib.decompress(data) if codec == ZLIB else bytes(data)
            found[run_id].rows.append((first_seq, last_seq, raw))
        for run_id, *question in questions:
            found[run_id].questions.append(tuple(question))
        return found

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Run a query."""
        with self._connected() as connection:
            return list(connection.execute(query).fetchall())

    def _snapshot(self, *queries: str) -> list[list[tuple[Any, ...]]]:
        """Run queries that see the same state: a core that goes on commits between two that do not."""
        with self._connected() as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ" if self.database_url else "BEGIN")
            return [list(connection.execute(query).fetchall()) for query in queries]

    def execute(self, *statements: str) -> None:
        """Change the database as an administrator would, or as a fault does."""
        with self._connected() as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()

    def forget(self, run_id: str) -> None:
        """Remove a run that a test has damaged, so that the rest can be checked."""
        self.execute(*(f"DELETE FROM {table} WHERE run_id = '{run_id}'" for table in ("segments", "heads", "runs")))

    def refuse_segment(self, run_id: str, last_seq: int) -> None:
        """Make the database refuse this one segment of a run, for good: a constraint error at every try."""
        if self.database_url:
            check = f"CHECK (run_id <> '{run_id}' OR last_seq <> {last_seq})"
            self.execute(f"ALTER TABLE segments ADD CONSTRAINT refused {check} NOT VALID")
        else:
            self.execute(
                f"CREATE TRIGGER refused BEFORE INSERT ON segments WHEN NEW.run_id = '{run_id}' "
                f"AND NEW.last_seq = {last_seq} BEGIN SELECT RAISE(ABORT, 'refused'); END"
            )

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        if self.database_url:
            with psycopg.connect(self.database_url) as connection:
                yield connection
        else:
            with closing(sqlite3.connect(self.data / "penstock.db", timeout=5.0)) as connection:
                yield connection
