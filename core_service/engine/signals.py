"""What is said to a run from outside while this core owns it: answers to its questions, and steering messages.

And what a pause means to it. The store has noted what comes from outside before; here it goes into the log and to the
worker. Synchronous, on the run's grammar.
"""

from __future__ import annotations

from core_service.domain.records import InboxRow, InboxState, QuestionRow, RunRecords
from core_service.domain.runs import RUNNING
from core_service.engine.assignments import answer_record
from core_service.engine.endings import Endings
from core_service.engine.journal import Journal
from core_service.engine.owned import OwnedRun
from core_service.ports import Clock
from penstock.v1.message_pb2 import Message
from penstock.v1.run_pb2 import EndReason, ExpiryAction, InputOutcome, RunError
from penstock.v1.worker_service_pb2 import Answered, CoreMessage, Steered

EXPIRED = InputOutcome.INPUT_OUTCOME_EXPIRED
NOT_ANSWERED = RunError(code="INPUT_EXPIRED", message="Nobody answered the run's question in time.", retryable=False)


class Signals:
    """Takes what the store has noted for an owned run."""

    def __init__(self, *, journal: Journal, clock: Clock, endings: Endings) -> None:
        self._journal = journal
        self._clock = clock
        self._endings = endings

    def deliver(self, owned: OwnedRun, records: RunRecords) -> None:
        """Write what the log does not tell of yet, and tell the worker. Whatever is known is passed over."""
        self.learn(owned, records)
        if owned.is_leaving:
            return
        for row in records.questions:
            if row.outcome and row.resolved_seq is None:
                self._settle(owned, row)
        for message in records.inbox:
            if message.seq is None and message.state is InboxState.UNREAD:
                self._receive(owned, message)
        self._go_on_if_answered(owned, records)
        self._journal.mark(owned)

    def learn(self, owned: OwnedRun, records: RunRecords) -> None:
        """Note the places of the steering messages that the log tells of."""
        owned.inbox.update({row.message.id: row.pos for row in records.inbox if row.seq is not None})

    def tell_again(self, owned: OwnedRun, records: RunRecords) -> None:
        """Tell a worker that brought its run along what it may have missed; what it knows it passes over."""
        still_open = {request.id for request in owned.grammar.open_inputs()}
        for row in records.questions:
            if row.outcome and row.request.id not in still_open:
                _tell_answer(owned, row)
        held_back = {message.id for message in owned.held_back}
        for message in records.inbox:
            if message.state is InboxState.UNREAD and message.message.id not in held_back:
                _tell_message(owned, message.message)

    def state_changed(self, owned: OwnedRun) -> None:
        """Note that a run began to wait or goes on.

        RUNNING time counts only while a run is RUNNING, and a run that waits takes no worker's place (ENGINE.md F2).
        """
        now, session = self._clock.now(), owned.session
        if owned.is_waiting:
            if owned.deadline is not None:
                owned.run_left, owned.deadline = max(1, owned.deadline - now), None
            if session is not None:
                session.park(owned)
        elif owned.grammar.state == RUNNING:
            if owned.run_left is not None:
                owned.deadline, owned.run_left = now + owned.run_left, None
            if session is not None:
                session.unpark(owned)
            held_back, owned.held_back = owned.held_back, []
            for message in held_back:
                self._say(owned, message)

    def _settle(self, owned: OwnedRun, row: QuestionRow) -> None:
        if all(request.id != row.request.id for request in owned.grammar.open_inputs()):
            return
        if row.outcome == EXPIRED and row.request.on_expiry != ExpiryAction.EXPIRY_ACTION_CONTINUE:
            self._endings.end(owned, EndReason.END_REASON_INPUT_EXPIRED, NOT_ANSWERED)
            return
        owned.grammar.resolve(row.request.id, row.outcome, row.answer_json, row.answered_by, self._clock.now())
        _tell_answer(owned, row)

    def _receive(self, owned: OwnedRun, row: InboxRow) -> None:
        if row.message.id in owned.inbox:
            return
        owned.inbox[row.message.id] = row.pos
        if owned.is_waiting:
            owned.held_back.append(row.message)
        else:
            self._say(owned, row.message)

    def _say(self, owned: OwnedRun, message: Message) -> None:
        owned.grammar.receive(message, self._clock.now())
        _tell_message(owned, message)

    def _go_on_if_answered(self, owned: OwnedRun, records: RunRecords) -> None:
        """A run that waits for nothing any more goes on at once, in the leg that its last answer asked for."""
        if owned.is_leaving or not owned.is_waiting or owned.grammar.open_inputs():
            return
        owned.grammar.resume(origin_of(records), self._clock.now())
        self.state_changed(owned)


def origin_of(records: RunRecords) -> str:
    """Return what the adapter that settled the newest questions wants of the leg that follows."""
    fresh = [row.origin_json for row in records.questions if row.outcome and row.resolved_seq is None]
    return next((origin for origin in reversed(fresh) if origin), "")


def _tell_answer(owned: OwnedRun, row: QuestionRow) -> None:
    if owned.session is not None:
        answered = Answered(run_id=owned.run_id, key=row.key, answer=answer_record(row))
        owned.session.send(CoreMessage(answered=answered))


def _tell_message(owned: OwnedRun, message: Message) -> None:
    if owned.session is not None:
        owned.session.send(CoreMessage(steered=Steered(run_id=owned.run_id, message=message)))
