"""What a worker is given with a run: the conversation, and what earlier attempts left (ENGINE.md E6, E9, E10).

Records of a step are those of completed steps, and of steps with something inside that a retry keeps. A long list of
records goes in several messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from core_service.domain.records import InboxState, QuestionRow, RunRecords, StepRow
from penstock.v1.message_pb2 import Message
from penstock.v1.run_pb2 import Run
from penstock.v1.worker_service_pb2 import AnswerRecord, Assignment, InboxRecord, Record, StepRecord

MAX_RECORD_BYTES = 512 << 10
"""Of the records in one message: beside the conversation it has to stay under 1 MiB."""


def assignments(
    run: Run, *, history: Sequence[Message], new: Sequence[Message], state_json: str, records: RunRecords | None
) -> Iterator[Assignment]:
    """Yield the messages that hand a run over."""
    pages = list(_pages(records_of(records))) if records is not None else [[]]
    for index, page in enumerate(pages):
        more = index + 1 < len(pages)
        if index:
            yield Assignment(run=Run(id=run.id, agent_id=run.agent_id, attempt=run.attempt), records=page, more=more)
        else:
            yield Assignment(
                run=run,
                messages=[*history, *new],
                new_messages=len(new),
                state_json=state_json,
                records=page,
                more=more,
                inbox=_unread(records) if records is not None else (),
            )


def records_of(records: RunRecords) -> list[Record]:
    """Return what earlier attempts left, in the order of the log; reads of the inbox come last."""
    anchored = _anchored(records)
    found = [(step.started_seq, _step(step)) for step in records.steps if step.key in anchored]
    found += [(row.asked_seq, _question(row)) for row in records.questions]
    found.sort(key=lambda item: item[0])
    return [record for _, record in found] + list(_reads(records))


def answer_record(row: QuestionRow) -> AnswerRecord:
    """Return a question, open or settled, as a worker hears of it."""
    return AnswerRecord(input_id=row.request.id, outcome=row.outcome, answer_json=row.answer_json)


def _anchored(records: RunRecords) -> set[str]:
    """Return the keys of the steps that completed, and of all steps around these and around questions (E5)."""
    parents = {step.key: step.parent_key for step in records.steps}
    found: set[str] = set()
    leaves = [step.key for step in records.steps if step.is_completed]
    leaves += [_scope(row.key, parents) for row in records.questions]
    for key in leaves:
        while key and key not in found:
            found.add(key)
            key = parents.get(key, "")
    return found


def _scope(ask_key: str, steps: Iterable[str]) -> str:
    """Return the step in which a question was asked: its key begins with the step's and a slash."""
    return max((key for key in steps if ask_key.startswith(f"{key}/")), key=len, default="")


def _step(row: StepRow) -> Record:
    step = StepRecord(
        parent_key=row.parent_key,
        completed=row.is_completed,
        result_json=row.result_json,
        args_hash=row.args_hash,
    )
    return Record(key=row.key, step=step)


def _question(row: QuestionRow) -> Record:
    return Record(key=row.key, answer=answer_record(row))


def _reads(records: RunRecords) -> Iterator[Record]:
    read = sorted(
        ((row.read_no, row.pos, row.message) for row in records.inbox if row.read_no is not None),
        key=lambda row: row[:2],
    )
    for number, rows in groupby(read, key=lambda row: row[0]):
        yield Record(inbox=InboxRecord(read=number, messages=[message for _, _, message in rows]))


def _unread(records: RunRecords) -> list[Message]:
    return [row.message for row in records.inbox if row.state is InboxState.UNREAD]


def _pages(records: Sequence[Record]) -> Iterator[list[Record]]:
    page: list[Record] = []
    size = 0
    for record in records:
        length = record.ByteSize()
        if page and size + length > MAX_RECORD_BYTES:
            yield page
            page, size = [], 0
        page.append(record)
        size += length
    yield page
