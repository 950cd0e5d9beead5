"""Rows to protos and back: which columns make a run, a head, a thread, and how they are put together."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import Select, select

from core_service.adapters.sql.schema import IS_HOLDER, agents, heads, inputs, runs, threads
from core_service.adapters.sql.transaction import Row
from core_service.ports import Head, Owned
from penstock.v1.agent_pb2 import Agent
from penstock.v1.event_pb2 import RunEnded
from penstock.v1.message_pb2 import Message
from penstock.v1.run_pb2 import Input, Run
from penstock.v1.thread_pb2 import Thread

MICROS = 1_000_000

RUN = (
    runs.c.body,
    runs.c.state,
    runs.c.reason,
    runs.c.attempt,
    runs.c.leg,
    runs.c.agent_version,
    runs.c.started,
    runs.c.ended,
    runs.c.cancel_time,
    runs.c.end_body,
    heads.c.last_seq,
)

HEAD = (
    heads.c.run_id,
    heads.c.tenant,
    heads.c.fence,
    heads.c.last_seq,
    heads.c.oldest_seq,
    heads.c.owner,
    heads.c.session,
    runs.c.state,
    runs.c.attempt,
    runs.c.cancel_reason,
    runs.c.cancel_time,
    runs.c.disconnect_grace,
)

OWNED = (
    *RUN,
    heads.c.fence,
    heads.c.acked,
    runs.c.failures,
    runs.c.lost_workers,
    runs.c.max_attempts,
    runs.c.cancel_reason,
    heads.c.session,
    runs.c.run_left,
    runs.c.deadline,
    runs.c.state_before,
    runs.c.state_before_version,
    runs.c.tenant,
    runs.c.thread_id,
    runs.c.queue_pos,
    runs.c.run_id,
)

THREAD = (
    threads.c.body,
    threads.c.state,
    threads.c.state_version,
    threads.c.message_count,
    threads.c.updated,
    select(runs.c.run_id)
    .where(runs.c.tenant == threads.c.tenant, runs.c.thread_id == threads.c.thread_id, IS_HOLDER)
    .scalar_subquery()
    .label("active_run_id"),
)

INPUT = (
    inputs.c.request,
    inputs.c.run_id,
    runs.c.agent_id,
    runs.c.thread_id,
    inputs.c.created,
    inputs.c.outcome,
    inputs.c.answer,
    inputs.c.answered_by,
    inputs.c.resolved,
)

AGENT = (agents.c.body, agents.c.created, agents.c.updated)

_RUN_AND_HEAD = runs.join(heads, heads.c.run_id == runs.c.run_id)


def select_runs() -> Select[tuple[object, ...]]:
    """Begin a query whose rows `to_run` takes."""
    return select(*RUN).select_from(_RUN_AND_HEAD)


def select_heads() -> Select[tuple[object, ...]]:
    """Begin a query whose rows `to_head` takes."""
    return select(*HEAD).select_from(_RUN_AND_HEAD)


def select_owned() -> Select[tuple[object, ...]]:
    """Begin a query whose rows `to_owned` takes."""
    return select(*OWNED).select_from(_RUN_AND_HEAD)


def select_inputs() -> Select[tuple[object, ...]]:
    """Begin a query whose rows `to_input` takes."""
    return select(*INPUT).select_from(inputs.join(runs, runs.c.run_id == inputs.c.run_id))


def micros(instant: Timestamp) -> int:
    """Return an instant as the tables have it."""
    return instant.seconds * MICROS + instant.nanos // 1_000


def set_instant(target: Timestamp, value: int | None) -> None:
    """Set a field of a message just built; None leaves it unset."""
    if value is not None:
        seconds, rest = divmod(value, MICROS)
        target.seconds, target.nanos = seconds, rest * 1_000


def to_run(row: Row) -> Run:
    """Make the run as it is now from the run as created and its columns."""
    body, state, reason, attempt, leg, agent_version, started, ended, cancel_time, end_body, last_seq = row
    run = Run.FromString(body)
    run.state, run.reason, run.attempt, run.leg, run.last_seq = state, reason, attempt, leg, last_seq
    run.agent_version = agent_version
    run.cancel_requested = cancel_time is not None
    set_instant(run.start_time, started)
    set_instant(run.end_time, ended)
    if end_body is not None:
        end = RunEnded.FromString(end_body)
        if end.HasField("error"):
            run.error.CopyFrom(end.error)
        run.usage.extend(end.usage)
        run.result_json = end.result_json
        run.pending_call_ids.extend(end.pending_call_ids)
        run.unread_message_ids.extend(end.unread_message_ids)
    return run


def to_head(row: Row) -> Head:
    """Make a head."""
    return Head(*row)


def to_owned(row: Row, *, history: Sequence[Message] = (), input: Sequence[Message] = ()) -> Owned:
    """Make an owned run from a row of `select_owned`."""
    width = len(RUN)
    run = to_run(row[:width])
    fence, acked, failures, lost_workers, max_attempts, cancel_reason, session, *rest = row[width:]
    run_left, deadline, state_before, version_before, *_ = rest
    return Owned(
        run=run,
        fence=fence,
        last_seq=run.last_seq,
        acked=acked,
        failures=failures,
        lost_workers=lost_workers,
        max_attempts=max_attempts,
        cancel_reason=cancel_reason,
        cancel_time=row[RUN.index(runs.c.cancel_time)],
        session=session,
        history=tuple(history),
        input=tuple(input),
        state_json=state_before or "",
        state_version=version_before or 0,
        run_left=run_left,
        deadline=deadline,
    )


def to_input(row: Row) -> Input:
    """Make a question as the inbox shows it."""
    request, run_id, agent_id, thread_id, created, outcome, answer, answered_by, resolved = row
    asked = Input(run_id=run_id, agent_id=agent_id, thread_id=thread_id, outcome=outcome)
    asked.request.MergeFromString(request)
    asked.answer_json, asked.answered_by = answer or "", answered_by or ""
    set_instant(asked.create_time, created)
    set_instant(asked.resolve_time, resolved)
    return asked


def to_thread(row: Row) -> Thread:
    """Make the thread as it is now."""
    body, state, version, message_count, updated, active_run_id = row
    thread = Thread.FromString(body)
    thread.state_json, thread.state_version = state, version
    thread.message_count, thread.active_run_id = message_count, active_run_id or ""
    set_instant(thread.update_time, updated)
    return thread


def thread_body(thread: Thread) -> bytes:
    """Return what never changes about a thread."""
    body = Thread(
        id=thread.id,
        metadata=thread.metadata,
        create_time=thread.create_time,
        forked_from_thread_id=thread.forked_from_thread_id,
    )
    return body.SerializeToString(deterministic=True)


def to_agent(row: Row) -> Agent:
    """Make an agent; whether it is online is not known here."""
    body, created, updated = row
    agent = Agent.FromString(body)
    set_instant(agent.create_time, created)
    set_instant(agent.update_time, updated)
    return agent


def agent_body(agent: Agent) -> bytes:
    """Return what a worker declared, equal for equal declarations."""
    body = Agent()
    body.CopyFrom(agent)
    for field in ("online", "create_time", "update_time"):
        body.ClearField(field)
    return body.SerializeToString(deterministic=True)
