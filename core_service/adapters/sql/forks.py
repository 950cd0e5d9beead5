"""Forks: a new thread with copies of another one's messages, in one transaction under the lock of the source.

A copy keeps the place of its original, and the new thread counts places from where the old one stands. So the order is
that of the original, and the first run of the fork comes behind all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import assert_never

from sqlalchemy import literal_column, select
from sqlalchemy.dialects.postgresql import insert

from core_service.adapters.sql import requests
from core_service.adapters.sql.messages import FIRST_OWN, PLACE, PLACE_BITS, count_more
from core_service.adapters.sql.messages import INSERT as INSERT_MESSAGE
from core_service.adapters.sql.rows import micros, thread_body
from core_service.adapters.sql.schema import messages, threads
from core_service.adapters.sql.statements import Value, all_given, count, flag, integer, text
from core_service.adapters.sql.thread_state import state_at
from core_service.adapters.sql.threads import get_thread, refuse_while_deleted
from core_service.adapters.sql.transaction import Transaction, check_text
from core_service.domain.errors import MessageNotFound, RunNotFound, ThreadExists, ThreadNotFound
from core_service.domain.ids import new_id
from core_service.ports import AtEnd, AtEvent, AtMessage, ForkPoint, RequestKey
from penstock.v1.message_pb2 import Message
from penstock.v1.thread_pb2 import Thread

PAGE = 200
"""Messages that are held in memory at a time."""
BEYOND_ALL = (1 << 63) - 1

_in_source = (messages.c.tenant == text("tenant"), messages.c.thread_id == text("thread"))
_shown = messages.c.hidden == flag("no")

SOURCE = (
    select(threads.c.state, threads.c.queue_seq)
    .where(threads.c.tenant == text("tenant"), threads.c.thread_id == text("thread"))
    .with_for_update()
)
_GIVEN = (column for column in threads.c if column.name not in ("message_count", "updated"))
INSERT = (
    insert(threads)
    .values(all_given(*_GIVEN) | {"message_count": literal_column("0"), "updated": integer("created")})
    .on_conflict_do_nothing()
    .returning(threads.c.thread_id)
)
MESSAGE = select(messages.c.pos, messages.c.is_input).where(
    messages.c.message_id == text("message"), *_in_source, _shown
)
IS_TAKEN_BACK = (
    select(messages.c.pos)
    .where(*_in_source, messages.c.pos >= integer("first"), messages.c.pos < integer("before"), ~_shown)
    .limit(literal_column("1"))
)
COPIED = (
    select(messages.c.pos, messages.c.run_id, messages.c.is_input, messages.c.body)
    .where(*_in_source, messages.c.pos > integer("after"), messages.c.pos < integer("before"), _shown)
    .order_by(messages.c.pos)
    .limit(count("limit"))
)


@dataclass(frozen=True, slots=True)
class _Cut:
    """How much of the source goes into the fork."""

    before: int
    """Messages before this position."""
    state_json: str
    said: tuple[Message, ...] = ()
    """Messages that follow them, from `before` on."""
    said_by: str = ""
    """The run that said them."""


def fork(
    transaction: Transaction,
    tenant: str,
    source_id: str,
    thread: Thread,
    at: ForkPoint,
    *,
    request: RequestKey | None,
    lifetime: float,
) -> Thread:
    """Carry out `HistoryStore.fork_thread`. `lifetime` is that of the request id, in seconds."""
    known = requests.claim(transaction, tenant, request, thread.id, lifetime=lifetime)
    if known is None:
        _fork(transaction, tenant, source_id, thread, at)
    found = get_thread(transaction, tenant, known or thread.id)
    if found is None:
        raise ThreadNotFound("The thread that this request made is not kept any more.", thread_id=known or thread.id)
    return found


def _fork(transaction: Transaction, tenant: str, source_id: str, thread: Thread, at: ForkPoint) -> None:
    source = transaction.row(SOURCE, tenant=tenant, thread=source_id)
    if source is None:
        raise ThreadNotFound(f"There is no thread {source_id[:80]!r}.", thread_id=source_id[:80])
    state_json, queue_seq = source
    cut = _cut(transaction, tenant, source_id, at, state_json=state_json)
    _insert(transaction, tenant, thread, state_json=cut.state_json, queue_seq=queue_seq)
    copied = _copy(transaction, tenant, source_id, thread.id, before=cut.before)
    said = [(cut.before + number, cut.said_by, False, _copied(message)) for number, message in enumerate(cut.said)]
    transaction.do_many(INSERT_MESSAGE, _rows(tenant, thread.id, said))
    count_more(transaction, tenant, thread.id, copied + len(said))


def _cut(transaction: Transaction, tenant: str, source_id: str, at: ForkPoint, *, state_json: str) -> _Cut:
    match at:
        case AtEnd():
            return _Cut(BEYOND_ALL, state_json)
        case AtMessage(message_id):
            row = transaction.row(MESSAGE, tenant=tenant, thread=source_id, message=message_id, no=False)
            if row is None:
                raise MessageNotFound(f"The thread has no message {message_id[:80]!r}.", message_id=message_id[:80])
            pos, is_input = row
            place = (pos >> PLACE_BITS) + (0 if is_input else 1)  # an input comes before its own run set out
            return _Cut(pos + 1, state_at(transaction, tenant, source_id, place))
        case AtEvent():
            return _cut_at_event(transaction, tenant, source_id, at)
        case _:
            assert_never(at)


def _cut_at_event(transaction: Transaction, tenant: str, source_id: str, at: AtEvent) -> _Cut:
    row = transaction.row(PLACE, run=at.run_id)
    if row is None or row[:2] != (tenant, source_id):
        raise RunNotFound(f"The thread has no run {at.run_id[:80]!r}.", run_id=at.run_id[:80])
    place: int = row[2]
    first = place << PLACE_BITS
    own = first + FIRST_OWN
    if transaction.row(IS_TAKEN_BACK, tenant=tenant, thread=source_id, first=first, before=own, no=False):
        return _Cut(first, state_at(transaction, tenant, source_id, place))
    return _Cut(own, at.state_json, at.said, at.run_id)


def _insert(transaction: Transaction, tenant: str, thread: Thread, *, state_json: str, queue_seq: int) -> None:
    check_text("thread_id", thread.id)
    row = transaction.row(
        INSERT,
        tenant=tenant,
        thread_id=thread.id,
        body=thread_body(thread),
        queue_seq=queue_seq,
        state=state_json,
        state_version=1 if state_json else 0,
        created=micros(thread.create_time),
    )
    if row is None:
        raise ThreadExists("A thread with this id exists. Choose another id.", thread_id=thread.id)
    refuse_while_deleted(transaction, tenant, thread.id)


def _copy(transaction: Transaction, tenant: str, source_id: str, thread_id: str, *, before: int) -> int:
    """Copy the shown messages before a position, and return how many they are."""
    copied, after = 0, -1
    while True:
        rows = transaction.rows(
            COPIED, tenant=tenant, thread=source_id, after=after, before=before, no=False, limit=PAGE
        )
        found = [(pos, run_id, is_input, Message.FromString(body)) for pos, run_id, is_input, body in rows]
        transaction.do_many(INSERT_MESSAGE, _rows(tenant, thread_id, found))
        copied += len(rows)
        if len(rows) < PAGE:
            return copied
        after = rows[-1][0]


def _copied(message: Message) -> Message:
    copy = Message()
    copy.CopyFrom(message)
    return copy


def _rows(tenant: str, thread_id: str, made: Iterable[tuple[int, str, bool, Message]]) -> Sequence[dict[str, Value]]:
    """Return rows of messages that nobody else has, each under a new id."""
    rows: list[dict[str, Value]] = []
    for pos, run_id, is_input, message in made:
        message.id = new_id("msg")
        rows.append(
            {
                "tenant": tenant,
                "thread_id": thread_id,
                "pos": pos,
                "message_id": message.id,
                "run_id": run_id,
                "body": message.SerializeToString(),
                "is_input": bool(is_input),
                "hidden": False,
            }
        )
    return rows
