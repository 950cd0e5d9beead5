"""The messages of a thread, in the order of the conversation.

A message's position is the place of its run in the thread times 2^20, plus its number in the run. So a run's answer
stands before the input of a run that was queued behind it, although it was written later; what an agent is given and
what a reader sees are the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sqlalchemy import and_, false, func, insert, literal_column, select, true, update

from core_service.adapters.sql.rows import to_owned
from core_service.adapters.sql.schema import messages, runs, threads
from core_service.adapters.sql.statements import Value, all_given, count, flag, integer, is_one_of, text
from core_service.adapters.sql.transaction import Row, Transaction
from core_service.ports import Owned
from penstock.v1.message_pb2 import Message

PLACE_BITS = 20
FIRST_OWN = 1 << (PLACE_BITS - 1)
"""Within a run its input is numbered from 0, what it said itself from here."""

HISTORY_LIMIT = 1_000
"""Newest messages that an assignment brings along: a context window holds less, and a stream's message stays small."""

_IN_THREAD = (messages.c.tenant == text("tenant"), messages.c.thread_id == text("thread"))
_SHOWN = messages.c.hidden == flag("no")

INSERT = insert(messages).values(all_given(*messages.c))
HISTORY = (
    select(messages.c.body)
    .where(*_IN_THREAD, messages.c.pos < integer("before"), _SHOWN)
    .order_by(messages.c.pos.desc())
    .limit(count("limit"))
)
PAGE = (
    select(messages.c.pos, messages.c.body)
    .where(*_IN_THREAD, messages.c.pos > integer("after"), _SHOWN)
    .order_by(messages.c.pos)
    .limit(count("limit"))
)
_PLACE = runs.c.queue_pos.bitwise_lshift(literal_column(str(PLACE_BITS)))
INPUT = (
    select(messages.c.body)
    .select_from(
        runs.join(
            messages,
            and_(
                messages.c.tenant == runs.c.tenant,
                messages.c.thread_id == runs.c.thread_id,
                messages.c.pos >= _PLACE,
                messages.c.pos < _PLACE + literal_column(str(FIRST_OWN)),
            ),
        )
    )
    .where(runs.c.run_id == text("run"), runs.c.tenant == text("tenant"))
    .order_by(messages.c.pos)
)
_newest_own = (
    select(func.max(messages.c.pos))
    .where(
        messages.c.tenant == runs.c.tenant,
        messages.c.thread_id == runs.c.thread_id,
        messages.c.pos >= _PLACE + literal_column(str(FIRST_OWN)),
        messages.c.pos < _PLACE + literal_column(str(1 << PLACE_BITS)),
    )
    .scalar_subquery()
)
LOCK_PLACES = (
    select(runs.c.run_id, runs.c.tenant, runs.c.thread_id, runs.c.queue_pos, _newest_own)
    .select_from(threads.join(runs, and_(runs.c.tenant == threads.c.tenant, runs.c.thread_id == threads.c.thread_id)))
    .where(is_one_of(runs.c.run_id, "ids"))
    .order_by(threads.c.tenant, threads.c.thread_id)
    .with_for_update(of=threads)
)
HIDE = (
    update(messages)
    .where(*_IN_THREAD, messages.c.pos >= integer("first"), messages.c.pos < integer("behind"), _SHOWN)
    .values(hidden=true())
    .returning(messages.c.message_id)
)
SHOW_AT = (
    update(messages)
    .where(*_IN_THREAD, messages.c.pos >= integer("first"), messages.c.pos < integer("behind"))
    .values(pos=messages.c.pos + integer("by"), hidden=false())
    .returning(messages.c.message_id)
)
PLACE = select(runs.c.tenant, runs.c.thread_id, runs.c.queue_pos).where(runs.c.run_id == text("run"))
COUNT_MORE = (
    update(threads)
    .where(threads.c.tenant == text("tenant_is"), threads.c.thread_id == text("thread_is"))
    .values(message_count=threads.c.message_count + integer("more"))
)


def insert_input(
    transaction: Transaction,
    tenant: str,
    thread_id: str,
    run_id: str,
    place: int,
    new: Sequence[Message],
    *,
    hidden: bool,
) -> None:
    """Store the messages that came with a run. Whoever locked the thread has counted them, unless they are hidden."""
    rows = _rows(tenant, thread_id, run_id, place << PLACE_BITS, new, is_input=True)
    transaction.do_many(INSERT, [row | {"hidden": hidden} for row in rows] if hidden else rows)


def lock_places(transaction: Transaction, run_ids: Sequence[str]) -> Callable[[], Sequence[Row]]:
    """Lock the threads of these runs; what is returned fetches where they go on to speak (`Transaction.ask`)."""
    return transaction.ask(LOCK_PLACES, ids=transaction.list(run_ids)) if run_ids else list


def insert_own(transaction: Transaction, said: Mapping[str, Sequence[Message]], places: Sequence[Row]) -> None:
    """Store what runs said, by run id, behind what they said before, and count it."""
    rows: list[dict[str, Value]] = []
    counts: list[dict[str, Value]] = []
    for run_id, tenant, thread_id, place, newest in places:
        if not (new := said.get(run_id)):
            continue
        first = (place << PLACE_BITS) + FIRST_OWN if newest is None else newest + 1
        rows += _rows(tenant, thread_id, run_id, first, new, is_input=False)
        counts.append({"tenant_is": tenant, "thread_is": thread_id, "more": len(new)})
    transaction.do_many(INSERT, rows)
    transaction.do_many(COUNT_MORE, counts)


def hide(transaction: Transaction, run_id: str) -> None:
    """Hide all messages of a run, what came with it and what it said, and count them out."""
    tenant, thread_id, place = transaction.one(PLACE, run=run_id)
    first, behind = place << PLACE_BITS, (place + 1) << PLACE_BITS
    hidden = transaction.rows(HIDE, tenant=tenant, thread=thread_id, first=first, behind=behind, no=False)
    count_more(transaction, tenant, thread_id, -len(hidden))


def show_at(transaction: Transaction, tenant: str, thread_id: str, old: int, place: int) -> None:
    """Move the hidden messages of the run at an old place to its new one, show them and count them in."""
    first, behind = old << PLACE_BITS, (old + 1) << PLACE_BITS
    by = (place - old) << PLACE_BITS
    shown = transaction.rows(SHOW_AT, tenant=tenant, thread=thread_id, first=first, behind=behind, by=by)
    count_more(transaction, tenant, thread_id, len(shown))


def count_more(transaction: Transaction, tenant: str, thread_id: str, more: int) -> None:
    """Count messages of a locked thread in, or out when negative."""
    transaction.do(COUNT_MORE, tenant_is=tenant, thread_is=thread_id, more=more)


def _rows(
    tenant: str, thread_id: str, run_id: str, first: int, new: Sequence[Message], *, is_input: bool
) -> list[dict[str, Value]]:
    return [
        {
            "tenant": tenant,
            "thread_id": thread_id,
            "pos": first + number,
            "message_id": message.id,
            "run_id": run_id,
            "body": message.SerializeToString(),
            "is_input": is_input,
            "hidden": False,
        }
        for number, message in enumerate(new)
    ]


def history(transaction: Transaction, tenant: str, thread_id: str, place: int) -> list[Message]:
    """Return the newest messages of the runs before this place, oldest first."""
    rows = transaction.rows(
        HISTORY, tenant=tenant, thread=thread_id, before=place << PLACE_BITS, no=False, limit=HISTORY_LIMIT
    )
    return [Message.FromString(body) for (body,) in reversed(rows)]


def run_input(transaction: Transaction, tenant: str, run_id: str) -> list[Message]:
    """Return the messages that came with a run."""
    return [Message.FromString(body) for (body,) in transaction.rows(INPUT, tenant=tenant, run=run_id)]


def page(
    transaction: Transaction, tenant: str, thread_id: str, *, after_pos: int, limit: int
) -> list[tuple[int, Message]]:
    """Return messages behind a position, oldest first."""
    rows = transaction.rows(PAGE, tenant=tenant, thread=thread_id, after=after_pos, no=False, limit=limit)
    return [(pos, Message.FromString(body)) for pos, body in rows]


def with_messages(transaction: Transaction, row: Row) -> Owned:
    """Make an owned run with all that a worker needs to start it, from a row of `rows.select_owned`."""
    tenant, thread_id, place, run_id = row[-4:]
    return to_owned(
        row,
        history=history(transaction, tenant, thread_id, place),
        input=run_input(transaction, tenant, run_id),
    )
