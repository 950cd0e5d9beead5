"""What the operations of the store see of a database: one transaction, the same on SQLite and PostgreSQL.

An operation is a plain function of a `Transaction`. It does not begin or end it, and it may be run again from the
start when the database asks for that (a deadlock). Who runs operations, on which thread, is `sqlite.py`, `postgres.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

from core_service.adapters.sql.statements import Statement, Statements, Value, list_parameter
from core_service.domain.errors import InvalidArgument

R = TypeVar("R")

Parameters: TypeAlias = Mapping[str, Value] | tuple[Value, ...]

# A row is as wide as its statement says; whoever runs the statement unpacks it.
Row: TypeAlias = tuple[Any, ...]


class Cursor(Protocol):
    """What the drivers' cursors have in common."""

    @property
    def rowcount(self) -> int: ...
    def execute(self, sql: str, parameters: Parameters, /) -> object: ...
    def executemany(self, sql: str, parameters: Sequence[Parameters], /) -> object: ...
    def fetchall(self) -> list[Row]: ...


class Transaction:
    """One transaction. Made for each, by the database."""

    def __init__(self, dialect: str, statements: Statements, cursor: Callable[[], Cursor]) -> None:
        self.dialect = dialect
        self.cursor = cursor
        self._statements = statements

    def rows(self, statement: Statement, **parameters: Value) -> list[Row]:
        """Run a statement that returns rows, and return them."""
        return self._execute(statement, parameters).fetchall()

    def row(self, statement: Statement, **parameters: Value) -> Row | None:
        """Run a statement that returns one row at most."""
        rows = self._execute(statement, parameters).fetchall()
        return rows[0] if rows else None

    def one(self, statement: Statement, **parameters: Value) -> Row:
        """Run a statement that always returns one row."""
        return self._execute(statement, parameters).fetchall()[0]

    def ask(self, statement: Statement, **parameters: Value) -> Callable[[], list[Row]]:
        """Run a statement, and return what fetches its rows. Of several in a row PostgreSQL is waited for once."""
        cursor = self._execute(statement, parameters)
        if self.dialect == "postgresql":
            return cursor.fetchall
        rows = cursor.fetchall()  # SQLite has no COMMIT while a statement is under way
        return lambda: rows

    def do(self, statement: Statement, **parameters: Value) -> None:
        """Run a statement that returns nothing. On PostgreSQL this does not wait for the server."""
        self._execute(statement, parameters)

    def do_many(self, statement: Statement, parameters: Sequence[Mapping[str, Value]]) -> None:
        """Run a statement that returns nothing once per set of parameters."""
        if parameters:
            sql, constants = self._statements.text(statement)
            rows = [{**constants, **row} for row in parameters] if constants else parameters
            self.cursor().executemany(sql, rows)

    def list(self, values: Sequence[str]) -> Value:
        """Return strings as the one parameter that `is_one_of` takes."""
        return list_parameter(self.dialect, values)

    def _execute(self, statement: Statement, parameters: dict[str, Value]) -> Cursor:
        sql, constants = self._statements.text(statement)
        cursor = self.cursor()
        cursor.execute(sql, {**constants, **parameters} if constants else parameters)
        return cursor


class Database(Protocol):
    """Runs operations, each in a transaction.

    Raises StoreFull; then nothing was written. Raises StoreUnavailable; then nothing was, unless the answer to COMMIT
    was lost: whoever must know repeats with the same request id, or fence and seq.
    """

    name: str

    async def write(self, work: Callable[[Transaction], R]) -> R:
        """Run an operation that changes something, and return its result once it is committed."""
        ...

    async def append(self, work: Callable[[Transaction], Callable[[], R]]) -> R:
        """Like `write`, for the log: not behind other writes. What the operation returns is called after the commit.

        It must be one that may be made again: when it fails, it may be in the database all the same.
        """
        ...

    async def renew(self, work: Callable[[Transaction], R]) -> R:
        """Like `write`, for the lease: whatever else goes on, it is not delayed."""
        ...

    async def read(self, work: Callable[[Transaction], R]) -> R:
        """Run an operation that only reads. It sees all that was committed before the call."""
        ...


def check_text(field: str, value: str) -> None:
    """Refuse what PostgreSQL or UTF-8 cannot hold, on every database (ENGINE.md, L4)."""
    if "\0" in value:
        raise InvalidArgument(f"{field} contains a NUL character.", field=field)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"{field} contains half a surrogate pair.", field=field) from error
