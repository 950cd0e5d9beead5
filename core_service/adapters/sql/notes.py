"""What an accepted append notes beside its log: durable steps, questions, what became of steering messages.

Rows of a run are written under the lock on its head, which the append has. Each kind is one statement for all runs of
a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sqlalchemy import and_, case, func, insert, literal_column, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from core_service.adapters.sql.rows import micros
from core_service.adapters.sql.schema import inbox, inputs, steps
from core_service.adapters.sql.statements import Value, all_given, given, integer, now, text
from core_service.adapters.sql.transaction import Row, Transaction, check_text
from core_service.domain import segments as records
from core_service.ports import Append, InboxRow, InboxState, Noted, QuestionRow, RunRecords, StepRow
from penstock.v1.event_pb2 import InputResolved
from penstock.v1.message_pb2 import Message
from penstock.v1.run_pb2 import InputOutcome, InputRequest

STARTED = 0
COMPLETED = 1

_STEP = upsert(steps).values(all_given(*steps.c))
PUT_STEP = _STEP.on_conflict_do_update(
    index_elements=[steps.c.run_id, steps.c.step_key],
    set_={column.name: _STEP.excluded[column.name] for column in steps.c if not column.primary_key},
)

_ASKED = (inputs.c.input_id, inputs.c.tenant, inputs.c.run_id, inputs.c.ask_key, inputs.c.request, inputs.c.expires)
INSERT_QUESTION = insert(inputs).values(
    all_given(*_ASKED, inputs.c.asked_seq) | {"outcome": literal_column("0"), "created": now()}
)
# The owner may settle a question by itself: then the log says first how.
_outcome = func.coalesce(
    given(inputs.c.outcome),
    case(
        (
            inputs.c.outcome == literal_column("0"),
            literal_column(str(int(InputOutcome.INPUT_OUTCOME_WITHDRAWN))),
        ),
        else_=inputs.c.outcome,
    ),
)
RESOLVE = (
    update(inputs)
    .where(inputs.c.input_id == text("input"), inputs.c.run_id == text("run"))
    .values(
        outcome=_outcome,
        answer=func.coalesce(given(inputs.c.answer), inputs.c.answer),
        answered_by=func.coalesce(given(inputs.c.answered_by), inputs.c.answered_by),
        resolved=func.coalesce(inputs.c.resolved, now()),
        resolved_seq=given(inputs.c.resolved_seq),
    )
)

_is_message = and_(inbox.c.run_id == text("run"), inbox.c.pos == integer("at"))
RECEIVE = update(inbox).where(_is_message).values(seq=given(inbox.c.seq))
READ = (
    update(inbox)
    .where(_is_message)
    .values(state=literal_column(str(int(InboxState.READ))), read_no=given(inbox.c.read_no))
)


STEPS = (
    select(
        steps.c.step_key,
        steps.c.parent_key,
        steps.c.started_seq,
        steps.c.ended_seq,
        steps.c.state,
        steps.c.args_hash,
        steps.c.result,
    )
    .where(steps.c.run_id == text("run"))
    .order_by(steps.c.started_seq, steps.c.step_key)
)
QUESTIONS = (
    select(
        inputs.c.ask_key,
        inputs.c.request,
        inputs.c.asked_seq,
        inputs.c.outcome,
        inputs.c.answer,
        inputs.c.answered_by,
        inputs.c.origin,
        inputs.c.resolved_seq,
    )
    .where(inputs.c.run_id == text("run"))
    .order_by(inputs.c.asked_seq, inputs.c.input_id)
)
INBOX = (
    select(inbox.c.pos, inbox.c.message, inbox.c.state, inbox.c.read_no, inbox.c.seq, inbox.c.unread_policy)
    .where(inbox.c.run_id == text("run"))
    .order_by(inbox.c.pos)
)


# ── writing ───────────────────────────────────────────────────────────────────────────────────────────────


def write(transaction: Transaction, noted: Sequence[tuple[Append, Noted]]) -> None:
    """Write what accepted appends note. A question may be asked and settled by one append."""
    transaction.do_many(PUT_STEP, [_step(one, step) for one, note in noted for step in note.steps])
    transaction.do_many(INSERT_QUESTION, [_question(one, row) for one, note in noted for row in note.asked])
    transaction.do_many(RESOLVE, [row for one, note in noted for row in _resolved(one, note)])
    transaction.do_many(
        RECEIVE,
        [{"run": one.run_id, "at": pos, "seq": seq} for one, note in noted for pos, seq in note.received],
    )
    transaction.do_many(
        READ,
        [{"run": one.run_id, "at": pos, "read_no": number} for one, note in noted for pos, number in note.read],
    )


def _step(one: Append, step: StepRow) -> dict[str, Value]:
    for field, value in (("step", step.key), ("parent step", step.parent_key), ("result_json", step.result_json)):
        check_text(field, value)
    return {
        "run_id": one.run_id,
        "step_key": step.key,
        "tenant": one.tenant,
        "parent_key": step.parent_key,
        "started_seq": step.started_seq,
        "ended_seq": step.ended_seq,
        "state": COMPLETED if step.is_completed else STARTED,
        "args_hash": step.args_hash,
        "result": step.result_json,
    }


def _question(one: Append, row: QuestionRow) -> dict[str, Value]:
    check_text("key", row.key)
    request = row.request
    return {
        "input_id": request.id,
        "tenant": one.tenant,
        "run_id": one.run_id,
        "ask_key": row.key,
        "request": request.SerializeToString(),
        "expires": micros(request.expire_time) if request.HasField("expire_time") else None,
        "asked_seq": row.asked_seq,
    }


def _resolved(one: Append, note: Noted) -> Iterator[dict[str, Value]]:
    """Rows say what the log says, so the log is read: it is one record per answer, and answers are rare."""
    told = _told(one.data) if note.resolved else {}
    for input_id, seq in note.resolved:
        event = told.get(input_id)
        yield {
            "run": one.run_id,
            "input": input_id,
            "resolved_seq": seq,
            "outcome": event.outcome if event else None,
            "answer": event.answer_json if event else None,
            "answered_by": event.answered_by if event else None,
        }


def _told(data: bytes) -> Mapping[str, InputResolved]:
    resolved = (event.input_resolved for event in records.events(data) if event.HasField("input_resolved"))
    return {event.input_id: event for event in resolved}


# ── reading ───────────────────────────────────────────────────────────────────────────────────────────────


def run_records(transaction: Transaction, run_id: str) -> RunRecords:
    """Carry out `Store.run_records`."""
    return RunRecords(
        steps=tuple(_to_step(row) for row in transaction.rows(STEPS, run=run_id)),
        questions=tuple(_to_question(row) for row in transaction.rows(QUESTIONS, run=run_id)),
        inbox=tuple(_to_message(row) for row in transaction.rows(INBOX, run=run_id)),
    )


def _to_step(row: Row) -> StepRow:
    key, parent_key, started_seq, ended_seq, state, args_hash, result = row
    return StepRow(key, parent_key, started_seq, ended_seq, state == COMPLETED, bytes(args_hash), result or "")


def _to_question(row: Row) -> QuestionRow:
    key, request, asked_seq, outcome, answer, answered_by, origin, resolved_seq = row
    return QuestionRow(
        key=key,
        request=InputRequest.FromString(request),
        asked_seq=asked_seq,
        outcome=outcome,
        answer_json=answer or "",
        answered_by=answered_by or "",
        origin_json=origin or "",
        resolved_seq=resolved_seq,
    )


def _to_message(row: Row) -> InboxRow:
    pos, message, state, read_no, seq, unread_policy = row
    return InboxRow(pos, Message.FromString(message), InboxState(state), read_no, seq, unread_policy)
