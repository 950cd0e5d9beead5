"""What a run may take: events, bytes, steps, tokens, time. Durations in seconds; a run's own limits are its options."""

from __future__ import annotations

from dataclasses import dataclass

from core_service.engine.owned import OwnedRun
from penstock.v1.run_pb2 import EndReason


@dataclass(frozen=True, slots=True)
class Limits:
    """Settings of the core that runs are held to."""

    lease: float
    cancel_grace: float
    queue_timeout: float
    retry_backoff: float
    max_retry_backoff: float
    max_events: int
    max_log_bytes: int


@dataclass(frozen=True, slots=True)
class Passed:
    """A limit that a run has passed."""

    reason: EndReason.ValueType
    message: str


def passed_limit(owned: OwnedRun, limits: Limits) -> Passed | None:
    """Return the limit of log, steps or tokens that the run has passed, if any."""
    grammar, options = owned.grammar, owned.run.options
    if grammar.seq > limits.max_events or grammar.size_bytes > limits.max_log_bytes:
        return Passed(EndReason.END_REASON_LOG_LIMIT, "The log of this run is full.")
    if options.max_steps and grammar.loop_steps > options.max_steps:
        return Passed(EndReason.END_REASON_MAX_STEPS, f"The run took more than {options.max_steps} steps.")
    if options.token_budget and grammar.tokens > options.token_budget:
        return Passed(EndReason.END_REASON_BUDGET, f"The run used more than {options.token_budget} tokens.")
    return None
