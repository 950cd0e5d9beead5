"""How the outcome of a handler ends its run: one table from exceptions to what strangers see.

Only what the author wrote for strangers is shown to them. The text of any other exception, which may hold anything,
stays in the worker's log.
"""

from __future__ import annotations

from penstock.errors import AgentError, InvalidOutput, NonDeterministic, Rejected
from penstock.v1.run_pb2 import EndReason, RunError
from penstock.v1.worker_service_pb2 import EndOutput


def end_of(error: BaseException) -> EndOutput:
    """The end of a run whose handler raised `error`."""
    match error:
        case AgentError():
            return _failed(EndReason.END_REASON_AGENT_ERROR, error.code, error.message, retryable=error.retryable)
        case Rejected():
            return _failed(EndReason.END_REASON_REJECTED, "REJECTED", error.message, retryable=False)
        case NonDeterministic():
            reason = EndReason.END_REASON_NON_DETERMINISTIC
            return _failed(reason, "NON_DETERMINISTIC", error.message, retryable=False)
        case InvalidOutput():
            message = "The agent sent something that cannot be stored."
            return _failed(EndReason.END_REASON_INVALID_OUTPUT, "INVALID_OUTPUT", message, retryable=False)
        case _:
            message = f"The agent raised an error: {type(error).__name__}."
            return _failed(EndReason.END_REASON_AGENT_ERROR, "AGENT_ERROR", message, retryable=True)


def is_intended(error: BaseException) -> bool:
    """The author raised it for the caller: nothing is wrong with the code."""
    return isinstance(error, AgentError | Rejected)


def _failed(reason: EndReason.ValueType, code: str, message: str, *, retryable: bool) -> EndOutput:
    return EndOutput(reason=reason, error=RunError(code=code, message=message, retryable=retryable))
