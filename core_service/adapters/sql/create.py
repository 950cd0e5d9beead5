"""Creating a run: one transaction from the request id to the first segment (ENGINE.md, G2, G3, I3)."""

from __future__ import annotations

from dataclasses import replace

from core_service.adapters.sql import families, inbox, log, messages, requests, schedules
from core_service.adapters.sql.arrivals import Place, insert_run
from core_service.adapters.sql.places import Locked, Situation, ask_lock, ask_situation, decided, refuse_full
from core_service.adapters.sql.runs import get_run
from core_service.adapters.sql.superseding import supersede
from core_service.adapters.sql.transaction import Transaction
from core_service.domain.errors import RunNotFound
from core_service.domain.runs import RUNNING
from core_service.domain.threads import Turn
from core_service.ports import Created, NewRun
from penstock.v1.message_pb2 import Message
from penstock.v1.run_pb2 import Run


class Repeated(Exception):
    """The request was made before; nothing of it may be done again."""

    def __init__(self, run_id: str) -> None:
        super().__init__(run_id)
        self.run_id = run_id


def create_run(transaction: Transaction, new: NewRun, *, lifetime: float) -> Created:
    """Carry out `Store.create_run`. `lifetime` is that of the request id, in seconds. Raises Repeated.

    The thread is locked before it is known whether the request was made before, so that all is waited for at once:
    then the transaction has to be rolled back.
    """
    claimed = requests.ask_claim(transaction, new.tenant, new.request, new.run.id, lifetime=lifetime)
    lock, look = ask_lock(transaction, new), ask_situation(transaction, new)
    if (known := claimed()) is not None:
        raise Repeated(known)
    schedules.claim(transaction, new.due, new.run.id)
    described = families.described(transaction, new)
    turn, situation = decided(transaction, new, look())
    locked = lock()
    if new.follow_up_of:
        inbox.follow_up(transaction, new.tenant, new.follow_up_of)
    if turn is Turn.STEER and situation.holder is not None:
        return _steered(transaction, new, situation.holder)
    superseded = supersede(transaction, new, turn)
    place = _place(new, locked, turn, situation)
    if not place.starts:
        refuse_full(transaction, new, turn, situation)
    version = log.agent_version(new.started) if place.starts and new.started is not None else ""
    insert_run(transaction, new, described, place, version)
    created = Created(_as_created(described, place, version), repeated=False, started=False, superseded=superseded)
    return _started(transaction, new, created, place) if place.starts else created


def repeated(transaction: Transaction, tenant: str, run_id: str) -> Created:
    """Return what a repeated request made, as it is now."""
    run = get_run(transaction, tenant, run_id)
    if run is None:
        raise RunNotFound("The run that this request made is not kept any more.", run_id=run_id)
    return Created(run, repeated=True, started=False)


def _steered(transaction: Transaction, new: NewRun, holder: str) -> Created:
    """Hand the messages to the holder, whose head is locked. They are counted when it writes them into its log."""
    messages.count_more(transaction, new.tenant, new.run.thread_id, -len(new.input))
    requests.point(transaction, new.tenant, new.request, holder)
    schedules.point(transaction, new.due, holder)
    received = [_addressed(message, holder) for message in new.input]
    inbox.put(transaction, new.tenant, holder, received, unread_policy=new.unread_policy)
    run, head = get_run(transaction, new.tenant, holder), log.head(transaction, holder)
    if run is None or head is None:
        raise RunNotFound("The thread's run is not there any more.", run_id=holder)
    return Created(run, repeated=False, started=False, steered=head)


def _addressed(message: Message, run_id: str) -> Message:
    """Return a message that belongs to another run than the one it was made for."""
    addressed = Message()
    addressed.CopyFrom(message)
    addressed.run_id = run_id
    return addressed


def _place(new: NewRun, locked: Locked, turn: Turn, situation: Situation) -> Place:
    is_head = turn is Turn.HEAD
    starts = is_head and bool(situation.may_start)
    return Place(
        queue_pos=locked.queue_pos,
        state_json=locked.state_json,
        state_version=locked.state_version,
        holds_thread=is_head,
        starts=starts,
        deadline=situation.now + new.run_left if starts and new.run_left is not None else None,
    )


def _as_created(described: Run, place: Place, version: str) -> Run:
    run = Run()
    run.CopyFrom(described)
    run.last_seq = 2 if place.starts else 1
    if place.starts:
        run.state, run.attempt, run.agent_version = RUNNING, 1, version
        run.start_time.CopyFrom(described.create_time)
    return run


def _started(transaction: Transaction, new: NewRun, created: Created, place: Place) -> Created:
    earlier: list[Message] = []
    if place.queue_pos > 1:
        earlier = messages.history(transaction, new.tenant, new.run.thread_id, place.queue_pos)
    return replace(
        created,
        started=True,
        deadline=place.deadline,
        history=tuple(earlier),
        state_json=place.state_json,
        state_version=place.state_version,
    )
