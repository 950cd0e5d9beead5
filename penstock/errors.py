"""The exceptions of the SDK: those that a handler raises, and those that a client meets.

What a handler says in `AgentError`, `Fatal` and `Rejected` is shown to whoever watches the run. The text of any other
exception is not: it goes to the worker's log.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from penstock.reasons import reason_name
from penstock.v1.event_pb2 import RunEnded

_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


class AgentError(Exception):
    """Raised by a handler: the run fails, and `code` and `message` are what strangers see of it."""

    def __init__(self, code: str, message: str, *, retryable: bool = True) -> None:
        """`code` is upper snake case; `retryable` says whether trying again may help."""
        if not _CODE.fullmatch(code):
            raise ValueError(f"the code of an error is upper snake case, at most 64 characters, not {code!r}")
        super().__init__(message)
        self.code = code
        self.message = message
        self.retryable = retryable


class Fatal(AgentError):
    """Raised by a handler: the run fails, and trying again cannot help."""

    def __init__(self, message: str, *, code: str = "AGENT_ERROR") -> None:
        super().__init__(code, message, retryable=False)


class Rejected(Exception):
    """Raised by a handler that declines the request; `message` says why, to strangers."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidOutput(Exception):
    """Raised in a handler, at its `yield`: this value cannot be sent. Nothing of it was."""


class OutputDuringStep(InvalidOutput):
    """Raised where a handler or a step says something while one of its own steps runs beside it: nobody could tell what
    of it a retry has to take back. Let the step say it, or wait for the step first.
    """


class NonDeterministic(Exception):
    """A handler that was started again did not ask for what it had asked for before. The run ends, and is not retried.

    Raised where that is found. Catching it helps nothing: what the run says afterwards is dropped.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Suspended(BaseException):
    """Raised in a handler that waited for an answer for long, or whose worker leaves: this process lets the run go.

    When the answer comes the handler is started again, maybe elsewhere, and gets its recorded steps and answers. What
    it says from here on is dropped. Not an Exception, so that `except Exception` lets it pass.
    """


class PenstockError(Exception):
    """A call that failed. The reason is API and never changes; the message is for people."""

    def __init__(self, message: str, *, reason: str = "", metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        """Upper snake case, as in `google.rpc.ErrorInfo`: RUN_NOT_FOUND, THREAD_BUSY … Empty when none was given."""
        self.metadata = dict(metadata or {})


class InvalidRequest(PenstockError):
    """The request is malformed; repeating it cannot help."""


class NotFound(PenstockError):
    """No such agent, thread or run."""


class Conflict(PenstockError):
    """It exists already, or the request id was used before with another body."""


class NotPossible(PenstockError):
    """Not in the present state: the thread is busy, the run has ended."""


class OutOfRange(PenstockError):
    """The cursor lies before the oldest event that is kept, or behind the newest."""


class Exhausted(PenstockError):
    """A limit is reached; try again later."""


class Denied(PenstockError):
    """The caller may not do this."""


class NotServed(PenstockError):
    """This core does not know the call."""


class Unavailable(PenstockError):
    """The core could not be reached, or will not serve now; repeating did not help."""


class TimedOut(PenstockError):
    """The answer did not come in time. What was asked for may happen all the same."""


class RunFailed(PenstockError):
    """A run whose text was waited for did not succeed. The reason is that of its end, or the code of its error."""

    def __init__(self, run_id: str, end: RunEnded) -> None:
        reason = end.error.code or reason_name(end.reason)
        super().__init__(end.error.message or f"{run_id} ended with {reason}", reason=reason)
        self.run_id = run_id
        self.end = end
