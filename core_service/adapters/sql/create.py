"""Creating a run: one transaction from the request id to the first segment (ENGINE.md, G2, G3, I3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from sqlalchemy import and_, exists, false, func, insert, literal_column, select
from sqlalchemy.dialects.postgresql import insert as upsert

from core_service.adapters.sql import messages, requests
from core_service.adapters.sql.log import INSERT_SEGMENT, RAW, agent_version
from core_service.adapters.sql.rows import micros, thread_body
from core_service.adapters.sql.runs import get_run
from core_service.adapters.sql.schema import (
    IS_HOLDER,
    IS_QUEUED_HEAD,
    IS_THREAD_DELETION,
    IS_WAITING_TURN,
    deletions,
    heads,
    runs,
    threads,
)
from core_service.adapters.sql.statements import all_given, count, flag, integer, now, text
from core_service.adapters.sql.transaction import Transaction, check_text
from core_service.domain.errors import NotServed, QueueFull, RunNotFound, ThreadBusy, ThreadWaiting
from core_service.domain.runs import QUEUED, RUNNING
from core_service.domain.threads import Turn, decide
from core_service.ports import Created, NewRun
from penstock.v1.message_pb2 import Message
from penstock.v1.run_pb2 import BusyPolicy, Run
from penstock.v1.thread_pb2 import Thread

_thread = threads.c
_in_tenant = runs.c.tenant == text("tenant")
_in_thread = and_(_in_tenant, runs.c.thread_id == text("thread"))

# Makes the thread when there is none; locks it; gives the run its place: all in one.
LOCK_THREAD = (
    upsert(threads)
    .values(
        all_given(_thread.tenant, _thread.thread_id, _thread.body, _thread.created)
        | {
            "queue_seq": literal_column("1"),
            "message_count": integer("messages"),
            "state": literal_column("''"),
            "state_version": literal_column("0"),
            "updated": integer("created"),
        }
    )
    .on_conflict_do_update(
        index_elements=[_thread.tenant, _thread.thread_id],
        set_={
            "queue_seq": _thread.queue_seq + literal_column("1"),
            "message_count": _thread.message_count + integer("messages"),
            "updated": integer("created"),
        },
    )
    .returning(_thread.queue_seq, _thread.state, _thread.state_version)
)

_first_waiting = (
    select(runs.c.run_id).where(_in_thread, IS_WAITING_TURN).order_by(runs.c.queue_pos).limit(literal_column("1"))
)
# A head that waits for its time does not keep others from starting: it is not overtaken.
_nobody_queued = ~exists().where(
    _in_tenant,
    runs.c.agent_id == text("agent"),
    IS_QUEUED_HEAD,
    runs.c.available_time <= now(),
    runs.c.cancel_reason.is_(None),
)
_is_being_deleted = exists().where(
    IS_THREAD_DELETION, deletions.c.tenant == text("tenant"), deletions.c.resource_id == text("thread")
)
SITUATION = select(
    select(runs.c.run_id).where(_in_thread, IS_HOLDER).scalar_subquery().label("holder"),
    select(runs.c.state).where(_in_thread, IS_HOLDER).scalar_subquery().label("holder_state"),
    select(func.count()).where(_in_thread, IS_WAITING_TURN).scalar_subquery().label("waiting"),
    _first_waiting.scalar_subquery().label("first_waiting"),
    and_(flag("ready"), integer("available") <= now(), _nobody_queued).label("may_start"),
    _is_being_deleted.label("is_being_deleted"),
)

# Whether the n-th head is there; counts no further than the limit.
NTH_HEAD = (
    select(runs.c.run_id)
    .where(_in_tenant, runs.c.agent_id == text("agent"), IS_QUEUED_HEAD)
    .limit(literal_column("1"))
    .offset(count("behind"))
)

_ZERO = ("reason", "leg", "failures", "lost_workers")
_LATER = {
    "parent_run_id",
    "depth",
    "delayed",
    "run_left",
    "deadline",
    "disconnect_grace",
    "watched_until",
    "state_before",
    "state_before_version",
    "expired",
}
_NOT_GIVEN = {*_ZERO, "cancel_reason", "cancel_time", "ended", "end_body", "folded", *_LATER}
INSERT_RUN = insert(runs).values(
    all_given(*(column for column in runs.c if column.name not in _NOT_GIVEN))
    | {name: literal_column("0") for name in _ZERO}
    | {"folded": false()}
)
INSERT_HEAD = insert(heads).values(
    all_given(heads.c.run_id, heads.c.tenant, heads.c.last_seq, heads.c.owner, heads.c.session)
    | {"fence": literal_column("1"), "acked": literal_column("0"), "oldest_seq": literal_column("1")}
)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a new run comes to stand."""

    queue_pos: int
    state_json: str
    state_version: int
    holds_thread: bool
    starts: bool


def create_run(transaction: Transaction, new: NewRun, *, lifetime: float) -> Created:
    """Carry out `Store.create_run`. `lifetime` is that of the request id, in seconds."""
    check_text("thread_id", new.run.thread_id)
    known = requests.claim(transaction, new.tenant, new.request, new.run.id, lifetime=lifetime)
    if known is not None:
        return _repeated(transaction, new.tenant, known)
    place = _take_place(transaction, new)
    version = agent_version(new.started) if place.starts and new.started is not None else ""
    _insert(transaction, new, place, version)
    run = _as_created(new, place, version)
    if not place.starts:
        return Created(run, repeated=False, started=False)
    earlier: list[Message] = []
    if place.queue_pos > 1:
        earlier = messages.history(transaction, new.tenant, new.run.thread_id, place.queue_pos)
    return Created(
        run,
        repeated=False,
        started=True,
        history=tuple(earlier),
        state_json=place.state_json,
        state_version=place.state_version,
    )


def _repeated(transaction: Transaction, tenant: str, run_id: str) -> Created:
    run = get_run(transaction, tenant, run_id)
    if run is None:
        raise RunNotFound("The run that this request made is not kept any more.", run_id=run_id)
    return Created(run, repeated=True, started=False)


def _take_place(transaction: Transaction, new: NewRun) -> _Place:
    """Lock the thread and find the run's place in it. Refuses when there is none."""
    run = new.run
    created = micros(run.create_time)
    thread = Thread(id=run.thread_id, create_time=run.create_time)
    queue_pos, state_json, state_version = transaction.one(
        LOCK_THREAD,
        tenant=new.tenant,
        thread_id=run.thread_id,
        body=thread_body(thread),
        created=created,
        messages=len(new.input),
    )
    holder, holder_state, waiting, first_waiting, may_start, is_being_deleted = transaction.one(
        SITUATION,
        tenant=new.tenant,
        thread=run.thread_id,
        agent=run.agent_id,
        available=new.available_time,
        ready=new.started is not None and new.session is not None,
    )
    if is_being_deleted:
        raise ThreadBusy("A thread of this id is being deleted. Repeat in a moment, or use another id.")
    turn = decide(new.policy, holder_state, waiting=waiting)
    _refuse(turn, new, active=holder or first_waiting or "")
    is_head = turn is Turn.HEAD
    starts = is_head and bool(may_start)
    if not starts:
        _refuse_full(transaction, new, waiting=0 if is_head else waiting)
    return _Place(queue_pos, state_json, state_version, is_head, starts)


def _refuse(turn: Turn, new: NewRun, *, active: str) -> None:
    match turn:
        case Turn.BUSY:
            raise ThreadBusy(
                "The thread has an active run, and the policy is to refuse. Wait for it, cancel it, or enqueue.",
                run_id=active,
            )
        case Turn.UNANSWERED:
            raise ThreadWaiting("The thread's run waits for an answer. Answer it first.", run_id=active)
        case Turn.NOT_SERVED:
            policy = BusyPolicy.Name(new.policy)
            raise NotServed(f"{policy} is not served yet. Use REJECT or ENQUEUE.", field="options.busy_policy")
        case Turn.HEAD | Turn.BEHIND:
            return
        case _:
            assert_never(turn)


def _refuse_full(transaction: Transaction, new: NewRun, *, waiting: int) -> None:
    if waiting >= new.max_queued_per_thread:
        raise QueueFull(f"{waiting} runs of this thread wait already. Try again later.", limit=str(waiting))
    limit = new.max_queued_per_agent
    if transaction.row(NTH_HEAD, tenant=new.tenant, agent=new.run.agent_id, behind=limit - 1) is not None:
        raise QueueFull(f"{limit} runs of this agent wait already. Try again later.", limit=str(limit))


def _insert(transaction: Transaction, new: NewRun, place: _Place, version: str) -> None:
    run, starts = new.run, place.starts
    created = micros(run.create_time)
    data = new.queued + new.started if starts and new.started is not None else new.queued
    last_seq = 2 if starts else 1
    transaction.do(
        INSERT_HEAD,
        run_id=run.id,
        tenant=new.tenant,
        last_seq=last_seq,
        owner=new.owner if starts else None,
        session=new.session if starts else None,
    )
    transaction.do(
        INSERT_RUN,
        run_id=run.id,
        tenant=new.tenant,
        thread_id=run.thread_id,
        agent_id=run.agent_id,
        agent_version=version,
        body=run.SerializeToString(),
        state=RUNNING if starts else QUEUED,
        holds_thread=place.holds_thread,
        queue_pos=place.queue_pos,
        priority=run.options.priority,
        available_time=new.available_time,
        start_by=new.start_by,
        attempt=1 if starts else 0,
        max_attempts=new.max_attempts,
        created=created,
        started=created if starts else None,
    )
    transaction.do(
        INSERT_SEGMENT, tenant=new.tenant, run_id=run.id, first_seq=1, last_seq=last_seq, codec=RAW, data=data
    )
    messages.insert_input(transaction, new.tenant, run.thread_id, run.id, place.queue_pos, new.input)


def _as_created(new: NewRun, place: _Place, version: str) -> Run:
    run = Run()
    run.CopyFrom(new.run)
    run.last_seq = 2 if place.starts else 1
    if place.starts:
        run.state, run.attempt, run.agent_version = RUNNING, 1, version
        run.start_time.CopyFrom(new.run.create_time)
    return run
