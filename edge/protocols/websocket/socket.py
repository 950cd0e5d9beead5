"""One open socket: what it watches, and the one way to its client.

Owns the order of what is written and how much may wait. Each watched run has a task that takes events from its watch
only when the socket can be written to: what the client does not read stays in the watches' buffers, and leaves them
once the client has stalled; then it is told where to go on. It does not know what clients ask for.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from edge.errors import Refusal
from edge.protocols.websocket import frames
from edge.sse import MAX_EVENTS, cut, encode
from edge.streams import OpenStream, Streams
from edge.watch import Watch, WatchBatch
from penstock.v1.run_service_pb2 import WatchRunResponse


@dataclass(slots=True, eq=False)
class Watched:
    """A run that a socket watches."""

    watch: Watch
    written: int
    """Seq of the newest event that the client was sent."""
    encoder: frames.SocketEncoder
    is_dropped: bool = False
    """What waited was given up: the client is to watch again."""
    task: asyncio.Task[None] | None = None


class Socket:
    """What is open between one client and this edge. Use it in a `with`, inside of `tasks`."""

    def __init__(
        self, request: web.Request, writer: AbstractStreamWriter, streams: Streams, tasks: asyncio.TaskGroup, limit: int
    ) -> None:
        self.stream = OpenStream(request, writer, self, is_resumable=True, comment=frames.PING)
        self.closing = asyncio.Event()
        """Set when the edge shuts down."""
        self._streams = streams
        self._tasks = tasks
        self._limit = limit
        self._turn = asyncio.Lock()
        self._watched: dict[str, Watched] = {}
        self._relays: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unwatch_all()

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._watched

    def check_room(self) -> None:
        """Refuse one more watch when there are as many as may be."""
        if len(self._watched) >= self._limit:
            message = f"This socket watches {self._limit} runs already: unwatch one, or open another socket."
            raise Refusal(429, "TOO_MANY_WATCHES", message)

    def watch(self, watch: Watch, after: int) -> None:
        """Send the events of a watch until its run has ended, behind what the caller sends next. Closes the watch."""
        watched = Watched(watch, after, frames.SocketEncoder(watch.run_id))
        self._watched[watch.run_id] = watched
        # Turns are taken in order, and the task begins only when its creator waits: for its own turn.
        watched.task = self._tasks.create_task(self._relay(watched), name=f"relay {watch.run_id}")
        self._relays.add(watched.task)
        watched.task.add_done_callback(self._relays.discard)

    def unwatch(self, run_id: str) -> int:
        """Send no more of a run; return the seq of the last event that was. Raises Refusal."""
        if run_id not in self._watched:
            raise Refusal(404, "NOT_WATCHED", "This socket does not watch that run.", run_id=run_id)
        watched = self._watched.pop(run_id)
        _end(watched)
        return watched.written

    def unwatch_all(self) -> None:
        """Send no more of any run."""
        for watched in self._watched.values():
            _end(watched)
        self._watched.clear()
        for relay in self._relays:
            relay.cancel()  # also those that still tell of an end

    async def send(self, frame: bytes) -> None:
        """Send what is no event of a run; returns once the client has read enough of what came before."""
        async with self._turn:
            await self._write(frame)

    def drop(self) -> bool:
        """Give up what waits for a client that reads nothing. Part of `Held`."""
        dropped = [watched for watched in self._watched.values() if watched.watch.drop()]
        for watched in dropped:
            watched.is_dropped = True
        return bool(dropped)

    def fail(self, _error: Exception) -> None:
        """Close in good order. Part of `Held`."""
        self.closing.set()

    async def _relay(self, watched: Watched) -> None:
        watch = watched.watch
        with watch, suppress(ConnectionError):  # whoever reads the socket hears of it, too
            try:
                while await self._next(watched):
                    pass
            except Refusal as refusal:
                self._forget(watched)
                await self.send(frames.error(refusal, run_id=watch.run_id, after=watched.written))

    def _forget(self, watched: Watched) -> None:
        """Before the last message about a watch: who reads that may ask for the run at once."""
        if self._watched.get(watched.watch.run_id) is watched:
            del self._watched[watched.watch.run_id]

    async def _next(self, watched: Watched) -> bool:
        """Send the next batch of a run; tell whether there may be more. Nothing is taken before it can be sent."""
        await watched.watch.ready()
        async with self._turn:
            if watched.is_dropped:
                return await self._tell_to_come_back(watched)
            batch = await anext(watched.watch)
            return await self._pass_on(watched, batch)

    async def _pass_on(self, watched: Watched, batch: WatchBatch) -> bool:
        for piece in cut(batch.events):
            events = WatchRunResponse.FromString(piece).events
            data, count, last_seq = encode(watched.encoder, events, watched.written), len(events), events[-1].seq
            del events  # a slow client must not hold them
            watched.written = last_seq
            if watched.encoder.ended:
                self._forget(watched)
            self._streams.events += count
            await self._write(data)
            if watched.is_dropped:
                return await self._tell_to_come_back(watched)
            if count == MAX_EVENTS:
                await asyncio.sleep(0)  # a replay leaves room for others
        return not batch.ended

    async def _tell_to_come_back(self, watched: Watched) -> bool:
        self._forget(watched)
        await self._write(frames.rewatch(watched.watch.run_id, watched.written))
        return False

    async def _write(self, data: bytes) -> None:
        if not self.closing.is_set():  # nothing may follow the close frame
            self._streams.bytes += len(data)
            await self.stream.write(data)


def _end(watched: Watched) -> None:
    if watched.task is not None:
        watched.task.cancel()
    watched.watch.__exit__(None, None, None)  # of its own: a task that is cancelled before it began runs no `with`
