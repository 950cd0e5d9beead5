"""How runs leave this core without an end: retried, given back, handed over to the queue, let go while they wait.

And when they may not: then they end. Decided synchronously on the run's grammar; the journal commits it.
"""

from __future__ import annotations

import random

from core_service.domain.runs import QUEUED, WAITING
from core_service.engine.endings import Endings
from core_service.engine.journal import Journal
from core_service.engine.limits import Limits
from core_service.engine.metrics import Metrics
from core_service.engine.owned import OwnedRun
from core_service.ports import Clock, RunChange
from penstock.v1.run_pb2 import EndReason, RunError
from penstock.v1.worker_service_pb2 import EndOutput

LOST = RunError(code="WORKER_LOST", message="The worker that ran the agent was lost.", retryable=True)
LEFT = RunError(code="WORKER_LEFT", message="The worker shut down; another one goes on.", retryable=True)
NOT_ACCEPTED = RunError(code="START_NOT_ACCEPTED", message="The worker left before it took the run.", retryable=True)


class Departures:
    """Decides what becomes of a run whose attempt is over and which has not ended."""

    def __init__(self, *, journal: Journal, clock: Clock, metrics: Metrics, limits: Limits, endings: Endings) -> None:
        self._journal = journal
        self._clock = clock
        self._metrics = metrics
        self._limits = limits
        self._endings = endings

    def failed(self, owned: OwnedRun, end: EndOutput) -> bool:
        """The handler failed. True when the run is tried again; else its end goes into the log as it is."""
        if not _is_retryable(end):
            return False
        owned.failures += 1
        if not owned.retry_allowed(lost=False):
            return False
        self._queue_again(owned, end.error, delay=self._backoff(owned))
        return True

    def lost(self, owned: OwnedRun) -> None:
        """The run's worker is lost: a waiting run is let go, another one queued again if that takes nothing back."""
        if owned.is_leaving:
            return
        self._metrics.lost.inc()
        if owned.cancel_reason is not None:
            self._endings.end(owned, owned.cancel_reason)
        elif owned.is_waiting and owned.replayable:
            self.let_go(owned)
        else:
            owned.failures += 1
            owned.lost_workers += 1
            if owned.replayable and owned.retry_allowed(lost=True):
                self._queue_again(owned, LOST, delay=self._backoff(owned))
            else:
                self._endings.end(owned, EndReason.END_REASON_WORKER_LOST, LOST)

    def returned(self, owned: OwnedRun) -> None:
        """Queue a run again whose start no worker accepted. Not a failure."""
        if not owned.is_leaving:
            self._queue_again(owned, NOT_ACCEPTED, delay=0.0)

    def handed_back(self, owned: OwnedRun) -> None:
        """A worker gives a run back: it never took it, or it leaves (ENGINE.md I7). Not a failure."""
        if owned.is_leaving:
            return
        if not owned.start_accepted:
            self.returned(owned)
        elif owned.cancel_reason is not None:
            self._endings.end(owned, owned.cancel_reason)
        elif not owned.replayable:
            self._endings.end(owned, EndReason.END_REASON_SHUTDOWN)
        elif owned.is_waiting:
            self.let_go(owned)
        else:
            self._queue_again(owned, LEFT, delay=0.0)

    def released(self, owned: OwnedRun) -> None:
        """A worker has let a parked run go (ENGINE.md F2). An answer may have come meanwhile."""
        if owned.is_leaving:
            return
        if owned.cancel_reason is not None:
            self._endings.end(owned, owned.cancel_reason)
        elif owned.is_waiting:
            self.let_go(owned)
        else:
            self.hand_over(owned)

    def let_go(self, owned: OwnedRun) -> None:
        """Nobody owns a waiting run any more: whoever settles its question queues it."""
        owned.leaving = RunChange(state=WAITING, leg=owned.grammar.leg, run_left=owned.run_left, release=True)
        self._journal.mark(owned)

    def hand_over(self, owned: OwnedRun) -> None:
        """Queue a run that was resumed and that no worker holds. It is not a retry: nothing is taken back."""
        now = self._clock.now()
        owned.leaving = RunChange(
            state=QUEUED,
            leg=owned.grammar.leg,
            available_time=now,
            start_by=self._start_by(owned, now),
            run_left=self._left(owned),
            release=True,
        )
        self._journal.mark(owned)

    def _queue_again(self, owned: OwnedRun, error: RunError, *, delay: float) -> None:
        now = self._clock.now()
        available = now + round(delay * 1_000_000)
        if owned.is_waiting:  # something else went wrong than what it waits for
            owned.grammar.resume("", now)
        owned.grammar.retry(error, available, now)
        owned.leaving = RunChange(
            state=QUEUED,
            leg=owned.grammar.leg,
            failures=owned.failures,
            lost_workers=owned.lost_workers,
            available_time=available,
            start_by=self._start_by(owned, available),
            run_left=self._left(owned),
            release=True,
        )
        self._metrics.retried.inc()
        self._journal.mark(owned)

    def _backoff(self, owned: OwnedRun) -> float:
        """Return the pause before the next attempt, in seconds: exponential, with jitter."""
        pause = self._limits.retry_backoff * 2.0 ** (owned.failures - 1)
        return min(pause, self._limits.max_retry_backoff) * random.uniform(0.8, 1.2)

    def _left(self, owned: OwnedRun) -> int | None:
        """Return the RUNNING time that is left."""
        if owned.deadline is None:
            return owned.run_left
        return max(1, owned.deadline - self._clock.now())

    def _start_by(self, owned: OwnedRun, available: int) -> int:
        """Return until when a worker must have taken a run that is queued again: at least a lease is given."""
        options = owned.run.options
        given = options.queue_timeout.ToMicroseconds() / 1_000_000 if options.HasField("queue_timeout") else None
        timeout = self._limits.queue_timeout if given is None else given
        return available + round((timeout or self._limits.lease) * 1_000_000)


def _is_retryable(end: EndOutput) -> bool:
    reasons = (EndReason.END_REASON_UNSPECIFIED, EndReason.END_REASON_AGENT_ERROR)
    return end.HasField("error") and end.error.retryable and end.reason in reasons
