"""How many runs a worker takes: the credit that the core has, and the turns of agents with a limit of their own.

A run that waits, for an answer or for a child run, counts for neither (ENGINE.md D8), else a parent and its child could
block each other. One that goes on goes on at once: then there are more than the limit, and no new ones until some end.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping

from penstock.app import ServedAgent
from penstock.execution import Execution
from penstock.outboxes import Outboxes


class Capacity:
    """Who counts, and how much credit the core has left."""

    def __init__(self, outboxes: Outboxes, agents: Mapping[str, ServedAgent], *, concurrency: int) -> None:
        self._outboxes = outboxes
        self._concurrency = concurrency
        self._counted: set[Execution] = set()
        self._granted = 0
        self._grants = False
        self._turns = {agent_id: _Turns(agent.declaration.concurrency) for agent_id, agent in agents.items()}

    def connect(self, *, grants: bool) -> None:
        """A new stream: the core has no credit yet."""
        self._granted = 0
        self._grants = grants
        self._balance()

    def disconnect(self) -> None:
        """Credit is worth nothing without a stream, and for a worker that leaves."""
        self._grants = False

    def spend(self) -> None:
        """An assignment has come, and used one up."""
        self._granted = max(self._granted - 1, 0)

    def give_back(self) -> None:
        """Nothing came of the assignment."""
        self._balance()

    def admit(self, execution: Execution) -> None:
        """A run counts from its assignment."""
        self._counted.add(execution)

    async def turn(self, execution: Execution) -> None:
        """Return once its agent may run one more."""
        await self._turns[execution.run.agent_id].take(execution)

    def rest(self, execution: Execution) -> None:
        """A run waits, or is over."""
        self._counted.discard(execution)
        self._turns[execution.run.agent_id].give_back(execution)
        self._balance()

    def go_on(self, execution: Execution) -> None:
        """A run that waited goes on."""
        self._counted.add(execution)
        self._turns[execution.run.agent_id].take_at_once(execution)

    def _balance(self) -> None:
        missing = self._concurrency - len(self._counted) - self._granted
        if missing > 0 and self._grants:
            self._granted += missing
            self._outboxes.credit(missing)


class _Turns:
    """The turns of one agent. The core keeps the limit too; it may be ahead of a handler that still cleans up."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._holders: set[Execution] = set()
        self._queue: deque[asyncio.Future[None]] = deque()

    async def take(self, execution: Execution) -> None:
        while self._is_full:
            turn = asyncio.get_running_loop().create_future()
            self._queue.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                self._call_next()
                raise
        self._holders.add(execution)

    def take_at_once(self, execution: Execution) -> None:
        self._holders.add(execution)

    def give_back(self, execution: Execution) -> None:
        self._holders.discard(execution)
        self._call_next()

    @property
    def _is_full(self) -> bool:
        return 0 < self._limit <= len(self._holders)

    def _call_next(self) -> None:
        while self._queue and not self._is_full:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
