"""What of ended runs expires: their events, their messages, and in the end they themselves.

Each call is one transaction of bounded size, so that running work never waits long for it; what a deleted run leaves
behind goes as that of any other (`deletions.py`). Locks are taken as an append
takes them: threads, heads by run id, runs. The row of a run is changed before its segments are read: a fold that was
faster has then committed its chunks, and one that comes later finds nothing to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import and_, delete, exists, false, func, select, true, update

from core_service.adapters.sql import deletions
from core_service.adapters.sql.log import locked_heads
from core_service.adapters.sql.messages import FIRST_OWN, PLACE_BITS, count_more
from core_service.adapters.sql.schema import (
    IS_TO_DELIVER,
    IS_TO_FOLLOW_UP,
    heads,
    inbox,
    messages,
    runs,
    segments,
    threads,
    webhooks,
)
from core_service.adapters.sql.statements import count, integer, is_one_of, now, text
from core_service.adapters.sql.transaction import Transaction
from core_service.domain.runs import ENDED
from core_service.ports import Head, Kept, Term
from penstock.v1.message_pb2 import Message, Role

ROWS = 1_000
"""Segments that one call deletes at most."""
BYTES = 8 << 20
"""Of them; a single one may be larger. To free a large row costs by the page."""

EVENTS_GONE = 1
MESSAGES_GONE = 2
_NOT_EXPIRED = {
    Kept.EVENTS: (0, MESSAGES_GONE),
    Kept.MESSAGES: (0, EVENTS_GONE),
    Kept.RUNS: (0, EVENTS_GONE, MESSAGES_GONE, EVENTS_GONE | MESSAGES_GONE),
}
"""The values of `runs.expired` that leave something to expire."""

_is_past = and_(
    runs.c.tenant == text("tenant"),
    runs.c.agent_id == text("agent"),
    runs.c.expired == integer("expired"),
    runs.c.ended.is_not(None),
    runs.c.ended < now() - integer("keep"),
)
OVERDUE = select(runs.c.run_id).where(_is_past).order_by(runs.c.ended).limit(count("limit"))
OVERDUE_WHOLE = OVERDUE.where(
    ~exists().where(webhooks.c.run_id == runs.c.run_id, IS_TO_DELIVER),
    ~exists().where(inbox.c.run_id == runs.c.run_id, IS_TO_FOLLOW_UP),
)

LOCK_THREADS = (
    select(threads.c.thread_id)
    .select_from(threads.join(runs, and_(runs.c.tenant == threads.c.tenant, runs.c.thread_id == threads.c.thread_id)))
    .where(is_one_of(runs.c.run_id, "ids"))
    .order_by(threads.c.tenant, threads.c.thread_id)
    .with_for_update(of=threads)
)

_of_runs = is_one_of(runs.c.run_id, "ids")
LEAVE_UNFOLDED = update(runs).where(_of_runs, runs.c.folded == false()).values(folded=true())
NOTE_EXPIRED = update(runs).where(_of_runs).values(expired=runs.c.expired.bitwise_or(integer("gone")))
PORTION = (
    select(segments.c.run_id, segments.c.last_seq, func.length(segments.c.data))
    .where(is_one_of(segments.c.run_id, "ids"))
    .order_by(segments.c.run_id, segments.c.last_seq)
    .limit(count("limit"))
)
DELETE_SEGMENTS = delete(segments).where(segments.c.run_id == text("run"), segments.c.last_seq <= integer("upto"))
MOVE_OLDEST = update(heads).where(heads.c.run_id == text("run")).values(oldest_seq=integer("oldest"))

PLACES = select(runs.c.run_id, runs.c.tenant, runs.c.thread_id, runs.c.queue_pos).where(
    _of_runs, runs.c.ended.is_not(None)
)
_in_place = and_(
    messages.c.tenant == text("tenant"),
    messages.c.thread_id == text("thread"),
    messages.c.pos >= integer("first"),
    messages.c.pos < integer("behind"),
)
DELETE_MESSAGES = delete(messages).where(_in_place).returning(messages.c.hidden)
OWN_MESSAGES = select(messages.c.body).where(_in_place).order_by(messages.c.pos)
PLACE = select(runs.c.thread_id, runs.c.queue_pos).where(runs.c.tenant == text("tenant"), runs.c.run_id == text("run"))


@dataclass(frozen=True, slots=True)
class _Portion:
    """Segments to delete: for each run all up to a seq. Runs without any are among them."""

    upto: dict[str, int]
    emptied: tuple[str, ...]
    """Runs that have no segments afterwards."""


def overdue(transaction: Transaction, term: Term, what: Kept, *, limit: int) -> list[str]:
    """Carry out `RetentionStore.overdue`."""
    found: list[str] = []
    statement = OVERDUE_WHOLE if what is Kept.RUNS else OVERDUE
    for expired in _NOT_EXPIRED[what]:
        if len(found) < limit:
            rows = transaction.rows(
                statement,
                tenant=term.tenant,
                agent=term.agent_id,
                expired=expired,
                keep=term.keep.of(what),
                limit=limit - len(found),
            )
            found += [run_id for (run_id,) in rows]
    return found


# ── events ────────────────────────────────────────────────────────────────────────────────────────────────


def expire_events(transaction: Transaction, run_ids: Sequence[str]) -> list[str]:
    """Carry out `RetentionStore.expire_events`."""
    ended = _locked(transaction, run_ids)
    portion = _portion(transaction, ended)
    _delete_segments(transaction, portion)
    emptied = [run_id for run_id in portion.emptied if run_id in ended]
    transaction.do(NOTE_EXPIRED, ids=transaction.list(emptied), gone=EVENTS_GONE)
    return emptied


def _locked(transaction: Transaction, run_ids: Sequence[str]) -> dict[str, Head]:
    """Lock ended runs so that nobody folds them, and return their heads."""
    found = locked_heads(transaction, run_ids)
    ended = {run_id: head for run_id, head in found.items() if head.state in ENDED}
    transaction.do(LEAVE_UNFOLDED, ids=transaction.list(sorted(ended)))
    return ended


def _portion(transaction: Transaction, ended: dict[str, Head]) -> _Portion:
    """Choose what to delete, run by run. Every run before the last chosen one is emptied."""
    rows = transaction.rows(PORTION, ids=transaction.list(sorted(ended)), limit=ROWS)
    upto: dict[str, int] = {}
    size, is_all = 0, len(rows) < ROWS
    for run_id, last_seq, length in rows:
        if upto and size + length > BYTES:
            is_all = False
            break
        size += length
        upto[run_id] = last_seq
    if is_all:
        return _Portion(upto, tuple(sorted(ended)))
    last = max(upto)
    emptied = [run_id for run_id in sorted(ended) if run_id < last or upto.get(run_id) == ended[run_id].last_seq]
    return _Portion(upto, tuple(emptied))


def _delete_segments(transaction: Transaction, portion: _Portion) -> None:
    cuts = sorted(portion.upto.items())
    transaction.do_many(DELETE_SEGMENTS, [{"run": run_id, "upto": last_seq} for run_id, last_seq in cuts])
    transaction.do_many(MOVE_OLDEST, [{"run": run_id, "oldest": last_seq + 1} for run_id, last_seq in cuts])


# ── messages ──────────────────────────────────────────────────────────────────────────────────────────────


def expire_messages(transaction: Transaction, run_ids: Sequence[str]) -> list[str]:
    """Carry out `RetentionStore.expire_messages`."""
    _lock_threads(transaction, run_ids)
    done = _delete_messages(transaction, run_ids)
    transaction.do(NOTE_EXPIRED, ids=transaction.list(done), gone=MESSAGES_GONE)
    return done


def _lock_threads(transaction: Transaction, run_ids: Sequence[str]) -> None:
    if transaction.dialect == "postgresql":  # SQLite has one writer
        transaction.do(LOCK_THREADS, ids=transaction.list(run_ids))


def _delete_messages(transaction: Transaction, run_ids: Sequence[str]) -> list[str]:
    """Delete the messages of ended runs and count out those that were shown. Returns the runs."""
    rows = transaction.rows(PLACES, ids=transaction.list(run_ids))
    for _, tenant, thread_id, place in rows:
        first, behind = place << PLACE_BITS, (place + 1) << PLACE_BITS
        deleted = transaction.rows(DELETE_MESSAGES, tenant=tenant, thread=thread_id, first=first, behind=behind)
        shown = sum(1 for (hidden,) in deleted if not hidden)
        if shown:
            count_more(transaction, tenant, thread_id, -shown)
    return sorted(row[0] for row in rows)


def own_messages(transaction: Transaction, tenant: str, run_id: str) -> list[Message]:
    """Carry out `RetentionStore.own_messages`."""
    found = transaction.row(PLACE, tenant=tenant, run=run_id)
    if found is None:
        return []
    thread_id, place = found
    first, behind = (place << PLACE_BITS) + FIRST_OWN, (place + 1) << PLACE_BITS
    rows = transaction.rows(OWN_MESSAGES, tenant=tenant, thread=thread_id, first=first, behind=behind)
    said = [Message.FromString(body) for (body,) in rows]
    return [message for message in said if message.role != Role.ROLE_USER]


# ── runs ──────────────────────────────────────────────────────────────────────────────────────────────────


def delete_runs(transaction: Transaction, tenant: str, run_ids: Sequence[str]) -> list[str]:
    """Carry out `RetentionStore.delete_runs`."""
    _lock_threads(transaction, run_ids)
    ended = sorted(run_id for run_id, head in locked_heads(transaction, run_ids).items() if head.state in ENDED)
    _delete_messages(transaction, ended)
    deletions.delete_runs(transaction, tenant, ended)
    return ended
