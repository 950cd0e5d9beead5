"""How a run of AG-UI ends, which is one leg of ours: its outcome or error, and the tokens that it used.

Owns the last frame's fields. It closes nothing; see `encoder.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edge.fold import Fold
from edge.protocols.ag_ui.dialect import Dialect
from edge.protocols.ag_ui.frames import given
from edge.protocols.ag_ui.interrupts import interrupt_of
from penstock.flat_json import enum_names, inline
from penstock.v1.event_pb2 import RunEnded
from penstock.v1.message_pb2 import ToolRunner
from penstock.v1.run_pb2 import EndReason, InputKind, RunState, Usage

PLAIN = frozenset({EndReason.END_REASON_COMPLETED, EndReason.END_REASON_CLIENT_TOOLS})
"""Reasons that the outcome tells already. The others stand in the metadata."""

_REASONS = enum_names(EndReason.DESCRIPTOR)
_FAILED = range(10, 30)
_CANCELLED = range(30, 50)
"""The groups of reasons that run.proto sets aside, later ones included."""


def has_failed(end: RunEnded) -> bool:
    """True for an end that is told as RUN_ERROR."""
    return end.state == RunState.RUN_STATE_FAILED or end.reason in _FAILED


def error_fields(end: RunEnded) -> dict[str, object]:
    """Return the fields of RUN_ERROR."""
    reason = reason_name(end.reason)
    code = end.error.code or reason.upper()
    return {"message": end.error.message or f"The run failed: {reason.upper()}.", "code": code}


def finished_fields(fold: Fold, dialect: Dialect) -> dict[str, object]:
    """Return the fields of RUN_FINISHED beside ids and usage, for a leg that has ended and not failed."""
    end = fold.end
    if end is None:
        calls = calls_to_run(fold)
        return {"outcome": _success(calls, dialect) if calls else _interrupt(fold)}
    reason = None if end.reason in PLAIN else {"penstock": {"reason": reason_name(end.reason)}}
    if end.state == RunState.RUN_STATE_CANCELLED or end.reason in _CANCELLED:
        return {"outcome": {"type": "cancelled"} if dialect.tells_cancelled else None, "metadata": reason}
    result = inline(end.result_json) if end.result_json else None
    return {"outcome": _success(end.pending_call_ids, dialect), "result": result, "metadata": reason}


def calls_to_run(fold: Fold) -> list[str]:
    """Return the calls that a waiting run wants the client to run, when it waits for nothing else.

    To the protocol that is no interrupt: the run has ended well, and the results come with the next one's messages.
    """
    shown = [part.tool_call for part in fold.said() if part.HasField("tool_call")]
    theirs = {call.call_id for call in shown if call.runner == ToolRunner.TOOL_RUNNER_CLIENT}
    asked = list(fold.open_inputs.values())
    if all(one.kind == InputKind.INPUT_KIND_CLIENT_TOOL and one.call_id in theirs for one in asked):
        return [one.call_id for one in asked]
    return []


def usage_of(reported: Iterable[Usage]) -> list[dict[str, object]] | None:
    """Return the tokens per provider and model. A count of zero may be one that nobody knows: it is left out."""
    sums: dict[tuple[str, str], dict[str, int]] = {}
    for usage in reported:
        counts = sums.setdefault((usage.provider, usage.model), {})
        for name, count in _counts(usage).items():
            counts[name] = counts.get(name, 0) + count
    totals = [
        given({"provider": provider or None, "model": model or None})
        | {name: count for name, count in counts.items() if count}
        for (provider, model), counts in sums.items()
    ]
    return totals or None


def reason_name(reason: int) -> str:
    """Return the reason of an end as the native protocol writes it."""
    return _REASONS.get(reason, "failed")


def _success(calls: Iterable[str], dialect: Dialect) -> dict[str, object]:
    pending = list(calls) if dialect.tells_pending_calls else []
    return {"type": "success", **({"pendingToolCallIds": pending} if pending else {})}


def _interrupt(fold: Fold) -> dict[str, object]:
    return {"type": "interrupt", "interrupts": [interrupt_of(one) for one in fold.open_inputs.values()]}


def _counts(usage: Usage) -> Mapping[str, int]:
    return {
        "inputTokens": usage.input_tokens,
        "outputTokens": usage.output_tokens,
        "totalTokens": usage.input_tokens + usage.output_tokens,
        "reasoningTokens": usage.reasoning_tokens,
        "cachedInputTokens": usage.cached_input_tokens,
        "cacheWriteInputTokens": usage.cache_write_tokens,
    }
