"""Calls that survive a restart of the core: repeated while the failure is one that passes."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc.aio

from penstock.refusals import is_passing, refusal

Response = TypeVar("Response")

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 1.0


class Patience:
    """How long a failure that passes is borne, and the pauses between the attempts."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.renew()

    def renew(self) -> None:
        """Something worked: start anew."""
        self._ends = time.monotonic() + self._seconds
        self._pause = FIRST_PAUSE

    async def bear(self, error: grpc.aio.AioRpcError) -> None:
        """Return after a pause when another attempt may help; else raise what the error means."""
        if not is_passing(error) or time.monotonic() + self._pause > self._ends:
            raise refusal(error) from error
        await asyncio.sleep(random.uniform(self._pause / 2, self._pause))
        self._pause = min(2 * self._pause, LONGEST_PAUSE)


async def call(attempt: Callable[[], Awaitable[Response]], *, patience: float) -> Response:
    """What `attempt` returns, repeated for `patience` seconds. It must be harmless to repeat: see `request_id`."""
    waiting = Patience(patience)
    while True:
        try:
            return await attempt()
        except grpc.aio.AioRpcError as error:
            await waiting.bear(error)
