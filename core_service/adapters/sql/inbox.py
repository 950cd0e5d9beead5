"""Steering messages: into the inbox of a run under way, and out of it again when nobody read them (ENGINE.md, G4)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from sqlalchemy import func, insert, literal_column, select, update
from sqlalchemy.sql.elements import ColumnElement

from core_service.adapters.sql import requests
from core_service.adapters.sql.log import head, locked_head
from core_service.adapters.sql.rows import select_runs, to_run
from core_service.adapters.sql.schema import IS_TO_FOLLOW_UP, inbox, runs
from core_service.adapters.sql.statements import all_given, count, is_one_of, now, text
from core_service.adapters.sql.transaction import Transaction
from core_service.domain.errors import QueueFull, RunHasEnded, RunNotFound
from core_service.domain.runs import ENDED
from core_service.ports import FollowUp, Head, InboxState, RequestKey
from penstock.v1.message_pb2 import Message
from penstock.v1.run_pb2 import UnreadPolicy

_UNREAD: ColumnElement[int] = literal_column(str(int(InboxState.UNREAD)))
_in_inbox = inbox.c.run_id == text("run")

NEWEST = select(func.coalesce(func.max(inbox.c.pos), literal_column("0"))).where(_in_inbox)
UNREAD = select(func.count()).where(_in_inbox, inbox.c.state == _UNREAD)
MESSAGES = select(inbox.c.message).where(_in_inbox, inbox.c.tenant == text("tenant")).order_by(inbox.c.pos)
PUT = insert(inbox).values(
    all_given(inbox.c.run_id, inbox.c.pos, inbox.c.tenant, inbox.c.message, inbox.c.unread_policy)
    | {"state": _UNREAD, "created": now()}
)

FOLLOW_UP = (
    update(inbox)
    .where(_in_inbox, inbox.c.tenant == text("tenant"), IS_TO_FOLLOW_UP)
    .values(state=literal_column(str(int(InboxState.FOLLOWED_UP))))
)
TO_FOLLOW = select(inbox.c.run_id).where(IS_TO_FOLLOW_UP).distinct().order_by(inbox.c.run_id).limit(count("limit"))
UNREAD_MESSAGES = (
    select(inbox.c.run_id, inbox.c.tenant, inbox.c.message)
    .where(is_one_of(inbox.c.run_id, "ids"), IS_TO_FOLLOW_UP)
    .order_by(inbox.c.run_id, inbox.c.pos)
)
ENDED_RUNS = select_runs().where(is_one_of(runs.c.run_id, "ids"))


def put(
    transaction: Transaction,
    tenant: str,
    run_id: str,
    new: Sequence[Message],
    *,
    unread_policy: UnreadPolicy.ValueType,
) -> None:
    """Put messages behind those that are there. The caller has locked the run's head, and knows that it is active."""
    (newest,) = transaction.one(NEWEST, run=run_id)
    transaction.do_many(
        PUT,
        [
            {
                "run_id": run_id,
                "pos": pos,
                "tenant": tenant,
                "message": message.SerializeToString(),
                "unread_policy": unread_policy,
            }
            for pos, message in enumerate(new, newest + 1)
        ],
    )


def steer(
    transaction: Transaction,
    tenant: str,
    run_id: str,
    message: Message,
    *,
    unread_policy: UnreadPolicy.ValueType,
    max_unread: int,
    request: RequestKey | None,
    lifetime: float,
) -> tuple[Head, Message]:
    """Carry out `Store.steer`. `lifetime` is that of the request id, in seconds."""
    known = requests.claim(transaction, tenant, request, message.id, lifetime=lifetime)
    if known is not None:
        return _repeated(transaction, tenant, run_id, known)
    target = locked_head(transaction, run_id)
    if target is None or target.tenant != tenant:
        raise RunNotFound("There is no such run.", run_id=run_id)
    if target.state in ENDED:
        raise RunHasEnded("The run has ended: it reads no message any more. Start another.", run_id=run_id)
    (unread,) = transaction.one(UNREAD, run=run_id)
    if unread >= max_unread:
        raise QueueFull(f"{unread} messages wait already for this run to read them.", limit=str(max_unread))
    put(transaction, tenant, run_id, [message], unread_policy=unread_policy)
    return target, message


def _repeated(transaction: Transaction, tenant: str, run_id: str, message_id: str) -> tuple[Head, Message]:
    target = head(transaction, run_id)
    stored = (Message.FromString(body) for (body,) in transaction.rows(MESSAGES, run=run_id, tenant=tenant))
    message = next((message for message in stored if message.id == message_id), None)
    if target is None or message is None:
        raise RunNotFound("The run of this message is not kept any more.", run_id=run_id)
    return target, message


def follow_up(transaction: Transaction, tenant: str, run_id: str) -> None:
    """Note that the run that is being made takes the unread messages of this one over."""
    transaction.do(FOLLOW_UP, run=run_id, tenant=tenant)


def follow_ups(transaction: Transaction, *, limit: int) -> list[FollowUp]:
    """Carry out `Store.follow_ups`; `limit` counts runs."""
    ids = [run_id for (run_id,) in transaction.rows(TO_FOLLOW, limit=limit)]
    if not ids:
        return []
    listed = transaction.list(ids)
    ended = {run.id: run for run in map(to_run, transaction.rows(ENDED_RUNS, ids=listed))}
    unread = groupby(transaction.rows(UNREAD_MESSAGES, ids=listed), key=lambda row: (row[0], row[1]))
    return [
        FollowUp(tenant, ended[run_id], tuple(Message.FromString(body) for _, _, body in rows))
        for (run_id, tenant), rows in unread
        if run_id in ended
    ]
