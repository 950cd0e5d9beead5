"""One attempt of one run on a worker: its handler, from the start to the end that goes into the outbox.

Owns what a cancel, a loss, a suspension and an exception mean for the handler. It does not know who else is being run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from penstock import wire
from penstock.app import ServedAgent
from penstock.attempt import Attempt
from penstock.ends import end_of, is_intended
from penstock.errors import Suspended
from penstock.idleness import Activity
from penstock.line import Line
from penstock.outbox import Outbox
from penstock.run import Run
from penstock.v1.message_pb2 import Message
from penstock.v1.worker_service_pb2 import AnswerRecord, Assignment, EndOutput, Output

log = structlog.get_logger(__name__)


class Execution:
    """One attempt of one run on this worker. `tell` hears when it begins and ends to wait."""

    def __init__(
        self,
        agent: ServedAgent,
        assignment: Assignment,
        outbox: Outbox,
        line: Line,
        tell: Callable[[Execution, Activity], None],
    ) -> None:
        self.agent = agent
        self.outbox = outbox
        self.attempt = Attempt(assignment, outbox, line, lambda activity: tell(self, activity))
        self.run = Run(assignment, self.attempt)
        self.has_ended = False
        """The handler is over and its end is in the outbox."""
        self.is_suspended = False
        """It is let go: once everything is stored, the core is told."""
        self._task: asyncio.Task[None] | None = None

    @property
    def is_over(self) -> bool:
        """Nothing more will be said."""
        return self.has_ended or self.is_suspended

    @property
    def may_be_suspended(self) -> bool:
        """The handler can be run again elsewhere."""
        return self.agent.declaration.replayable

    async def execute(self) -> None:
        """Run the handler and put its end into the outbox. Raises nothing."""
        self._task = asyncio.current_task()
        # Also for what the author logs: the task, and threads that it starts, have a context of their own.
        structlog.contextvars.bind_contextvars(run_id=self.run.id, agent_id=self.run.agent_id, attempt=self.run.attempt)
        end = EndOutput() if self.run.cancelled else await self._outcome()
        self._task = None
        self.attempt.finish()
        if not self.is_suspended:
            self.has_ended = True
            self.outbox.add(wire.record(Output(end=end).SerializeToString()))

    def cancel(self, reason: str) -> None:
        """Ask the handler to stop. What it says until it does is sent."""
        if self.run.cancelled or self.is_suspended:
            return
        self.run.cancelled.request(reason)
        self.attempt.release_threads()
        if self._task is not None and self.agent.handler.is_interruptible:
            self._task.cancel()

    def drop(self, reason: str) -> None:
        """The run is not ours any more: stop the handler and forget what it says."""
        self.run.cancelled.request(reason)
        self.outbox.close()
        self.attempt.finish()
        self.stop()

    def suspend(self) -> None:
        """Let the run go while it waits: it needs nobody before its answer comes."""
        self.is_suspended = True
        self.attempt.suspend()

    def stop(self) -> None:
        """Cancel the handler, whatever it does."""
        if self._task is not None:
            self._task.cancel()

    def answer(self, key: str, answer: AnswerRecord) -> None:
        """A question was settled."""
        self.attempt.questions.settle(key, answer)

    def steer(self, message: Message) -> None:
        """A message has come for the handler."""
        self.attempt.mailbox.add(message)

    async def _outcome(self) -> EndOutput:
        try:
            result = await self.agent.handler.run(self.run, self.attempt.handler)
        except asyncio.CancelledError as error:
            # The core decides how a cancelled run ends. A CancelledError that nobody asked for is a fault of the agent.
            return EndOutput() if self.run.cancelled else self._failure(error)
        except (Exception, BaseExceptionGroup, Suspended, SystemExit) as error:  # noqa: BLE001 - logged; `sys.exit` ends the run
            return self._failure(error)
        # A handler may have caught what told it that it does not repeat itself.
        return self._failure(self.attempt.fault) if self.attempt.fault else EndOutput(result_json=result)

    def _failure(self, error: BaseException) -> EndOutput:
        error = self.attempt.fault or error
        end = end_of(error)
        if self.is_suspended:
            log.debug("suspended")
        elif is_intended(error):
            log.info("run_failed", code=end.error.code, error=str(error))
        else:
            log.error("handler_raised", code=end.error.code, exc_info=error)
        return end
