"""A worker's way to call its core: the channel of its connection, whichever that is now.

A call is repeated until it is answered, for as long as somebody waits: who does is told when the worker gives up.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import grpc
import grpc.aio

from penstock.calls import Patience

Response = TypeVar("Response")


class Line:
    """Up while a connection is. Who calls waits until it is."""

    def __init__(self) -> None:
        self._channel: grpc.aio.Channel | None = None
        self._is_up = asyncio.Event()

    def put_up(self, channel: grpc.aio.Channel) -> None:
        """There is a connection."""
        self._channel = channel
        self._is_up.set()

    def take_down(self) -> None:
        """It is gone; calls that are under way are cut."""
        self._channel = None
        self._is_up.clear()

    async def channel(self) -> grpc.aio.Channel:
        """The channel, once there is one."""
        while self._channel is None:
            await self._is_up.wait()
        return self._channel

    async def call(self, attempt: Callable[[grpc.aio.Channel], Awaitable[Response]]) -> Response:
        """What the core answers. The call must be harmless to repeat; a refusal raises a PenstockError."""
        patience = Patience(math.inf)
        while True:
            channel = await self.channel()
            try:
                with cuts_pass():
                    return await attempt(channel)
            except grpc.aio.AioRpcError as error:
                await patience.bear(error)


@contextlib.contextmanager
def cuts_pass() -> Iterator[None]:
    """A channel that is closed cancels its calls, as if somebody had cancelled the caller. Here that is UNAVAILABLE."""
    try:
        yield
    except (asyncio.CancelledError, grpc.aio.UsageError):
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        none = grpc.aio.Metadata()
        raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, none, none, "the connection was closed") from None
