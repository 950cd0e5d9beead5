"""PostgreSQL: appends on a connection of their own, the lease on another, the rest on a pool (ENGINE.md, A2, B3).

Each operation is one transaction in pipeline mode: what returns nothing is sent without waiting. A connection that
broke while it was idle is replaced unseen; once COMMIT is sent, only the caller can find out what became of it, but for
appends, which are made again. It knows no table.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

import psycopg
from psycopg import errors
from sqlalchemy.dialects.postgresql.psycopg import dialect as postgres_dialect

from core_service.adapters.sql.connection_threads import ConnectionThreads
from core_service.adapters.sql.statements import Statements
from core_service.adapters.sql.transaction import Transaction
from core_service.domain.errors import InvalidArgument, StoreFull, StoreUnavailable

R = TypeVar("R")

TRIES = 20
"""For deadlocks and serialisation failures (ENGINE.md, A8); one retry is rare, two are a curiosity."""

_AGAIN = (errors.DeadlockDetected, errors.SerializationFailure)
_FULL = (errors.DiskFull,)
_UNAVAILABLE = (
    errors.AdminShutdown,
    errors.CrashShutdown,
    errors.CannotConnectNow,
    errors.InsufficientResources,
    errors.ReadOnlySqlTransaction,  # connected to a standby, or to a primary that has just become one
)


class Postgres:
    """A `Database` behind a URL."""

    name = "postgresql"

    def __init__(self, url: str, *, pool_size: int) -> None:
        self._url = url
        self._statements = Statements(postgres_dialect())  # type: ignore[no-untyped-call]
        self._pool = ConnectionThreads("store", pool_size, self._connect)
        self._appends = ConnectionThreads("store-append", 1, self._connect)
        self._renewals = ConnectionThreads("store-renew", 1, self._connect)

    async def write(self, work: Callable[[Transaction], R]) -> R:
        return await self._run(self._pool, work)

    async def append(self, work: Callable[[Transaction], Callable[[], R]]) -> R:
        return await self._appends.run(lambda: self._run_here(self._appends, work, repeatable=True)())

    async def renew(self, work: Callable[[Transaction], R]) -> R:
        return await self._run(self._renewals, work)

    read = write

    def close(self) -> None:
        """Finish what was begun and close all connections. Blocks."""
        for threads in (self._pool, self._appends, self._renewals):
            threads.close()

    def _connect(self) -> psycopg.Connection:
        # A database that is unplugged is noticed within 10 s, not after the two hours of the system's defaults.
        return psycopg.connect(
            self._url,
            autocommit=True,
            application_name="penstock-core",
            connect_timeout=5,
            keepalives_idle=5,
            keepalives_interval=2,
            keepalives_count=3,
            tcp_user_timeout=10_000,
        )

    async def _run(self, threads: ConnectionThreads[psycopg.Connection], work: Callable[[Transaction], R]) -> R:
        return await threads.run(lambda: self._run_here(threads, work))

    def _run_here(
        self,
        threads: ConnectionThreads[psycopg.Connection],
        work: Callable[[Transaction], R],
        *,
        repeatable: bool = False,
    ) -> R:
        for attempt in range(TRIES):
            attempted = _Attempt(self._statements, work, repeatable=repeatable)
            try:
                return attempted.run(threads.connection())
            except _AGAIN:
                time.sleep(random.uniform(0.001, 0.020))
            except (psycopg.Error, UnicodeEncodeError) as error:
                refusal = _translated(error)
                if isinstance(refusal, StoreUnavailable):
                    threads.discard()
                    if attempt == 0 and attempted.is_certain:
                        continue
                raise refusal from error
        raise StoreUnavailable(f"PostgreSQL chose this operation as a deadlock's victim {TRIES} times.")


class _Attempt(Generic[R]):
    """One transaction on one connection. `is_certain`: when it fails, nothing was written, or it may be made again."""

    def __init__(self, statements: Statements, work: Callable[[Transaction], R], *, repeatable: bool) -> None:
        self._statements = statements
        self._work = work
        self._is_repeatable = repeatable
        self.is_certain = True

    def run(self, connection: psycopg.Connection) -> R:
        # Not by `connection.transaction()`: within a pipeline it waits for the server after BEGIN, before COMMIT and
        # after it, a round trip each. What fails in a pipeline makes the server skip the rest, COMMIT included.
        try:
            with connection.pipeline() as pipeline:
                begun = connection.execute("BEGIN", prepare=False)
                transaction = Transaction(Postgres.name, self._statements, lambda: connection.cursor(binary=True))
                result = self._work(transaction)
                if not self._is_repeatable:
                    if begun.pgresult is None:  # no answer, maybe of a dead connection: COMMIT must not find that out
                        pipeline.sync()
                    self.is_certain = False
                connection.execute("COMMIT", prepare=False)
        except BaseException:
            with suppress(psycopg.Error):  # the connection may be gone, and the transaction with it
                connection.rollback()
            raise
        return result


def _translated(error: Exception) -> Exception:
    """Return what a caller gets for an error: a refusal where the taxonomy has one, else the error itself."""
    if isinstance(error, _FULL):
        return StoreFull("The disk of the database is full. Nothing is lost; free some space and repeat.")
    if isinstance(error, _UNAVAILABLE):
        return StoreUnavailable(f"PostgreSQL cannot be used now: {error}")
    if isinstance(error, psycopg.OperationalError) and error.sqlstate is None:  # the connection, not the statement
        return StoreUnavailable("The connection to PostgreSQL is lost. Repeat with the same request id.")
    if isinstance(error, UnicodeEncodeError):
        return InvalidArgument("A text contains half a surrogate pair.")
    if isinstance(error, psycopg.DataError) and error.sqlstate is None:  # raised by the driver: NUL in a text
        return InvalidArgument("A text contains a NUL character.")
    return error
