"""The runs that this core owns, while a worker has them: they begin, speak, wait, go on, and are cancelled.

Decisions are made synchronously on the run's grammar; the journal commits them; only then does anybody hear of it. How
a run leaves without an end is `departures.py`, what is said to it from outside `signals.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from core_service.domain.errors import InvalidOutput, OutputGap
from core_service.domain.runs import ENDED, WAITING
from core_service.engine.assignments import assignments
from core_service.engine.departures import Departures
from core_service.engine.endings import Endings
from core_service.engine.journal import Journal
from core_service.engine.limits import Limits, passed_limit
from core_service.engine.metrics import Metrics
from core_service.engine.owned import OwnedRun, Ownership
from core_service.engine.sessions import WorkerSession
from core_service.engine.signals import Signals
from core_service.ports import Append, Clock, RunRecords
from penstock.v1.message_pb2 import Message
from penstock.v1.run_pb2 import EndReason, RunError
from penstock.v1.worker_service_pb2 import CancelRequested, CoreMessage, Output, Outputs, Revoked

log = structlog.get_logger(__name__)


class Executions:
    """Acts on owned runs. Everything here is synchronous; the journal makes it durable."""

    def __init__(
        self,
        *,
        journal: Journal,
        ownership: Ownership,
        clock: Clock,
        metrics: Metrics,
        limits: Limits,
        endings: Endings,
        departures: Departures,
        signals: Signals,
    ) -> None:
        self._journal = journal
        self._ownership = ownership
        self._clock = clock
        self._metrics = metrics
        self._limits = limits
        self._endings = endings
        self._departures = departures
        self._signals = signals
        self.on_ended: list[Callable[[OwnedRun], None]] = []
        """Called with each run whose end is in the log."""
        self.on_queued: Callable[[OwnedRun], None] = lambda owned: None
        """Called with each run that is in the queue again."""
        self.on_poisoned: Callable[[OwnedRun], None] = lambda owned: None
        """Called with a run that must end FAILED / INTERNAL from what its log holds."""
        journal.on_written = self._written
        journal.on_refused = self._refused
        journal.on_poisoned = self._poisoned

    # ── begin and speak ──────────────────────────────────────────────────────────────────────────────────────────────

    def begin(
        self,
        owned: OwnedRun,
        session: WorkerSession,
        *,
        history: Sequence[Message],
        new: Sequence[Message],
        state_json: str,
        records: RunRecords | None = None,
    ) -> None:
        """Own a run that was claimed for a worker, and hand it over."""
        known = self._ownership.get(owned.run_id)
        if known is not None and known.fence > owned.fence:  # it was found and sent again meanwhile
            session.unreserve(owned.run.agent_id)
            return
        self._ownership.add(owned)
        owned.replayable = owned.run.agent_id not in session.not_replayable
        if session.closed:  # its stream broke while the claim was under way
            self._departures.returned(owned)
            return
        session.hold_reserved(owned)
        run = owned.run
        run.attempt = owned.attempt
        run.state = owned.stored_state
        for assignment in assignments(run, history=history, new=new, state_json=state_json, records=records):
            session.send(CoreMessage(assignment=assignment))
        if owned.cancel_reason is not None:
            self._send_cancel(owned)

    def attach(self, owned: OwnedRun, session: WorkerSession, records: RunRecords) -> None:
        """Own a run that its worker brought along, and go on where the log ends."""
        owned.start_accepted = True
        owned.replayable = owned.run.agent_id not in session.not_replayable
        self._ownership.add(owned)
        session.hold(owned)
        self._signals.tell_again(owned, records)
        if owned.cancel_reason is not None:
            self._send_cancel(owned)

    def outputs(self, session: WorkerSession, message: Outputs) -> None:
        """Turn a worker's outputs into events. Raises OutputGap when a number is missing."""
        owned = session.runs.get(message.run_id)
        if owned is None or owned.attempt != message.attempt:
            session.send(_revoked(message.run_id, message.attempt))
            return
        known = owned.received - message.first + 1
        if known < 0:
            raise OutputGap(
                f"{message.run_id}: output {owned.received + 1} is missing; {message.first} came.",
                run_id=message.run_id,
            )
        owned.start_accepted = True
        if known < len(message.outputs):
            self._apply(owned, message, known)
            owned.received = message.first + len(message.outputs) - 1
            self._journal.mark(owned, message.ByteSize())

    def _apply(self, owned: OwnedRun, message: Outputs, known: int) -> None:
        if owned.leaving is not None:
            return
        state = owned.grammar.state
        try:
            self._speak(owned, message, known)
            if owned.grammar.state != state:
                self._signals.state_changed(owned)
        except InvalidOutput as error:
            log.warning("invalid output", run_id=owned.run_id, error=str(error))
            self._endings.fail(owned, EndReason.END_REASON_INVALID_OUTPUT, str(error))
            return
        except Exception as error:  # a fault of the grammar ends this run, and not the worker's stream (ENGINE.md A7)
            log.exception("grammar failed", run_id=owned.run_id)
            self._poisoned(owned, error)
            return
        if owned.grammar.ended is None and (passed := passed_limit(owned, self._limits)) is not None:
            self._endings.fail(owned, passed.reason, passed.message)

    def _speak(self, owned: OwnedRun, message: Outputs, known: int) -> None:
        grammar, now = owned.grammar, self._clock.now()
        outputs = message.outputs[known:]
        end = outputs.pop().end if outputs[-1].HasField("end") else None  # an end is a worker's last output
        for output in outputs:
            grammar.apply(output, now)
        if end is not None and grammar.ended is None:
            if owned.cancel_reason is not None:
                self._endings.end(owned, owned.cancel_reason)
            elif not self._departures.failed(owned, end):
                grammar.apply(Output(end=end), now)
            owned.ended_by_worker = True

    # ── cancel ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def cancel(self, owned: OwnedRun, reason: EndReason.ValueType, cancel_time: int) -> None:
        """Ask the worker to stop a run. The run ends when the handler has, or when the grace is over."""
        if owned.cancel_reason is not None or owned.is_leaving:
            return
        owned.cancel_reason, owned.cancel_time = reason, cancel_time
        self._send_cancel(owned)

    def _send_cancel(self, owned: OwnedRun) -> None:
        if owned.session is None or owned.cancel_reason is None:
            return
        request = CancelRequested(run_id=owned.run_id, reason=owned.cancel_reason)
        request.grace_until.FromMicroseconds(self._grace_ends(owned))
        owned.session.send(CoreMessage(cancel_requested=request))

    def _grace_ends(self, owned: OwnedRun) -> int:
        return (owned.cancel_time or 0) + round(self._limits.cancel_grace * 1_000_000)

    # ── loss and time ────────────────────────────────────────────────────────────────────────────────────────────────

    def detach(self, session: WorkerSession) -> None:
        """A worker's stream is gone. Its runs wait for it for a lease; those it never took go back at once."""
        for owned in list(session.runs.values()):
            session.forget(owned)
            if owned.start_accepted:
                owned.lost_after = self._clock.monotonic() + self._limits.lease
            else:
                self._departures.returned(owned)

    def now(self) -> int:
        """Return the core's time, in microseconds since 1970 UTC."""
        return self._clock.now()

    def tick(self) -> None:
        """Do what is due: workers that did not come back, cancels whose grace is over, runs whose time is up."""
        monotonic, now = self._clock.monotonic(), self._clock.now()
        for owned in self._ownership:
            if owned.is_leaving:
                continue
            try:
                self._do_due(owned, monotonic, now)
            except Exception as error:  # a fault of the grammar ends this run, and not the core
                log.exception("grammar failed", run_id=owned.run_id)
                self._poisoned(owned, error)

    def _do_due(self, owned: OwnedRun, monotonic: float, now: int) -> None:
        if owned.lost_after is not None and monotonic >= owned.lost_after:
            owned.lost_after = None
            self._departures.lost(owned)
        elif owned.cancel_reason is not None and now >= self._grace_ends(owned):
            self._endings.end(owned, owned.cancel_reason)
        elif owned.deadline is not None and now >= owned.deadline:
            self._endings.fail(owned, EndReason.END_REASON_TIMEOUT, "The run took longer than its run timeout.")

    # ── end ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def finish(self, owned: OwnedRun, reason: EndReason.ValueType, error: RunError | None = None) -> None:
        """End a run that no worker holds."""
        self._ownership.add(owned)
        self._endings.end(owned, reason, error)

    # ── what the journal says ────────────────────────────────────────────────────────────────────────────────────────

    def _written(self, owned: OwnedRun, append: Append) -> None:
        session = owned.session
        if not owned.is_over(append):
            if session is not None:
                session.ack(owned)
            return
        if session is not None:
            session.acknowledge_last(owned)
            if not owned.ended_by_worker and owned.stored_state != WAITING:
                session.send(_revoked(owned.run_id, owned.attempt))
        self._ownership.drop(owned)
        if owned.stored_state not in ENDED:
            self.on_queued(owned)
        elif (ended := owned.grammar.ended) is not None:
            created = owned.run.create_time.ToMicroseconds()
            self._metrics.end(ended.state, ended.reason, (self._clock.now() - created) / 1_000_000)
            for listener in self.on_ended:
                listener(owned)

    def _refused(self, owned: OwnedRun) -> None:
        log.warning("run lost to another owner", run_id=owned.run_id, fence=owned.fence)
        if owned.session is not None and self._ownership.get(owned.run_id) is owned:
            owned.session.send(_revoked(owned.run_id, owned.attempt))
        self._ownership.drop(owned)

    def _poisoned(self, owned: OwnedRun, error: Exception) -> None:
        """The store cannot take the run's events: drop them and end the run from what the log holds."""
        log.error("run poisoned", run_id=owned.run_id, error=repr(error))
        if owned.session is not None:
            owned.session.send(_revoked(owned.run_id, owned.attempt))
        self._ownership.drop(owned)
        self.on_poisoned(owned)


def _revoked(run_id: str, attempt: int) -> CoreMessage:
    return CoreMessage(revoked=Revoked(run_id=run_id, attempt=attempt))
