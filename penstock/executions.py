"""The runs that a worker holds: started, cancelled, given up, forgotten.

Owns who is held (from the assignment until the core has stored the end) and the handlers' tasks. It hears what the core
says and answers into the outboxes; it does not know how either travels.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import structlog

from penstock.app import ServedAgent
from penstock.execution import Execution
from penstock.outbox import Outboxes
from penstock.run import Run
from penstock.v1.run_pb2 import EndReason
from penstock.v1.worker_service_pb2 import (
    Accepted,
    Ack,
    Assignment,
    CancelRequested,
    Decline,
    Drain,
    Held,
    Revoked,
    Welcome,
    WorkerMessage,
)

log = structlog.get_logger(__name__)


class Executions:
    """All runs of a worker. An async context manager: leaving it stops what still runs."""

    def __init__(
        self, agents: Mapping[str, ServedAgent], outboxes: Outboxes, *, concurrency: int, grace: float
    ) -> None:
        self._agents = agents
        self._outboxes = outboxes
        self._free = concurrency
        self._grace = grace
        self._held: dict[str, Execution] = {}
        self._partial: dict[str, Assignment] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns = {
            agent_id: asyncio.Semaphore(agent.declaration.concurrency)
            for agent_id, agent in agents.items()
            if agent.declaration.concurrency
        }
        self._is_closing = False
        self.is_empty = asyncio.Event()
        """No run is held."""
        self.is_empty.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.give_up("SHUTDOWN")
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._grace)

    @property
    def unstoppable(self) -> list[str]:
        """Names of handlers that still run."""
        return [task.get_name() for task in self._tasks]

    def held(self) -> list[Held]:
        """What a Hello says of the runs."""
        return [
            Held(run_id=held.run.id, attempt=held.run.attempt, last_output=held.outbox.last)
            for held in self._held.values()
        ]

    def welcome(self, welcome: Welcome) -> None:
        """A core has taken this worker: go on with the runs it knows, give up the others, and ask for more."""
        self._outboxes.limit(outputs=welcome.max_unacked_outputs, size=welcome.max_unacked_bytes)
        answers = {answer.run_id: answer for answer in welcome.held if not answer.revoked}
        for run_id, execution in list(self._held.items()):
            answer = answers.get(run_id)
            if answer is None or answer.attempt != execution.run.attempt:
                self._drop(execution, "REVOKED")
            elif not execution.outbox.acked <= answer.accepted <= execution.outbox.last:
                log.error("impossible_count", run_id=run_id, accepted=answer.accepted)
                self._drop(execution, "REVOKED")
            else:
                execution.outbox.resume(answer.accepted)
                self._forget_if_over(execution)
        for answer in welcome.held:
            if not answer.revoked and answer.run_id not in self._held:
                self._decline(answer.run_id, answer.attempt, "NOT_HELD")  # given up since the Hello
        if self._is_closing:
            self._outboxes.say(WorkerMessage(drain=Drain()))
        elif self._free > 0:
            self._outboxes.credit(self._free)

    def disconnect(self) -> None:
        """The stream is gone. Handlers go on."""
        self._partial.clear()
        for execution in self._held.values():
            execution.outbox.rewind()

    def assign(self, assignment: Assignment) -> None:
        """A run to run. One that is held already is only confirmed: the core did not hear of it."""
        run_id, attempt = assignment.run.id, assignment.run.attempt
        held = self._held.get(run_id)
        if held is not None and held.run.attempt >= attempt:
            self._accept(held.run)
            return
        whole = self._assemble(assignment)
        if whole is None:
            return
        if held is not None:
            self._drop(held, "REVOKED")
        refusal = self._refusal(whole.run.agent_id)
        if refusal:
            log.warning("run_declined", run_id=run_id, agent_id=whole.run.agent_id, reason=refusal)
            self._decline(run_id, attempt, refusal)
            self._outboxes.credit(1)
            return
        self._start(whole)

    def ack(self, ack: Ack) -> None:
        """Outputs are stored."""
        execution = self._held.get(ack.run_id)
        if execution is not None and execution.run.attempt == ack.attempt:
            execution.outbox.accept(ack.accepted)
            self._forget_if_over(execution)

    def cancel(self, request: CancelRequested) -> None:
        """A run is to stop. The core ends it when the grace is over, whatever happens here."""
        execution = self._held.get(request.run_id)
        if execution is not None:
            execution.cancel(_reason(request.reason))

    def revoke(self, revoked: Revoked) -> None:
        """A run is somebody else's, or over."""
        execution = self._held.get(revoked.run_id)
        if execution is not None and execution.run.attempt == revoked.attempt:
            self._drop(execution, "REVOKED")

    def close(self) -> None:
        """Take no more runs, and tell the core."""
        self._is_closing = True
        self._outboxes.say(WorkerMessage(drain=Drain()))

    def give_up(self, reason: str) -> None:
        """Stop all handlers and hold nothing any more."""
        for execution in list(self._held.values()):
            self._drop(execution, reason)

    def give_back(self) -> None:
        """Return all runs to the core, which queues or cancels them (ENGINE.md I7)."""
        for execution in list(self._held.values()):
            self._drop(execution, "SHUTDOWN")
            self._decline(execution.run.id, execution.run.attempt, "DRAINING")

    def _assemble(self, assignment: Assignment) -> Assignment | None:
        """Records may come in several messages; None until the last."""
        run_id = assignment.run.id
        earlier = self._partial.pop(run_id, None)
        if earlier is not None and earlier.run.attempt == assignment.run.attempt:
            earlier.records.extend(assignment.records)
            earlier.more = assignment.more
            assignment = earlier
        if assignment.more:
            self._partial[run_id] = assignment
            return None
        return assignment

    def _refusal(self, agent_id: str) -> str:
        if self._is_closing:
            return "DRAINING"
        return "" if agent_id in self._agents else "UNKNOWN_AGENT"

    def _start(self, assignment: Assignment) -> None:
        run = Run(assignment)
        execution = Execution(self._agents[run.agent_id], run, self._outboxes.open(run.id, run.attempt))
        self._held[run.id] = execution
        self.is_empty.clear()
        self._accept(run)
        self._free -= 1
        task = asyncio.create_task(self._execute(execution), name=f"{run.agent_id} {run.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _execute(self, execution: Execution) -> None:
        turn = self._turns.get(execution.run.agent_id)
        if turn is None:
            await execution.execute()
        else:
            # The core keeps the limit too. It may be ahead of a handler that still cleans up after a lost run.
            async with turn:
                await execution.execute()
        self._free += 1
        if not self._is_closing:
            self._outboxes.credit(1)

    def _accept(self, run: Run) -> None:
        self._outboxes.say(WorkerMessage(accepted=Accepted(run_id=run.id, attempt=run.attempt)))

    def _decline(self, run_id: str, attempt: int, reason: str) -> None:
        decline = Decline(run_id=run_id, attempt=attempt, reason=reason)
        self._outboxes.say(WorkerMessage(decline=decline))

    def _forget_if_over(self, execution: Execution) -> None:
        if execution.has_ended and not execution.outbox.is_pending:
            self._forget(execution)

    def _drop(self, execution: Execution, reason: str) -> None:
        execution.drop(reason)
        self._forget(execution)

    def _forget(self, execution: Execution) -> None:
        del self._held[execution.run.id]
        if not self._held:
            self.is_empty.set()


def _reason(reason: EndReason.ValueType) -> str:
    """`USER` for END_REASON_USER; the number for one that this SDK does not know."""
    try:
        return EndReason.Name(reason).removeprefix("END_REASON_")
    except ValueError:
        return str(reason)
