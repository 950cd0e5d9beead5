"""A worker's way to call its core: the channel of its connection, whichever that is now."""

from __future__ import annotations

import asyncio

import grpc.aio


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
