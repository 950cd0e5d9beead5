"""The state of a thread between its runs: who may set it, and which state a run set out from."""

from __future__ import annotations

from sqlalchemy import func, literal_column, select, update

from core_service.adapters.sql import requests
from core_service.adapters.sql.messages import PLACE
from core_service.adapters.sql.schema import IS_HOLDER, IS_NEXT, runs, threads
from core_service.adapters.sql.statements import given, integer, text
from core_service.adapters.sql.threads import get_thread
from core_service.adapters.sql.transaction import Transaction, check_text
from core_service.domain.errors import ThreadBusy, ThreadNotFound
from core_service.domain.thread_state import check_version
from core_service.ports import RequestKey
from penstock.v1.thread_pb2 import Thread

_is_thread = (threads.c.tenant == text("tenant"), threads.c.thread_id == text("thread"))
_in_thread = (runs.c.tenant == text("tenant"), runs.c.thread_id == text("thread"))

VERSION = select(threads.c.state_version).where(*_is_thread).with_for_update()
_first_waiting = (
    select(runs.c.run_id)
    .where(*_in_thread, IS_NEXT)
    .order_by(runs.c.queue_pos)
    .limit(literal_column("1"))
    .scalar_subquery()
)
# Between an end and the next promotion a thread has waiting runs and no holder: it is as busy as before.
BUSY_WITH = select(func.coalesce(select(runs.c.run_id).where(*_in_thread, IS_HOLDER).scalar_subquery(), _first_waiting))
SET = (
    update(threads)
    .where(*_is_thread)
    .values(state=given(threads.c.state), state_version=threads.c.state_version + literal_column("1"))
)
STATE = select(threads.c.state).where(*_is_thread)
SET_OUT = (
    select(runs.c.state_before)
    .where(*_in_thread, runs.c.queue_pos >= integer("place"), runs.c.state_before.is_not(None))
    .order_by(runs.c.queue_pos)
    .limit(literal_column("1"))
)


def look(transaction: Transaction, tenant: str, thread_id: str, *, request: RequestKey | None) -> tuple[Thread, bool]:
    """Carry out `HistoryStore.look_at_thread`."""
    return _existing(transaction, tenant, thread_id), requests.known(transaction, tenant, request) is not None


def set_state(
    transaction: Transaction,
    tenant: str,
    thread_id: str,
    state_json: str,
    *,
    expected_version: int | None,
    request: RequestKey | None,
    lifetime: float,
) -> Thread:
    """Carry out `HistoryStore.set_state`. The lock makes a concurrent create wait, and an end that brings a state."""
    check_text("state_json", state_json)
    if requests.claim(transaction, tenant, request, thread_id, lifetime=lifetime) is None:
        row = transaction.row(VERSION, tenant=tenant, thread=thread_id)
        if row is not None:
            _admit(transaction, tenant, thread_id, version=row[0], expected=expected_version)
            transaction.do(SET, tenant=tenant, thread=thread_id, state=state_json)
    return _existing(transaction, tenant, thread_id)


def _admit(transaction: Transaction, tenant: str, thread_id: str, *, version: int, expected: int | None) -> None:
    (busy_with,) = transaction.one(BUSY_WITH, tenant=tenant, thread=thread_id)
    if busy_with is not None:
        raise ThreadBusy("The thread has an active run, which owns the state until its end.", run_id=busy_with)
    check_version(version, expected=expected)


def _existing(transaction: Transaction, tenant: str, thread_id: str) -> Thread:
    thread = get_thread(transaction, tenant, thread_id)
    if thread is None:
        raise ThreadNotFound(f"There is no thread {thread_id[:80]!r}.", thread_id=thread_id[:80])
    return thread


def state_before(transaction: Transaction, tenant: str, run_id: str) -> str | None:
    """Carry out `HistoryStore.state_before`."""
    row = transaction.row(PLACE, run=run_id)
    if row is None or row[0] != tenant:
        return None
    _, thread_id, place = row
    return state_at(transaction, tenant, thread_id, place)


def state_at(transaction: Transaction, tenant: str, thread_id: str, place: int) -> str:
    """Return the state from which the first run at a place or behind it set out; the state now if none has started."""
    parameters = {"tenant": tenant, "thread": thread_id}
    row = transaction.row(SET_OUT, **parameters, place=place) or transaction.row(STATE, **parameters)
    return "" if row is None else str(row[0])
