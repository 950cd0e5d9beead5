"""The database's clock, as a core without a round trip can tell it: that of its machine, put right now and then.

What the store compares with its own time (deadlines, due times, graces) is computed from this clock, so that a core
whose machine is an hour wrong ends no run early and none late (ENGINE.md, "Times").
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from core_service.domain.errors import Refusal
from core_service.ports import Clock

log = structlog.get_logger(__name__)

EVERY_SECONDS = 30.0
LONGEST_ASK = 1_000_000
"""Microseconds. An answer that took longer says too little about when it was given."""
WORTH_TELLING = 1_000_000
"""Microseconds of difference, and of its change, that the log tells of."""


class StoreClock:
    """Implements `ports.Clock`. `ask` returns the store's time in microseconds since 1970 UTC."""

    def __init__(self, machine: Clock, ask: Callable[[], Awaitable[int]]) -> None:
        self._machine = machine
        self._ask = ask
        self._offset = 0
        self._told = 0

    def now(self) -> int:
        return self._machine.now() + self._offset

    def monotonic(self) -> float:
        return self._machine.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self._machine.sleep(seconds)

    async def align(self) -> None:
        """Ask once. Raises what `ask` raises."""
        before = self._machine.now()
        found = await self._ask()
        after = self._machine.now()
        if after - before > LONGEST_ASK:
            return
        self._offset = found - (before + after) // 2
        if abs(self._offset - self._told) >= WORTH_TELLING:
            self._told = self._offset
            log.warning("clock differs from the database's, which counts", seconds=round(self._offset / 1e6, 1))

    async def keep_aligned(self) -> None:
        """Ask now and then, until cancelled. While the store is away the last answer holds."""
        while True:
            await self._machine.sleep(EVERY_SECONDS)
            try:
                await self.align()
            except Refusal as error:
                log.warning("clock not aligned", reason=error.reason)
            except Exception:  # the loop must live
                log.exception("clock not aligned")
