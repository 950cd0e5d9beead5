"""The runs that a worker holds: started, cancelled, parked, given up, forgotten.

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
from penstock.assembly import Assembly
from penstock.capacity import Capacity
from penstock.execution import Execution
from penstock.idleness import Activity
from penstock.line import Line
from penstock.outboxes import Outboxes
from penstock.parking import Parking
from penstock.reasons import reason_name
from penstock.run import Run
from penstock.v1.worker_service_pb2 import (
    Accepted,
    Ack,
    Answered,
    Assignment,
    CancelRequested,
    Decline,
    Drain,
    Held,
    Released,
    Revoked,
    Steered,
    Welcome,
    WorkerMessage,
)

log = structlog.get_logger(__name__)


class Executions:
    """All runs of a worker. An async context manager: leaving it stops what still runs."""

    def __init__(
        self,
        agents: Mapping[str, ServedAgent],
        outboxes: Outboxes,
        line: Line,
        *,
        concurrency: int,
        grace: float = 10.0,
        park_seconds: float = 600.0,
        max_parked: int = 1000,
    ) -> None:
        self._agents = agents
        self._outboxes = outboxes
        self._line = line
        self._grace = grace
        self._held: dict[str, Execution] = {}
        self._assembly = Assembly()
        self._tasks: set[asyncio.Task[None]] = set()
        self._capacity = Capacity(outboxes, agents, concurrency=concurrency)
        self._parking = Parking(seconds=park_seconds, places=max_parked, let_go=self._let_go)
        self._released: dict[str, Held] = {}
        """Runs that were let go, until a core has said that they are not this worker's any more."""
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
        """What a Hello says of the runs. Of one that was let go the core may not have heard."""
        return [_as_held(execution) for execution in self._held.values()] + list(self._released.values())

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
        self._released = {run_id: held for run_id, held in self._released.items() if run_id in answers}
        for answer in answers.values():
            if answer.run_id in self._released:
                self._say_released(answer.run_id, answer.attempt)
            elif answer.run_id not in self._held:
                self._decline(answer.run_id, answer.attempt, "NOT_HELD")  # given up since the Hello
        if self._is_closing:
            self._outboxes.say(WorkerMessage(drain=Drain()))
        self._capacity.connect(grants=not self._is_closing)

    def disconnect(self) -> None:
        """The stream is gone. Handlers go on."""
        self._capacity.disconnect()
        self._assembly.clear()
        for execution in self._held.values():
            execution.outbox.rewind()

    def assign(self, assignment: Assignment) -> None:
        """A run to run. One that is held already is only confirmed: the core did not hear of it."""
        run_id, attempt = assignment.run.id, assignment.run.attempt
        held = self._held.get(run_id)
        if held is not None and held.run.attempt >= attempt:
            self._accept(held.run)
            return
        whole = self._assembly.put(assignment)
        if whole is None:
            return
        self._capacity.spend()
        self._released.pop(run_id, None)
        if held is not None:
            self._drop(held, "REVOKED")
        refusal = self._refusal(whole.run.agent_id)
        if refusal:
            log.warning("run_declined", run_id=run_id, agent_id=whole.run.agent_id, reason=refusal)
            self._decline(run_id, attempt, refusal)
            self._capacity.give_back()
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
            execution.cancel(reason_name(request.reason))

    def answer(self, answered: Answered) -> None:
        """A question was settled."""
        execution = self._held.get(answered.run_id)
        if execution is None:
            self._assembly.answer(answered)
        else:
            execution.answer(answered.key, answered.answer)

    def steer(self, steered: Steered) -> None:
        """A message for a handler."""
        execution = self._held.get(steered.run_id)
        if execution is None:
            self._assembly.steer(steered)
        else:
            execution.steer(steered.message)

    def revoke(self, revoked: Revoked) -> None:
        """A run is somebody else's, or over."""
        execution = self._held.get(revoked.run_id)
        if execution is not None and execution.run.attempt == revoked.attempt:
            self._drop(execution, "REVOKED")

    def close(self) -> None:
        """Take no more runs, let go those that wait, and tell the core."""
        self._is_closing = True
        self._capacity.disconnect()
        self._outboxes.say(WorkerMessage(drain=Drain()))
        self._parking.close()

    def give_up(self, reason: str) -> None:
        """Stop all handlers and hold nothing any more."""
        for execution in list(self._held.values()):
            self._drop(execution, reason)

    def give_back(self) -> None:
        """Return all runs to the core, which queues or cancels them (ENGINE.md I7)."""
        for execution in list(self._held.values()):
            self._drop(execution, "SHUTDOWN")
            self._decline(execution.run.id, execution.run.attempt, "DRAINING")

    def _refusal(self, agent_id: str) -> str:
        if self._is_closing:
            return "DRAINING"
        return "" if agent_id in self._agents else "UNKNOWN_AGENT"

    def _start(self, assignment: Assignment) -> None:
        run = assignment.run
        outbox = self._outboxes.open(run.id, run.attempt)
        execution = Execution(self._agents[run.agent_id], assignment, outbox, self._line, self._hear)
        self._held[run.id] = execution
        self.is_empty.clear()
        self._accept(execution.run)
        self._capacity.admit(execution)
        task = asyncio.create_task(self._execute(execution), name=f"{run.agent_id} {run.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _execute(self, execution: Execution) -> None:
        await self._capacity.turn(execution)
        await execution.execute()
        self._parking.leave(execution)
        self._capacity.rest(execution)

    def _hear(self, execution: Execution, activity: Activity) -> None:
        """A run begins to wait, or goes on."""
        self._parking.leave(execution)
        if activity is Activity.BUSY:
            self._capacity.go_on(execution)
        else:
            self._capacity.rest(execution)
        if activity is Activity.WAITING:
            self._parking.park(execution)

    def _let_go(self, execution: Execution) -> None:
        """A parked run has waited long enough here."""
        execution.suspend()
        asyncio.get_running_loop().call_later(self._grace, execution.stop)
        self._forget_if_over(execution)

    def _accept(self, run: Run) -> None:
        self._outboxes.say(WorkerMessage(accepted=Accepted(run_id=run.id, attempt=run.attempt)))

    def _decline(self, run_id: str, attempt: int, reason: str) -> None:
        decline = Decline(run_id=run_id, attempt=attempt, reason=reason)
        self._outboxes.say(WorkerMessage(decline=decline))

    def _forget_if_over(self, execution: Execution) -> None:
        if not execution.is_over or execution.outbox.is_pending:
            return
        self._forget(execution)
        if execution.is_suspended:
            self._released[execution.run.id] = _as_held(execution)
            self._say_released(execution.run.id, execution.run.attempt)

    def _say_released(self, run_id: str, attempt: int) -> None:
        self._outboxes.say(WorkerMessage(released=Released(run_id=run_id, attempt=attempt)))

    def _drop(self, execution: Execution, reason: str) -> None:
        execution.drop(reason)
        self._forget(execution)

    def _forget(self, execution: Execution) -> None:
        self._parking.leave(execution)
        del self._held[execution.run.id]
        if not self._held:
            self.is_empty.set()


def _as_held(execution: Execution) -> Held:
    return Held(run_id=execution.run.id, attempt=execution.run.attempt, last_output=execution.outbox.last)
