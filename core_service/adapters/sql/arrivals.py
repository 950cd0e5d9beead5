"""The rows of a new run: its head, itself, its first segment, its messages and labels."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import false, insert, literal_column

from core_service.adapters.sql import labels, messages
from core_service.adapters.sql.log import INSERT_SEGMENT, RAW
from core_service.adapters.sql.rows import micros
from core_service.adapters.sql.schema import heads, runs
from core_service.adapters.sql.statements import all_given, integer, now
from core_service.adapters.sql.transaction import Transaction
from core_service.domain.runs import QUEUED, RUNNING
from core_service.ports import NewRun
from penstock.v1.run_pb2 import Run

_ZERO = ("reason", "leg", "failures", "lost_workers", "expired")
_NEVER_GIVEN = {*_ZERO, "cancel_reason", "cancel_time", "ended", "end_body", "folded", "watched_until"}
INSERT_RUN = insert(runs).values(
    all_given(*(column for column in runs.c if column.name not in _NEVER_GIVEN))
    | {name: literal_column("0") for name in _ZERO}
    | {"folded": false(), "watched_until": now() + integer("disconnect_grace")}
)
INSERT_HEAD = insert(heads).values(
    all_given(heads.c.run_id, heads.c.tenant, heads.c.last_seq, heads.c.owner, heads.c.session)
    | {"fence": literal_column("1"), "acked": literal_column("0"), "oldest_seq": literal_column("1")}
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a new run comes to stand."""

    queue_pos: int
    state_json: str
    """Of the thread."""
    state_version: int
    holds_thread: bool
    starts: bool
    deadline: int | None
    """Of a run that starts and has a limit."""


def insert_run(transaction: Transaction, new: NewRun, run: Run, place: Place, version: str) -> None:
    """Store a new run. `run` is `new.run` with what only the store knows; `version` that of the code it starts on."""
    starts = place.starts
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
    _insert_row(transaction, new, run, place, version)
    transaction.do(
        INSERT_SEGMENT, tenant=new.tenant, run_id=run.id, first_seq=1, last_seq=last_seq, codec=RAW, data=data
    )
    messages.insert_input(
        transaction, new.tenant, run.thread_id, run.id, place.queue_pos, new.input, hidden=new.delayed
    )
    labels.insert_labels(transaction, new.tenant, run)


def _insert_row(transaction: Transaction, new: NewRun, run: Run, place: Place, version: str) -> None:
    starts = place.starts
    created = micros(run.create_time)
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
        parent_run_id=run.parent_run_id or None,
        depth=run.depth,
        delayed=new.delayed,
        run_left=None if starts else new.run_left,
        deadline=place.deadline,
        disconnect_grace=new.disconnect_grace,
        state_before=place.state_json if starts else None,
        state_before_version=place.state_version if starts else None,
    )
