"""Every refusal of the core: one class per reason.

The reason is API and never changes; the message is for people and says what to do. A failed *run* is not a refusal:
it is an event in the run's log. The mapping to gRPC codes is `core_service/rpc/errors.py`.
"""

from __future__ import annotations

from typing import ClassVar


class Refusal(Exception):
    """A call that the core will not carry out. Nothing was changed by it."""

    reason: ClassVar[str] = "INTERNAL"

    def __init__(self, message: str, **metadata: str) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = metadata


class InvalidArgument(Refusal):
    """The request is malformed; repeating it cannot help. `field` names the culprit."""

    reason = "INVALID_ARGUMENT"


class InvalidPageToken(InvalidArgument):
    """The page token was not made by this list."""

    reason = "INVALID_PAGE_TOKEN"


class AgentNotFound(Refusal):
    """No worker ever declared this agent."""

    reason = "AGENT_NOT_FOUND"


class ThreadNotFound(Refusal):
    """No such thread in this tenant."""

    reason = "THREAD_NOT_FOUND"


class RunNotFound(Refusal):
    """No such run in this tenant."""

    reason = "RUN_NOT_FOUND"


class InputNotFound(Refusal):
    """The run never asked this question."""

    reason = "INPUT_NOT_FOUND"


class MessageNotFound(Refusal):
    """No such message in this thread."""

    reason = "MESSAGE_NOT_FOUND"


class ScheduleNotFound(Refusal):
    """No such schedule in this tenant."""

    reason = "SCHEDULE_NOT_FOUND"


class RetentionNotFound(Refusal):
    """This agent has no policy of its own."""

    reason = "RETENTION_NOT_FOUND"


class ThreadExists(Refusal):
    """The chosen thread id is taken."""

    reason = "THREAD_EXISTS"


class ThreadBusy(Refusal):
    """The thread has an active run (`run_id`) and the policy is to refuse."""

    reason = "THREAD_BUSY"


class ThreadWaiting(Refusal):
    """The thread's run (`run_id`) waits for an answer; answer it first."""

    reason = "THREAD_WAITING"


class StateChanged(Refusal):
    """The thread's state has another version (`version`) than the caller expects."""

    reason = "STATE_CHANGED"


class RunHasEnded(Refusal):
    """The run (`run_id`) has ended; nothing can be said to it any more."""

    reason = "RUN_ENDED"


class RunActive(Refusal):
    """The run (`run_id`) has not ended; cancel it first."""

    reason = "RUN_ACTIVE"


class InputAnswered(Refusal):
    """The question (`input_id`) was settled before, as `outcome` says."""

    reason = "INPUT_ANSWERED"


class InvalidAnswer(InvalidArgument):
    """The answer does not fit the schema of its question."""

    reason = "INVALID_ANSWER"


class DepthExceeded(Refusal):
    """Too many runs are above this one (`max_depth`): agents call each other in a circle."""

    reason = "DEPTH_EXCEEDED"


class IdempotencyMismatch(Refusal):
    """The request id was used before with another body."""

    reason = "IDEMPOTENCY_MISMATCH"


class NoWorker(Refusal):
    """No connected worker runs this agent, and the caller does not want to wait for one."""

    reason = "NO_WORKER"


class QueueFull(Refusal):
    """Too many runs wait already; try again later."""

    reason = "QUEUE_FULL"


class EventsExpired(Refusal):
    """The events after this cursor are no longer kept; `oldest_seq` is the first that is."""

    reason = "EVENTS_EXPIRED"


class CursorAhead(Refusal):
    """The cursor lies beyond the newest event (`last_seq`): it belongs to another history."""

    reason = "CURSOR_AHEAD"


class LogDamaged(Refusal):
    """The stored log has a gap. Never delivered; an operator must look."""

    reason = "LOG_DAMAGED"


class CoreDraining(Refusal):
    """This core shuts down; ask another one, or again in a moment."""

    reason = "CORE_DRAINING"


class StoreUnavailable(Refusal):
    """The database cannot be reached now. Nothing is lost; repeat with the same request id."""

    reason = "STORE_UNAVAILABLE"


class StoreFull(Refusal):
    """The database has no room. Nothing is lost; repeat once there is."""

    reason = "STORE_FULL"


class NotServed(Refusal):
    """The contract has this call, but this version of the core does not serve it yet."""

    reason = "NOT_SERVED"


class WebhooksDisabled(Refusal):
    """This server sends no webhooks: it was given no secret to sign them with."""

    reason = "WEBHOOKS_DISABLED"


class OutputGap(Refusal):
    """A worker skipped an output number."""

    reason = "OUTPUT_GAP"


class WorkerReplaced(Refusal):
    """A newer stream of the same worker took over."""

    reason = "WORKER_REPLACED"


class WorkerProtocol(Refusal):
    """A worker broke the protocol of its stream."""

    reason = "WORKER_PROTOCOL"


class DueTimePassed(Exception):
    """A due time is not its schedule's next one any more: another core was faster, or it was paused or deleted."""


class InvalidOutput(Exception):
    """The agent sent something the log cannot hold. Ends the run FAILED / INVALID_OUTPUT; the grammar is unchanged."""
