"""Handlers that wait for an answer, and for how long this process keeps them (ENGINE.md F2)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from penstock.execution import Execution


class Parking:
    """Who is parked, in order. `let_go` is called for each that has waited too long, or for whom there is no room."""

    def __init__(self, *, seconds: float, places: int, let_go: Callable[[Execution], None]) -> None:
        self._seconds = seconds
        self._places = places
        self._let_go = let_go
        self._parked: dict[Execution, asyncio.TimerHandle] = {}

    def park(self, execution: Execution) -> None:
        """It waits. One that cannot be run again stays as long as it must, and takes no place."""
        if not execution.may_be_suspended:
            return
        loop = asyncio.get_running_loop()
        self._parked[execution] = loop.call_later(self._seconds, self._dismiss, execution)
        while len(self._parked) > self._places:
            self._dismiss(next(iter(self._parked)))

    def leave(self, execution: Execution) -> None:
        """It goes on, or is gone."""
        timer = self._parked.pop(execution, None)
        if timer is not None:
            timer.cancel()

    def close(self) -> None:
        """Let all go, also those who come from now on."""
        self._places = 0
        for execution in list(self._parked):
            self._dismiss(execution)

    def _dismiss(self, execution: Execution) -> None:
        self.leave(execution)
        self._let_go(execution)
