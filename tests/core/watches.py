"""Clients that watch: one run per call, or many on one stream. What they see is kept for the check at the end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

import grpc

from penstock.v1.run_pb2 import Run
from penstock.v1.run_service_pb2 import (
    CreateRunRequest,
    WatchAction,
    WatchCreate,
    WatchManyRequest,
    WatchManyResponse,
    WatchPart,
    WatchRunResponse,
    WatchStart,
    WatchStop,
)
from tests.core.faults import WAIT
from tests.core.logs import Sighting

if TYPE_CHECKING:  # types without code
    from penstock.v1.run_service_pb2_grpc import RunServiceAsyncStub


class Watch:
    """A WatchRun or StreamRun call, read message by message: what is not read is not taken from the network."""

    def __init__(self, call: grpc.aio.UnaryStreamCall[Any, WatchRunResponse], sighting: Sighting) -> None:
        self._call = call
        self.seen = sighting
        self.messages: list[WatchRunResponse] = []

    async def read(self) -> WatchRunResponse | None:
        """Read one message; None at the end of the stream. Raises the refusal that ended it."""
        async with asyncio.timeout(WAIT):
            message = await self._call.read()
        if not isinstance(message, WatchRunResponse):
            return None
        self.messages.append(message)
        self.seen.run_id = self.seen.run_id or message.run_id
        self.seen.events.extend(message.events)
        return message

    async def read_to(self, seq: int) -> Self:
        """Read until an event has been seen."""
        while self.seen.cursor < seq:
            assert await self.read() is not None, f"the stream ended at {self.seen.cursor}, before {seq}"
        return self

    async def read_to_end(self) -> Self:
        """Read until the stream is over."""
        while await self.read() is not None:
            pass
        return self

    def cancel(self) -> None:
        """Go away."""
        self._call.cancel()


class ManyWatches:
    """A WatchMany call. Parts are sorted by watch as they come."""

    def __init__(self, stub: RunServiceAsyncStub, sightings: list[Sighting]) -> None:
        self._call = stub.WatchMany()
        self._sightings = sightings
        self.seen: dict[int, Sighting] = {}
        self.parts: dict[int, list[WatchPart]] = {}
        self.messages: list[WatchManyResponse] = []

    async def start(self, watch_id: int, run_id: str, after: int = 0) -> Sighting:
        """Start a watch."""
        start = WatchStart(watch_id=watch_id, run_id=run_id, after_seq=after)
        self._expect(watch_id, Sighting(run_id, after))
        await self.send(WatchAction(start=start))
        return self.seen[watch_id]

    async def create(self, watch_id: int, create: CreateRunRequest, **caller: str) -> None:
        """Create a run and start a watch of it; whose events these are is known from the first part on."""
        self._expect(watch_id, Sighting("", 0))
        await self.send(WatchAction(create=WatchCreate(watch_id=watch_id, create=create, caller=caller)))

    async def stop(self, watch_id: int) -> None:
        """Stop a watch."""
        await self.send(WatchAction(stop=WatchStop(watch_id=watch_id)))

    async def send(self, *actions: WatchAction) -> None:
        """Say all of it in one message."""
        await self._call.write(WatchManyRequest(actions=actions))

    def _expect(self, watch_id: int, sighting: Sighting) -> None:
        self.seen[watch_id] = sighting
        self._sightings.append(sighting)
        self.parts[watch_id] = []

    async def read(self) -> WatchManyResponse | None:
        """Read one message; None at the end of the stream. Raises the refusal that ended it."""
        async with asyncio.timeout(WAIT):
            message = await self._call.read()
        if not isinstance(message, WatchManyResponse):
            return None
        self.messages.append(message)
        for part in message.parts:
            self._note(part)
        return message

    async def read_until_over(self, *watch_ids: int) -> None:
        """Read until these watches have ended or were refused."""
        while not all(self.is_over(watch_id) for watch_id in watch_ids):
            assert await self.read() is not None, "the stream ended"

    async def read_created(self, watch_id: int) -> Run:
        """Read until a create was answered, and return the run. Raises AssertionError when it was refused."""
        while not self.parts[watch_id]:
            assert await self.read() is not None, "the stream ended"
        first = self.parts[watch_id][0]
        assert first.HasField("created"), first
        return first.created.run

    async def read_to(self, watch_id: int, seq: int) -> None:
        """Read until a watch has seen an event."""
        while self.seen[watch_id].cursor < seq:
            assert await self.read() is not None, "the stream ended"

    def is_over(self, watch_id: int) -> bool:
        """Tell whether a watch has ended or was refused."""
        parts = self.parts[watch_id]
        return bool(parts) and (parts[-1].ended or parts[-1].HasField("error"))

    async def close(self) -> None:
        """Say that nothing more will be asked for."""
        await self._call.done_writing()

    def cancel(self) -> None:
        """Go away."""
        self._call.cancel()

    def _note(self, part: WatchPart) -> None:
        self.parts[part.watch_id].append(part)
        seen = self.seen[part.watch_id]
        seen.run_id = seen.run_id or part.created.run.id
        seen.events.extend(WatchRunResponse.FromString(part.events).events)
        if part.events:
            assert seen.events[-1].seq == part.last_seq
        else:
            assert part.last_seq == 0
