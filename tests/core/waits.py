"""Waiting for what cannot be awaited: a poll of something real, with a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tests.core.faults import WAIT

PAUSE = 0.005


async def until(is_true: Callable[[], Awaitable[bool]]) -> None:
    """Return once `is_true`; fail after a while."""
    async with asyncio.timeout(WAIT):
        while not await is_true():
            await asyncio.sleep(PAUSE)
