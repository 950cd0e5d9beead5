"""A new run's place in its thread: the lock, what else is there, and whether there is room (ENGINE.md, G2, G4, G6)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from sqlalchemy import and_, exists, func, literal_column, select
from sqlalchemy.dialects.postgresql import insert as upsert

from core_service.adapters.sql import log
from core_service.adapters.sql.rows import micros, thread_body
from core_service.adapters.sql.schema import (
    IS_DELAYED,
    IS_HOLDER,
    IS_NEXT,
    IS_OPEN,
    IS_QUEUED_HEAD,
    IS_THREAD_DELETION,
    deletions,
    inputs,
    runs,
    threads,
)
from core_service.adapters.sql.statements import all_given, count, flag, integer, now, text
from core_service.adapters.sql.transaction import Transaction, check_text
from core_service.domain.errors import NotServed, QueueFull, ThreadBusy, ThreadWaiting
from core_service.domain.threads import Turn, decide
from core_service.ports import NewRun
from penstock.v1.run_pb2 import RunState
from penstock.v1.thread_pb2 import Thread

NAMED_QUESTIONS = 20
"""Open questions that a refusal names."""

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
            "state": func.coalesce(text("new_state"), literal_column("''")),
            "state_version": integer("steps"),
            "updated": integer("created"),
        }
    )
    .on_conflict_do_update(
        index_elements=[_thread.tenant, _thread.thread_id],
        set_={
            "queue_seq": _thread.queue_seq + literal_column("1"),
            "message_count": _thread.message_count + integer("messages"),
            "state": func.coalesce(text("new_state"), _thread.state),
            "state_version": _thread.state_version + integer("steps"),
            "updated": integer("created"),
        },
    )
    .returning(_thread.queue_seq, _thread.state, _thread.state_version)
)

_first_waiting = select(runs.c.run_id).where(_in_thread, IS_NEXT).order_by(runs.c.queue_pos).limit(literal_column("1"))
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
    select(runs.c.cancel_time).where(_in_thread, IS_HOLDER).scalar_subquery().label("holder_cancel"),
    select(func.count()).where(_in_thread, IS_NEXT).scalar_subquery().label("waiting"),
    _first_waiting.scalar_subquery().label("first_waiting"),
    select(func.count()).where(_in_thread, IS_DELAYED).scalar_subquery().label("delayed"),
    and_(flag("ready"), integer("available") <= now(), _nobody_queued).label("may_start"),
    now().label("now"),
    _is_being_deleted.label("is_being_deleted"),
)

# Whether the n-th head is there; counts no further than the limit.
NTH_HEAD = (
    select(runs.c.run_id)
    .where(_in_tenant, runs.c.agent_id == text("agent"), IS_QUEUED_HEAD)
    .limit(literal_column("1"))
    .offset(count("behind"))
)
OPEN_QUESTIONS = (
    select(inputs.c.input_id)
    .where(inputs.c.run_id == text("run"), IS_OPEN)
    .order_by(inputs.c.asked_seq)
    .limit(count("limit"))
)


@dataclass(frozen=True, slots=True)
class Locked:
    """A thread under its lock, with a place for the new run."""

    queue_pos: int
    state_json: str
    state_version: int


@dataclass(frozen=True, slots=True)
class Situation:
    """What a new run finds on its thread."""

    holder: str | None
    holder_state: RunState.ValueType | None
    holder_cancel: int | None
    waiting: int
    """Runs that wait for their turn and will get it."""
    first_waiting: str | None
    delayed: int
    may_start: bool
    """A worker has a credit for it, its time has come, and nobody of its agent waits longer."""
    now: int
    is_being_deleted: bool
    """An earlier thread of this id still has remains."""

    @property
    def active(self) -> str:
        """The run that keeps the thread busy; empty when it is idle."""
        return self.holder or self.first_waiting or ""


def ask_lock(transaction: Transaction, new: NewRun) -> Callable[[], Locked]:
    """Lock the thread, made if need be, with its new state; its message count has the run's input from now on.

    As of all that is asked here, the answer is fetched by a call, so that one wait is enough (`Transaction.ask`).
    """
    run = new.run
    for field, value in (("thread_id", run.thread_id), ("state_json", new.state_json)):
        check_text(field, value)
    rows = transaction.ask(
        LOCK_THREAD,
        tenant=new.tenant,
        thread_id=run.thread_id,
        body=thread_body(Thread(id=run.thread_id, create_time=run.create_time)),
        created=micros(run.create_time),
        messages=0 if new.delayed else len(new.input),
        new_state=new.state_json or None,
        steps=1 if new.state_json else 0,
    )
    return lambda: Locked(*rows()[0])


def ask_situation(transaction: Transaction, new: NewRun) -> Callable[[], Situation]:
    """Look at what is on the thread."""
    rows = transaction.ask(
        SITUATION,
        tenant=new.tenant,
        thread=new.run.thread_id,
        agent=new.run.agent_id,
        available=new.available_time,
        ready=new.started is not None and new.session is not None,
    )
    return lambda: Situation(*rows()[0])


def decided(transaction: Transaction, new: NewRun, found: Situation) -> tuple[Turn, Situation]:
    """Decide what becomes of the run on its locked thread, or refuse it. Returns what counted, too."""
    turn, situation = _turn(new, found), found
    if turn is Turn.STEER and situation.holder is not None:
        # Only its head's lock keeps the holder from ending now, before it gets the message.
        transaction.do(log.LOCK_HEAD, run=situation.holder)
        situation = ask_situation(transaction, new)()
        turn = _turn(new, situation)
    _refuse(transaction, turn, new, situation)
    if new.state_json and situation.active:
        raise ThreadBusy(
            "The thread has an active run, which owns its state. Wait for its end.", run_id=situation.active
        )
    return turn, situation


def _turn(new: NewRun, found: Situation) -> Turn:
    if found.is_being_deleted:
        raise ThreadBusy("A thread of this id is being deleted. Repeat in a moment, or use another id.")
    cancelled = found.holder_cancel is not None
    return decide(new.policy, found.holder_state, waiting=found.waiting, cancelled=cancelled, delayed=new.delayed)


def _refuse(transaction: Transaction, turn: Turn, new: NewRun, situation: Situation) -> None:
    match turn:
        case Turn.BUSY:
            raise ThreadBusy(
                "The thread has an active run, and the policy is to refuse. Wait for it, cancel it, or enqueue.",
                run_id=situation.active,
            )
        case Turn.UNANSWERED:
            rows = transaction.rows(OPEN_QUESTIONS, run=situation.active, limit=NAMED_QUESTIONS)
            raise ThreadWaiting(
                "The thread's run waits for an answer. Answer it first.",
                run_id=situation.active,
                input_ids=",".join(input_id for (input_id,) in rows),
            )
        case Turn.NOT_SERVED:
            raise NotServed(f"This version does not know busy_policy {new.policy}.", field="options.busy_policy")
        case Turn.HEAD | Turn.BEHIND | Turn.LATER | Turn.INTERRUPT | Turn.ROLLBACK | Turn.STEER:
            return
        case _:
            assert_never(turn)


def refuse_full(transaction: Transaction, new: NewRun, turn: Turn, situation: Situation) -> None:
    """Refuse a run that would have to wait where too many do. The head of a thread waits behind none of them."""
    behind = 0 if turn is Turn.HEAD else situation.delayed
    if turn in (Turn.BEHIND, Turn.LATER):
        behind += situation.waiting
    if behind >= new.max_queued_per_thread:
        raise QueueFull(f"{behind} runs of this thread wait already. Try again later.", limit=str(behind))
    limit = new.max_queued_per_agent
    if transaction.row(NTH_HEAD, tenant=new.tenant, agent=new.run.agent_id, behind=limit - 1) is not None:
        raise QueueFull(f"{limit} runs of this agent wait already. Try again later.", limit=str(limit))
