"""What happens to the runs that this core owns: they begin, speak, are cancelled, lose their worker, and end.

Decisions are made synchronously on the run's grammar; the journal commits them; only then does anybody hear of it. The
owner decides the end: the first terminal event in its hands is the one (ENGINE.md D2).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from core_service.domain.errors import InvalidOutput, OutputGap
from core_service.domain.runs import ENDED, QUEUED
from core_service.engine.journal import Journal
from core_service.engine.metrics import Metrics
from core_service.engine.owned import OwnedRun, Ownership
from core_service.engine.sessions import WorkerSession
from core_service.ports import Clock, RunChange
from penstock.v1.message_pb2 import Message
from penstock.v1.run_pb2 import EndReason, RunError
from penstock.v1.worker_service_pb2 import Assignment, CancelRequested, CoreMessage, Outputs, Revoked

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds; sizes of a run's log."""

    lease: float
    cancel_grace: float
    queue_timeout: float
    retry_backoff: float
    max_events: int
    max_log_bytes: int


class Executions:
    """Acts on owned runs. Everything here is synchronous; the journal makes it durable."""

    def __init__(
        self, *, journal: Journal, ownership: Ownership, clock: Clock, metrics: Metrics, limits: Limits
    ) -> None:
        self._journal = journal
        self._ownership = ownership
        self._clock = clock
        self._metrics = metrics
        self._limits = limits
        self.on_thread_free: Callable[[str, str], None] = lambda tenant, thread_id: None
        """Called with (tenant, thread) once a run has ended: the next run of the thread may go."""
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
    ) -> None:
        """Own a run that was claimed for a worker, and hand it over."""
        known = self._ownership.get(owned.run_id)
        if known is not None and known.fence > owned.fence:  # it was found and sent again meanwhile
            session.unreserve(owned.run.agent_id)
            return
        self._ownership.add(owned)
        if session.closed:  # its stream broke while the claim was under way
            self.return_to_queue(owned)
            return
        session.hold_reserved(owned)
        run = owned.run
        run.attempt = owned.attempt
        run.state = owned.stored_state
        messages = [*history, *new]
        assignment = Assignment(run=run, messages=messages, new_messages=len(new), state_json=state_json)
        session.send(CoreMessage(assignment=assignment))

    def attach(self, owned: OwnedRun, session: WorkerSession) -> None:
        """Own a run that its worker brought along, and go on where the log ends."""
        owned.start_accepted = True
        self._ownership.add(owned)
        session.hold(owned)
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
        grammar, now = owned.grammar, self._clock.now()
        outputs = message.outputs[known:] if known else message.outputs
        try:
            for output in outputs:
                if owned.cancel_reason is not None and output.HasField("end"):
                    self._end(owned, owned.cancel_reason)
                    return
                grammar.apply(output, now)
            if grammar.open_inputs():
                raise InvalidOutput("This version of the core does not serve questions to people yet.")
        except InvalidOutput as error:
            log.warning("invalid output", run_id=owned.run_id, error=str(error))
            self._fail(owned, EndReason.END_REASON_INVALID_OUTPUT, str(error))
            return
        except Exception as error:  # a fault of the grammar ends this run, and not the worker's stream (ENGINE.md A7)
            log.exception("grammar failed", run_id=owned.run_id)
            self._poisoned(owned, error)
            return
        if grammar.seq > self._limits.max_events or grammar.size_bytes > self._limits.max_log_bytes:
            self._fail(owned, EndReason.END_REASON_LOG_LIMIT, "The log of this run is full.")

    # ── cancel ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def cancel(self, owned: OwnedRun, reason: EndReason.ValueType, cancel_time: int) -> None:
        """Ask the worker to stop a run. The run ends when the handler has, or when the grace is over."""
        if owned.cancel_reason is not None or owned.grammar.ended is not None:
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

    # ── loss ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def detach(self, session: WorkerSession) -> None:
        """A worker's stream is gone. Its runs wait for it for a lease; those it never took go back at once."""
        for owned in list(session.runs.values()):
            session.forget(owned)
            if owned.start_accepted:
                owned.lost_after = self._clock.monotonic() + self._limits.lease
            else:
                self.return_to_queue(owned)

    def return_to_queue(self, owned: OwnedRun) -> None:
        """Queue a run again whose start no worker accepted. Not a failure."""
        error = RunError(code="START_NOT_ACCEPTED", message="The worker left before it took the run.", retryable=True)
        self._queue_again(owned, error, delay=0.0)

    def handed_back(self, owned: OwnedRun, *, replayable: bool) -> None:
        """A worker gives a run back: it never took it, or it leaves (ENGINE.md I7). Not a failure."""
        if owned.grammar.ended is not None:
            return
        if not owned.start_accepted:
            self.return_to_queue(owned)
        elif owned.cancel_reason is not None:
            self._end(owned, owned.cancel_reason)
        elif replayable:
            error = RunError(code="WORKER_LEFT", message="The worker shut down; another one goes on.", retryable=True)
            self._queue_again(owned, error, delay=0.0)
        else:
            self._end(owned, EndReason.END_REASON_SHUTDOWN)

    def lose(self, owned: OwnedRun) -> None:
        """The run's worker is lost: queue it again if that takes nothing back, else end it."""
        if owned.grammar.ended is not None:
            return
        self._metrics.lost.inc()
        owned.failures += 1
        owned.lost_workers += 1
        error = RunError(code="WORKER_LOST", message="The worker that ran the agent was lost.", retryable=True)
        if owned.cancel_reason is not None:
            self._end(owned, owned.cancel_reason)
        elif owned.retry_allowed():
            delay = self._limits.retry_backoff * 2 ** (owned.failures - 1) * random.uniform(0.8, 1.2)
            self._queue_again(owned, error, delay=delay)
        else:
            self._end(owned, EndReason.END_REASON_WORKER_LOST, error)

    def _queue_again(self, owned: OwnedRun, error: RunError, *, delay: float) -> None:
        now = self._clock.now()
        available = now + round(delay * 1_000_000)
        owned.retry = RunChange(
            state=QUEUED,
            failures=owned.failures,
            lost_workers=owned.lost_workers,
            available_time=available,
            start_by=self._start_by(owned, available),
            release=True,
        )
        owned.grammar.retry(error, available, now)
        self._metrics.retried.inc()
        self._journal.mark(owned)

    def _start_by(self, owned: OwnedRun, available: int) -> int:
        """Return until when a worker must have taken a run that is queued again: at least a lease is given."""
        options = owned.run.options
        given = options.queue_timeout.ToMicroseconds() / 1_000_000 if options.HasField("queue_timeout") else None
        timeout = self._limits.queue_timeout if given is None else given
        return available + round((timeout or self._limits.lease) * 1_000_000)

    def now(self) -> int:
        """Return the core's time, in microseconds since 1970 UTC."""
        return self._clock.now()

    def tick(self) -> None:
        """Do what is due: workers that did not come back, cancels whose grace is over."""
        monotonic, now = self._clock.monotonic(), self._clock.now()
        for owned in self._ownership:
            if owned.grammar.ended is not None:
                continue
            try:
                if owned.lost_after is not None and monotonic >= owned.lost_after:
                    owned.lost_after = None
                    self.lose(owned)
                elif owned.cancel_reason is not None and now >= self._grace_ends(owned):
                    self._end(owned, owned.cancel_reason)
            except Exception as error:  # a fault of the grammar ends this run, and not the core
                log.exception("grammar failed", run_id=owned.run_id)
                self._poisoned(owned, error)

    # ── end ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def finish(self, owned: OwnedRun, reason: EndReason.ValueType, error: RunError | None = None) -> None:
        """End a run that no worker holds."""
        self._ownership.add(owned)
        self._end(owned, reason, error)

    def _fail(self, owned: OwnedRun, reason: EndReason.ValueType, message: str) -> None:
        code = EndReason.Name(reason).removeprefix("END_REASON_")
        self._end(owned, reason, RunError(code=code, message=message))

    def _end(self, owned: OwnedRun, reason: EndReason.ValueType, error: RunError | None = None) -> None:
        if owned.grammar.ended is None:
            owned.grammar.end(reason, self._clock.now(), error=error)
        self._journal.mark(owned)

    # ── what the journal says ────────────────────────────────────────────────────────────────────────────────────────

    def _written(self, owned: OwnedRun, changed: bool) -> None:  # noqa: FBT001 — the journal's callback
        session = owned.session
        if not owned.is_over:
            if session is not None:
                session.ack(owned)
            return
        if session is not None:
            session.acknowledge_last(owned)
            if not _ended_by_worker(owned):
                session.send(_revoked(owned.run_id, owned.attempt))
        self._ownership.drop(owned)
        if changed and owned.stored_state in ENDED and (ended := owned.grammar.ended) is not None:
            created = owned.run.create_time.ToMicroseconds()
            self._metrics.end(ended.state, ended.reason, (self._clock.now() - created) / 1_000_000)
            self.on_thread_free(owned.tenant, owned.run.thread_id)

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


def _ended_by_worker(owned: OwnedRun) -> bool:
    """Tell whether the worker itself sent the end, so that it need not be told that the run is not its any more."""
    ended = owned.grammar.ended
    return ended is not None and ended.reason < EndReason.END_REASON_TIMEOUT


def _revoked(run_id: str, attempt: int) -> CoreMessage:
    return CoreMessage(revoked=Revoked(run_id=run_id, attempt=attempt))
