"""SQL text, made once: statements are written with SQLAlchemy Core and executed through the driver.

SQLAlchemy spends 15–95 µs per execution on what never changes here, the driver 2.5 µs (ENGINE.md, A14). So each
statement is compiled when it is first used on a dialect, and kept. Parameters are named; values are plain ints, bools,
floats, strings, bytes and None, which need no conversion.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias, TypeVar

from sqlalchemy import BigInteger, Boolean, Column, Integer, bindparam, func
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler
from sqlalchemy.dialects.sqlite.pysqlite import dialect as sqlite_dialect
from sqlalchemy.engine import Compiled, Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import BindParameter, ColumnElement
from sqlalchemy.sql.operators import OperatorType
from sqlalchemy.sql.selectable import FromClause

from core_service.adapters.sql.schema import Id

T = TypeVar("T")

Value: TypeAlias = int | float | str | bytes | list[str] | list[int] | list[bytes] | None


class Statement(Protocol):
    """What SQLAlchemy's select, insert, update and delete have in common."""

    def compile(self, *, dialect: Dialect) -> Compiled: ...


class Statements:
    """The text of every statement in one dialect. Threads may share it: compiling twice gives the same text."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._texts: dict[Statement, tuple[str, Mapping[str, Value]]] = {}

    def text(self, statement: Statement) -> tuple[str, Mapping[str, Value]]:
        """Return the SQL text and the constants that it needs as parameters."""
        known = self._texts.get(statement)
        if known is None:
            known = self._texts[statement] = self._compile(statement)
        return known

    def _compile(self, statement: Statement) -> tuple[str, Mapping[str, Value]]:
        compiled = statement.compile(dialect=self._dialect)
        constants = {name: value for name, value in compiled.params.items() if value is not None}
        return str(compiled), constants


class _SqliteCompiler(SQLiteCompiler):
    """SQLAlchemy's own drops hints for SQLite, in silence."""

    def get_from_hint_text(self, table: FromClause, text: str | None) -> str | None:
        return text


def sqlite_statements() -> Statements:
    """Return the statements of SQLite, with their hints."""
    dialect = sqlite_dialect(paramstyle="named")
    dialect.statement_compiler = _SqliteCompiler
    return Statements(dialect)


class now(ColumnElement[int]):
    """The database's time in microseconds. On SQLite it is the clock of this process, see `sqlite.py`."""

    inherit_cache = True
    type = BigInteger()


@compiles(now, "sqlite")
def _now_sqlite(element: now, compiler: SQLCompiler, **options: object) -> str:
    return "now_micros()"


@compiles(now, "postgresql")
def _now_postgresql(element: now, compiler: SQLCompiler, **options: object) -> str:
    return "(extract(epoch FROM statement_timestamp()) * 1000000)::bigint"


class is_one_of(ColumnElement[bool]):
    """Whether a text column is in a list of any length, given as one parameter (`Transaction.list`)."""

    inherit_cache = False
    type = Boolean()

    def __init__(self, column: Column[str], parameter: str) -> None:
        self.column = column
        self.parameter = parameter

    def self_group(self, against: OperatorType | None = None) -> is_one_of:
        """Stay as it is: for SQLite the inherited method appends `= 1`, and then no index is used."""
        return self


@compiles(is_one_of, "sqlite")
def _one_of_sqlite(element: is_one_of, compiler: SQLCompiler, **options: object) -> str:
    return f"{compiler.process(element.column)} IN (SELECT value FROM json_each(:{element.parameter}))"


@compiles(is_one_of, "postgresql")
def _one_of_postgresql(element: is_one_of, compiler: SQLCompiler, **options: object) -> str:
    return f"{compiler.process(element.column)} = ANY(%({element.parameter})s::text[])"


def list_parameter(dialect: str, values: Sequence[str]) -> Value:
    """Return a list as `is_one_of` takes it."""
    return json.dumps(list(values)) if dialect == "sqlite" else list(values)


def text(name: str) -> BindParameter[str]:
    """A parameter that is a string."""
    return bindparam(name, type_=Id)


def integer(name: str) -> BindParameter[int]:
    """A parameter that is a number of any kind."""
    return bindparam(name, type_=BigInteger())


def flag(name: str) -> BindParameter[bool]:
    """A parameter that is true or false."""
    return bindparam(name, type_=Boolean())


def count(name: str) -> BindParameter[int]:
    """A parameter that bounds how many rows come back."""
    return bindparam(name, type_=Integer())


def given(column: Column[T]) -> BindParameter[T]:
    """A parameter of the name and type of a column."""
    return bindparam(column.name, type_=column.type)


def all_given(*columns: Column[int] | Column[str] | Column[bytes] | Column[bool]) -> dict[str, BindParameter[object]]:
    """The values of an insert or update that sets these columns from parameters of the same names."""
    return {column.name: bindparam(column.name, type_=column.type) for column in columns}


def unless_null(column: Column[T]) -> ColumnElement[T]:
    """What a column is set to by a parameter of its name: None leaves it as it is."""
    return func.coalesce(given(column), column)
