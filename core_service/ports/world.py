"""Time, and the doorbells between cores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """Time. Tests move it by hand."""

    def now(self) -> int:
        """Return the time of day in microseconds since 1970 UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        ...


@dataclass(frozen=True, slots=True)
class Ring:
    """A doorbell: it says that something may have changed, and carries no data."""

    topic: str
    """`run` (events were appended), `work` (a run of an agent waits), `signal` (a cancel or an answer waits) or
    `expired` (events of a run were deleted)."""
    key: str
    """The run, or for `work` the agent."""


class Bus(Protocol):
    """Doorbells between cores. A lost ring costs latency, never correctness."""

    def ring(self, rings: Sequence[Ring]) -> None:
        """Ring at every listener, this core's included. Never blocks, never raises."""
        ...

    def listen(self, topic: str, listener: Callable[[str], None]) -> AbstractAsyncContextManager[None]:
        """Call `listener` in the event loop with the key of each ring of a topic while the context is open."""
        ...
