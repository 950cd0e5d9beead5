"""A clock that stands still until a test moves it, for cores on SQLite, whose time it is."""

from __future__ import annotations

import asyncio

START = 1_800_000_000_000_000
MICROS = 1_000_000
PATIENCE = 0.5
"""Real seconds that are given to somebody who was woken and does not sleep again."""


class HandClock:
    """Implements `ports.Clock`."""

    def __init__(self) -> None:
        self._micros = START
        self._sleepers: list[tuple[int, asyncio.Future[None]]] = []

    def now(self) -> int:
        return self._micros

    def monotonic(self) -> float:
        return self._micros / MICROS

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._micros + round(seconds * MICROS), future))
        await future

    async def forward(self, seconds: float) -> None:
        """Move on, from one sleeper's time to the next, so that everything happens in its order."""
        end = self._micros + round(seconds * MICROS)
        while self._sleepers and (due := min(time for time, _ in self._sleepers)) <= end:
            self._micros = max(self._micros, due)
            await self._wake()
        self._micros = end

    async def _wake(self) -> None:
        """Wake whose time has come, and wait until they sleep again: loops do, when they have done their work."""
        asleep = len(self._sleepers)
        due = [future for time, future in self._sleepers if time <= self._micros]
        self._sleepers = [sleeper for sleeper in self._sleepers if sleeper[0] > self._micros]
        for future in due:
            if future.done():  # its sleeper was cancelled
                asleep -= 1
            else:
                future.set_result(None)
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while len(self._sleepers) < asleep and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.0005)
