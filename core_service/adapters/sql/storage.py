"""What a thread occupies: counts and bytes, summed up when somebody asks."""

from __future__ import annotations

from sqlalchemy import BigInteger, ColumnElement, and_, func, literal_column, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from core_service.adapters.sql.schema import heads, inputs, messages, runs, segments, steps, threads
from core_service.adapters.sql.statements import text
from core_service.adapters.sql.transaction import Transaction
from core_service.domain.errors import ThreadNotFound
from penstock.v1.thread_pb2 import ThreadStorage


class octets(ColumnElement[int]):
    """The bytes of a text or of bytes, in UTF-8; 0 for nothing."""

    inherit_cache = False
    type = BigInteger()

    def __init__(self, column: ColumnElement[str] | ColumnElement[bytes]) -> None:
        self.column = column


@compiles(octets, "sqlite")
def _octets_sqlite(element: octets, compiler: SQLCompiler, **options: object) -> str:
    return f"coalesce(length(CAST({compiler.process(element.column)} AS BLOB)), 0)"


@compiles(octets, "postgresql")
def _octets_postgresql(element: octets, compiler: SQLCompiler, **options: object) -> str:
    return f"coalesce(octet_length({compiler.process(element.column)}), 0)"


def _sum(amount: ColumnElement[int]) -> ColumnElement[int]:
    return func.coalesce(func.sum(amount), literal_column("0"))


_in_thread = (runs.c.tenant == text("tenant"), runs.c.thread_id == text("thread"))

STATE = select(octets(threads.c.state)).where(threads.c.tenant == text("tenant"), threads.c.thread_id == text("thread"))
RUNS = (
    select(func.count(), _sum(heads.c.last_seq - heads.c.oldest_seq + literal_column("1")))
    .select_from(runs.join(heads, heads.c.run_id == runs.c.run_id))
    .where(*_in_thread)
)
LOG = (
    select(_sum(octets(segments.c.data)))
    .select_from(runs.join(segments, segments.c.run_id == runs.c.run_id))
    .where(*_in_thread)
)
MESSAGES = select(func.count(), _sum(octets(messages.c.body))).where(
    and_(messages.c.tenant == text("tenant"), messages.c.thread_id == text("thread"))
)
STEPS = (
    select(_sum(octets(steps.c.step_key) + octets(steps.c.args_hash) + octets(steps.c.result)))
    .select_from(runs.join(steps, steps.c.run_id == runs.c.run_id))
    .where(*_in_thread)
)
QUESTIONS = (
    select(_sum(octets(inputs.c.request) + octets(inputs.c.answer) + octets(inputs.c.origin)))
    .select_from(runs.join(inputs, inputs.c.run_id == runs.c.run_id))
    .where(*_in_thread)
)


def storage(transaction: Transaction, tenant: str, thread_id: str) -> ThreadStorage:
    """Carry out `HistoryStore.storage_of`."""
    where = {"tenant": tenant, "thread": thread_id}
    state = transaction.row(STATE, **where)
    if state is None:
        raise ThreadNotFound(f"There is no thread {thread_id[:80]!r}.", thread_id=thread_id[:80])
    run_count, events = transaction.one(RUNS, **where)
    message_count, message_bytes = transaction.one(MESSAGES, **where)
    return ThreadStorage(
        thread_id=thread_id,
        runs=run_count,
        events=int(events),
        event_bytes=int(transaction.one(LOG, **where)[0]),
        messages=message_count,
        message_bytes=int(message_bytes),
        state_bytes=state[0],
        record_bytes=sum(int(transaction.one(statement, **where)[0]) for statement in (STEPS, QUESTIONS)),
    )
