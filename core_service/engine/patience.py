"""Asking the store again while it is away (ENGINE.md L2), for what must happen and may happen late."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from core_service.domain.errors import StoreFull, StoreUnavailable
from core_service.ports import Clock

T = TypeVar("T")

FIRST_PAUSE = 0.01
LONGEST_PAUSE = 1.0


async def patiently(clock: Clock, call: Callable[[], Awaitable[T]]) -> T:
    """Return the result of `call`, made again until the store answers. It must be harmless to repeat."""
    pause = FIRST_PAUSE
    while True:
        try:
            return await call()
        except (StoreUnavailable, StoreFull):
            await clock.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
