"""One attempt of one run on a worker: its handler, from the start to the end that goes into the outbox.

Owns what a cancel, a loss and an exception mean for the handler. It does not know who else is being run.
"""

from __future__ import annotations

import asyncio

import structlog

from penstock import wire
from penstock.app import ServedAgent
from penstock.ends import end_of, is_intended
from penstock.outbox import Outbox
from penstock.run import Run
from penstock.v1.worker_service_pb2 import EndOutput, Output

log = structlog.get_logger(__name__)


class Execution:
    """One attempt of one run on this worker."""

    def __init__(self, agent: ServedAgent, run: Run, outbox: Outbox) -> None:
        self.agent = agent
        self.run = run
        self.outbox = outbox
        self.has_ended = False
        """The handler is over and its end is in the outbox."""
        self._task: asyncio.Task[None] | None = None

    async def execute(self) -> None:
        """Run the handler and put its end into the outbox. Raises nothing."""
        self._task = asyncio.current_task()
        # Also for what the author logs: the task, and threads that it starts, have a context of their own.
        structlog.contextvars.bind_contextvars(run_id=self.run.id, agent_id=self.run.agent_id, attempt=self.run.attempt)
        end = EndOutput() if self.run.cancelled else await self._outcome()
        self._task = None
        self.has_ended = True
        self.outbox.add(wire.record(Output(end=end).SerializeToString()))

    def cancel(self, reason: str) -> None:
        """Ask the handler to stop. What it says until it does is sent."""
        if self.run.cancelled:
            return
        self.run.cancelled.request(reason)
        if self._task is not None and self.agent.handler.is_interruptible:
            self._task.cancel()

    def drop(self, reason: str) -> None:
        """The run is not ours any more: stop the handler and forget what it says."""
        self.run.cancelled.request(reason)
        self.outbox.close()
        if self._task is not None:
            self._task.cancel()

    async def _outcome(self) -> EndOutput:
        try:
            result = await self.agent.handler.run(self.run, self.outbox)
            return EndOutput(result_json=result)
        except asyncio.CancelledError as error:
            # The core decides how a cancelled run ends. A CancelledError that nobody asked for is a fault of the agent.
            return EndOutput() if self.run.cancelled else self._failure(error)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - it is logged; `sys.exit` ends the run, not the worker
            return self._failure(error)

    def _failure(self, error: BaseException) -> EndOutput:
        end = end_of(error)
        if is_intended(error):
            log.info("run_failed", code=end.error.code, error=str(error))
        else:
            log.error("handler_raised", code=end.error.code, exc_info=error)
        return end
