"""Questions of a run as interrupts of AG-UI, and the answers that the next request brings.

Owns the duties of a paused thread: what the client sends on it has to answer every open question, all at once, by an
entry of `resume` or, for a call of its own tools, by a tool message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import structlog
from msgspec import Raw

from edge.json_body import compact
from edge.protocols.ag_ui.frames import given
from edge.protocols.ag_ui.refusals import Unresumed
from edge.protocols.ag_ui.request import ResumeEntry
from penstock.flat_json import inline
from penstock.v1.message_pb2 import ToolResultPart
from penstock.v1.run_pb2 import InputAnswer, InputKind, InputOutcome, InputRequest, Run

log = structlog.get_logger(__name__)

AUTH = "penstock:auth"
_REASONS: Mapping[int, str] = {
    InputKind.INPUT_KIND_CLIENT_TOOL: "tool_call",
    InputKind.INPUT_KIND_AUTH: AUTH,
}


def interrupt_of(question: InputRequest) -> dict[str, object]:
    """Return a question as the client is asked it."""
    metadata = question.metadata_json if question.metadata_json.startswith("{") else ""
    expires = question.expire_time.ToJsonString() if question.HasField("expire_time") else None
    return given(
        {
            "id": question.id,
            "reason": _reason(question),
            "message": question.message or None,
            "toolCallId": question.call_id or None,
            "responseSchema": inline(question.schema_json) if question.schema_json.startswith("{") else None,
            "expiresAt": expires,
            "metadata": inline(metadata) if metadata else None,
        }
    )


def answers_to(run: Run, resume: Sequence[ResumeEntry], results: Mapping[str, ToolResultPart]) -> list[InputAnswer]:
    """Return the answers to all open questions of a waiting run. Raises Unresumed when one has none.

    `results` are those that the client brings as tool messages, by call id. Entries that answer nothing are left out.
    """
    entries = {entry.interrupt_id: entry for entry in resume}
    answers, missing = [], []
    for question in run.inputs:
        entry, result = entries.pop(question.id, None), results.get(question.call_id)
        if entry is not None:
            answers.append(answer_of(entry))
        elif question.kind == InputKind.INPUT_KIND_CLIENT_TOOL and result is not None:
            answers.append(_answer_by(question, result))
        else:
            missing.append(question.id)
    if missing:
        message = f"The thread waits for answers: resume has to name {', '.join(missing)}."
        raise Unresumed(409, "THREAD_WAITING", message)
    if entries:
        log.warning("resume names questions that nobody asked", run_id=run.id, questions=sorted(entries))
    return answers


def answer_of(entry: ResumeEntry) -> InputAnswer:
    """Return an entry as the core takes it. A denial is an answer; abandoning the question is not."""
    if entry.status == "cancelled":
        return InputAnswer(input_id=entry.interrupt_id, outcome=InputOutcome.INPUT_OUTCOME_DECLINED)
    return _answered(entry.interrupt_id, compact(entry.payload))


def _answer_by(question: InputRequest, result: ToolResultPart) -> InputAnswer:
    if result.error_text:
        return _answered(question.id, msgspec.json.encode({"error_text": result.error_text}).decode())
    return _answered(question.id, msgspec.json.encode({"output": Raw(result.output_json.encode())}).decode())


def _answered(input_id: str, answer_json: str) -> InputAnswer:
    return InputAnswer(input_id=input_id, outcome=InputOutcome.INPUT_OUTCOME_ANSWERED, answer_json=answer_json)


def _reason(question: InputRequest) -> str:
    if question.kind == InputKind.INPUT_KIND_APPROVAL:
        return "tool_call" if question.call_id else "confirmation"
    return _REASONS.get(question.kind, "input_required")
