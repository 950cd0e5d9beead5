"""What moves a run from state to state: questions and their answers, pauses, retries, ends (rules 2, 3 and 13–18)."""

from __future__ import annotations

from collections.abc import Callable

from core_service.domain import runs
from core_service.domain.errors import InvalidOutput
from core_service.domain.grammar import checks
from core_service.domain.grammar.calls import Call
from core_service.domain.grammar.fold import Fold
from core_service.domain.grammar.limits import EVENT_OVERHEAD, MAX_EVENT_BYTES, MAX_RUN_RESULT_BYTES
from core_service.domain.grammar.notes import Notes
from core_service.domain.grammar.pen import Pen, set_time
from core_service.domain.grammar.questions import DEFAULT_SCHEMAS
from core_service.domain.grammar.scribe import Scribe
from core_service.domain.records import QuestionRow
from penstock.v1.event_pb2 import (
    Event,
    InputRequested,
    InputResolved,
    MessageReceived,
    RunEnded,
    RunRetrying,
    RunWaiting,
    StatePatched,
)
from penstock.v1.message_pb2 import Message
from penstock.v1.run_pb2 import EndReason, InputKind, InputOutcome, InputRequest, RunError
from penstock.v1.worker_service_pb2 import AskOutput, EndOutput, InboxReadOutput

REASONS = frozenset(EndReason.values())
COMPLETED = EndReason.END_REASON_COMPLETED
CLIENT_TOOLS = EndReason.END_REASON_CLIENT_TOOLS
INPUT_EXPIRED = EndReason.END_REASON_INPUT_EXPIRED


class Lifecycle:
    """Writes changes of state."""

    def __init__(self, fold: Fold, pen: Pen, scribe: Scribe, notes: Notes, new_id: Callable[[str], str]) -> None:
        self._fold = fold
        self._pen = pen
        self._scribe = scribe
        self.notes = notes
        self._new_id = new_id

    # ── questions ────────────────────────────────────────────────────────────────────────────────────────────────────

    def ask(self, lane: str, given: AskOutput) -> None:
        """Ask a question. One with a known key was asked by an earlier attempt: nothing is written (F1).

        What is open in the lane ends first, so that each part lies wholly before or after the question (E4, E5).
        """
        questions = self._fold.questions
        key = checks.required_name(given.key, "the key of a question")
        if key in questions.ids:
            return
        call = self._asked_call(given.call_id) if given.call_id else None
        request = self._request(given, call)
        self._check_room(request, call)

        self._scribe.go_on()
        self._end_open_parts(lane, call)
        if call is not None:
            request.arguments_json = call.arguments_json
        request.id = questions.ids[key] = self._new_id("inp")
        self._scribe.say(Event(input_requested=InputRequested(input=request)))
        self.notes.asked.append(
            QuestionRow(key, request, self._fold.seq, outcome=InputOutcome.INPUT_OUTCOME_UNSPECIFIED)
        )

    def settle(self, input_id: str, outcome: InputOutcome.ValueType, answer_json: str, answered_by: str) -> None:
        """Write how a question was settled. Raises ValueError when it is not open."""
        request = self._fold.questions.get(input_id)
        if request is None:
            raise ValueError(f"question {input_id!r} is not open")
        resolved = InputResolved(
            input_id=input_id,
            outcome=outcome,
            answer_json=answer_json,
            answered_by=answered_by,
            call_id=request.call_id,
        )
        self._pen.write(Event(input_resolved=resolved))
        self.notes.resolved.append((input_id, self._fold.seq))

    # ── steering ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def receive(self, message: Message) -> None:
        """A message came from outside."""
        self._pen.write(Event(message_received=MessageReceived(message=message)))
        self.notes.received.append((message.id, self._fold.seq))

    def read_inbox(self, lane: str, given: InboxReadOutput) -> bool:
        """Note what the handler took out of its inbox; what was read before stays with that read.

        The lane's open message ends: what the handler says from now on follows what it has read.
        """
        if given.read < 1:
            raise InvalidOutput("a read of the inbox has a number from 1")
        fresh = self._fold.inbox.read(given.message_ids)
        if not fresh:
            return False
        self.notes.read.extend((message_id, given.read) for message_id in fresh)
        self._scribe.end_turn(lane)
        return True

    # ── pauses ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def wait(self) -> None:
        """Pause, unless nothing was asked or the run is waiting already."""
        if self._fold.state == runs.WAITING or not self._fold.questions.open():
            return
        self._scribe.end_messages(cut_off=False)
        self._pen.write(Event(run_waiting=RunWaiting(inputs=self._fold.questions.open())))

    def _asked_call(self, call_id: str) -> Call:
        logged_id = self._fold.calls.logged_id(checks.checked_call_id(call_id), self._fold.attempt)
        call = self._fold.calls.get(logged_id)
        if call is None:
            raise InvalidOutput(f"a question about call {call_id!r}, which does not exist")
        return call

    def _request(self, given: AskOutput, call: Call | None) -> InputRequest:
        kind = given.kind if given.kind in DEFAULT_SCHEMAS else InputKind.INPUT_KIND_QUESTION
        request = InputRequest(
            kind=kind,
            message=given.message,
            schema_json=checks.checked_schema(given.schema_json or DEFAULT_SCHEMAS[kind]),
            call_id=call.call_id if call else "",
            tool_name=call.tool_name if call else "",
            metadata_json=checks.checked_json(given.metadata_json, "metadata_json"),
            on_expiry=given.on_expiry,
        )
        set_time(request.expire_time, self._pen.time + checks.checked_expiry(given))
        return request

    def _check_room(self, request: InputRequest, call: Call | None) -> None:
        """RunWaiting has to hold all open questions, each with the arguments of its call."""
        arguments = 0
        if call is not None:
            arguments = call.open_part.length if call.open_part else len(call.arguments_json.encode())
        size = self._fold.questions.open_size() + request.ByteSize() + arguments
        if size > MAX_EVENT_BYTES - EVENT_OVERHEAD:
            raise InvalidOutput("the open questions together do not fit into an event")

    def _end_open_parts(self, lane: str, call: Call | None) -> None:
        entry = self._fold.transcript.assistant.get(lane)
        if entry is not None:
            for part in list(entry.open_parts.values()):
                self._scribe.end_part(part)
            self._scribe.settle(entry)
        if call is not None and call.open_part is not None:
            self._scribe.end_part(call.open_part)
            self._scribe.settle(call.entry)

    # ── retry and end ────────────────────────────────────────────────────────────────────────────────────────────────

    def retry(self, error: RunError, retry_time: int) -> None:
        """Give up the attempt: close, retract, and restore the state (rules 17 and 18)."""
        fold = self._fold
        self._scribe.end_messages(cut_off=True)
        for step in fold.steps.abandoned():
            self._scribe.end_step(step, cut_off=True)
        restored = fold.shared.restored()
        retrying = RunRetrying(error=error, attempt=fold.attempt, retracted_ordinals=fold.steps.retracted())
        set_time(retrying.retry_time, retry_time)
        self._pen.write(Event(run_retrying=retrying))
        if restored is not None:
            self._pen.write(Event(state_patched=StatePatched(snapshot_json=restored, version=fold.shared.version + 1)))

    def finish(self, given: EndOutput) -> None:
        """End the run as the handler says."""
        reason = given.reason or (EndReason.END_REASON_AGENT_ERROR if given.HasField("error") else COMPLETED)
        if reason not in REASONS or runs.end_state(reason) == runs.CANCELLED:
            raise InvalidOutput(f"a handler cannot end a run with reason {reason}")
        if given.ByteSize() > MAX_RUN_RESULT_BYTES:
            raise InvalidOutput(f"the result of a run is larger than {MAX_RUN_RESULT_BYTES} bytes")
        result_json = checks.checked_json(given.result_json, "result_json")
        self.end(reason, given.error if given.HasField("error") else None, result_json)

    def end(self, reason: EndReason.ValueType, error: RunError | None, result_json: str) -> None:
        """End the run: leave WAITING, close everything, give calls and questions what they lack, and say so."""
        fold = self._fold
        state = runs.end_state(reason)
        cut_off = state != runs.SUCCEEDED
        if fold.state == runs.WAITING:
            self._withdraw_questions(reason)
            self._scribe.resume("")
        self._scribe.end_messages(cut_off=cut_off)
        self._scribe.abandon_calls()
        for step in list(fold.steps.open.values()):
            self._scribe.end_step(step, cut_off=cut_off)
        self._withdraw_questions(reason)
        pending = fold.calls.pending()
        if reason in (COMPLETED, CLIENT_TOOLS):
            reason = CLIENT_TOOLS if pending else COMPLETED
        ended = RunEnded(
            state=state,
            reason=reason,
            error=_error(reason, error) if state == runs.FAILED else None,
            result_json=result_json,
            usage=fold.usage.values(),
            pending_call_ids=pending,
            unread_message_ids=fold.inbox.unread(),
        )
        self._pen.write(Event(run_ended=ended))

    def _withdraw_questions(self, reason: EndReason.ValueType) -> None:
        expired = reason == INPUT_EXPIRED
        outcome = InputOutcome.INPUT_OUTCOME_EXPIRED if expired else InputOutcome.INPUT_OUTCOME_WITHDRAWN
        for request in self._fold.questions.open():
            self.settle(request.id, outcome, "", "")


def _error(reason: EndReason.ValueType, given: RunError | None) -> RunError:
    """Return what a failed run tells; the reason's name when nobody said more."""
    error = RunError()
    if given is not None:
        error.CopyFrom(given)
    error.code = error.code or EndReason.Name(reason).removeprefix("END_REASON_")
    return error
