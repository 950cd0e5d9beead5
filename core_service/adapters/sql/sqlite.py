"""SQLite: one thread writes, everything that waits in one commit (ENGINE.md, A2); a few others read.

Each operation of a commit stands in its own savepoint, so that a refusal undoes only itself. Nobody gets an answer
before the commit. It knows no table.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from core_service.adapters.sql.connection_threads import ConnectionThreads
from core_service.adapters.sql.statements import sqlite_statements
from core_service.adapters.sql.transaction import Transaction
from core_service.domain.errors import InvalidArgument, Refusal, StoreFull, StoreUnavailable

R = TypeVar("R")

GROUP_LIMIT = 1_000
"""Operations per commit. More would delay the first of them for the sake of the last."""

READERS = 3
"""Threads that read. Reads are short; more threads only take the interpreter from each other."""

BUSY_MILLIS = 5_000
"""How long to wait for a lock that somebody else holds: a backup, an administrator's shell."""


@dataclass(slots=True)
class _Operation:
    """One call that waits for its commit. `result` and `error` are filled in by the writer thread."""

    work: Callable[[Transaction], object]
    future: asyncio.Future[Any]
    result: object = None
    error: Exception | None = None

    def answer(self) -> None:
        if self.future.done():  # its caller has gone; what was written stays written
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class Sqlite:
    """A `Database` in a file. Use `open_database`."""

    name = "sqlite"

    def __init__(self, path: Path, *, now: Callable[[], int], synchronous: str) -> None:
        self._path = path
        self._now = now
        self._synchronous = synchronous
        self._statements = sqlite_statements()
        self._readers = ConnectionThreads("store-read", READERS, self._connect_reader)
        self._queue: SimpleQueue[_Operation | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._connection = self._connect()
        self._writer = threading.Thread(target=self._write_forever, name="store-write")
        self._writer.start()

    async def write(self, work: Callable[[Transaction], R]) -> R:
        future: asyncio.Future[R] = self._loop.create_future()
        self._queue.put(_Operation(work, future))
        return await future

    async def append(self, work: Callable[[Transaction], Callable[[], R]]) -> R:
        return await self.write(lambda transaction: work(transaction)())

    renew = write  # there is one writer, and it lets nobody wait for more than one commit

    async def read(self, work: Callable[[Transaction], R]) -> R:
        return await self._readers.run(lambda: self._read(work))

    def close(self) -> None:
        """Commit what waits and close all connections. Blocks."""
        self._queue.put(None)
        self._writer.join()
        self._readers.close()
        self._connection.close()

    # ── connections ────────────────────────────────────────────────────────────────────────────────────────

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        connection.create_function("now_micros", 0, self._now)
        connection.execute(f"PRAGMA busy_timeout = {BUSY_MILLIS}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        if sys.platform == "darwin":  # fsync alone does not reach the disk there
            connection.execute("PRAGMA fullfsync = 1")
            connection.execute("PRAGMA checkpoint_fullfsync = 1")
        return connection

    def _connect_reader(self) -> sqlite3.Connection:
        connection = self._connect()
        connection.execute("PRAGMA query_only = 1")
        return connection

    def _transaction(self, connection: sqlite3.Connection) -> Transaction:
        return Transaction(self.name, self._statements, connection.cursor)

    # ── the readers ────────────────────────────────────────────────────────────────────────────────────────

    def _read(self, work: Callable[[Transaction], R]) -> R:
        try:
            connection = self._readers.connection()
            connection.execute("BEGIN")  # one snapshot, however many statements
            try:
                return work(self._transaction(connection))
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        except (sqlite3.Error, UnicodeEncodeError) as error:
            raise _translated(error) from error

    # ── the writer ─────────────────────────────────────────────────────────────────────────────────────────

    def _write_forever(self) -> None:
        while (first := self._queue.get()) is not None:
            group, closing = self._gather(first)
            self._commit(group)
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(_answer_all, group)
            if closing:
                break

    def _gather(self, first: _Operation) -> tuple[list[_Operation], bool]:
        """Return everything that waits, and whether the end of the queue is in sight."""
        group = [first]
        with suppress(Empty):
            while len(group) < GROUP_LIMIT:
                operation = self._queue.get_nowait()
                if operation is None:
                    return group, True
                group.append(operation)
        return group, False

    def _commit(self, group: list[_Operation]) -> None:
        """Run a group in one transaction. What breaks the transaction refuses all of it (ENGINE.md, A9)."""
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            for operation in group:
                self._run(connection, operation, is_alone=len(group) == 1)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            for operation in group:
                operation.error = _translated(error)

    def _run(self, connection: sqlite3.Connection, operation: _Operation, *, is_alone: bool) -> None:
        """Run an operation in a savepoint; for one that is alone the transaction is that, and two statements less."""
        if not is_alone:
            connection.execute("SAVEPOINT operation")
        try:
            operation.result = operation.work(self._transaction(connection))
        except Exception as error:
            if isinstance(error, sqlite3.Error) and (_is_fatal(error) or not connection.in_transaction):
                raise
            operation.error = _translated(error)
            connection.execute("ROLLBACK" if is_alone else "ROLLBACK TO operation")
            if is_alone:
                connection.execute("BEGIN")
        if not is_alone:
            connection.execute("RELEASE operation")


def _answer_all(group: list[_Operation]) -> None:
    for operation in group:
        operation.answer()


_FULL = sqlite3.SQLITE_FULL
_GONE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)


def _code(error: sqlite3.Error) -> int:
    """Return the primary code; the higher bits say more than we need. 0 for errors of the Python module itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _is_fatal(error: sqlite3.Error) -> bool:
    return _code(error) == _FULL or _code(error) in _GONE


def _translated(error: Exception) -> Exception:
    """Return what a caller gets for an error: a refusal where the taxonomy has one, else the error itself."""
    if isinstance(error, UnicodeEncodeError):
        return InvalidArgument("A text contains half a surrogate pair.")
    if isinstance(error, Refusal) or not isinstance(error, sqlite3.Error):
        return error
    if _code(error) == _FULL:
        return StoreFull("The disk of the database is full. Nothing is lost; free some space and repeat.")
    if _code(error) in _GONE:
        return StoreUnavailable(f"SQLite cannot be used now: {error}.")
    return error
