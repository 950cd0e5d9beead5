"""One watcher's place in one run, and what waits for it.

Owns the buffer between the shared watch stream and one client: its bound, its seqs, and the wake-up; and the wait for a
run that is created with its watch. It knows no stream and no HTTP. Nothing here blocks the side that fills it: at the
bound the watch is stopped at its source, and started again where the buffer ends once the client has taken most of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import grpc

from edge.errors import transport_refusal
from penstock.v1.run_pb2 import Run
from penstock.v1.run_service_pb2 import CreateRunRequest, WatchPart

TAKE_BYTES = 64 << 10
"""What a watcher is given at once, roughly: the size of a part in a replay."""

_PART_OVERHEAD = 120
"""What Python adds to a waiting part: many small ones must not outgrow the bound."""


@dataclass(frozen=True, slots=True)
class WatchBatch:
    """News of one run."""

    events: bytes
    """A serialised WatchRunResponse with only events, consecutive; may be empty."""
    last_seq: int
    """Seq of the newest event that was handed over, this batch included."""
    caught_up: bool
    """The history ends with this batch or ended before it: what follows is live."""
    ended: bool
    """The run has ended, and this batch holds its last event."""


class Held(Protocol):
    """What waits for one client."""

    def fail(self, error: Exception) -> None:
        """End it with a refusal, once what waits was taken."""
        ...

    def drop(self) -> bool:
        """Forget what waits, for a client that takes nothing: it is read again. False when nothing was held."""
        ...


class Batches(Held, AsyncIterable[WatchBatch], Protocol):
    """What a stream relays to one client: events in order, of one run or of several. Use it in a `with`."""

    @property
    def name(self) -> str:
        """The run or the thread, for the log."""
        ...

    async def ready(self) -> None:
        """Return once the next batch can be had without waiting. Raises the refusal that ends the watch."""
        ...

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run that a watch is to create before it can be served."""

    create: CreateRunRequest
    """Has a request_id, since it may have to be said again."""
    caller: Mapping[str, str]
    """On whose behalf: what the metadata of a call would say."""
    deadline: float
    """When its answer is not waited for any more, by the loop's clock."""


class Source(Protocol):
    """Where watches are served; see `edge/watches.py`."""

    def start(self, watch: Watch) -> None:
        """Serve the watch after `watch.tail`."""
        ...

    def stop(self, watch: Watch) -> None:
        """Serve it no more."""
        ...


class Watch(AsyncIterator[WatchBatch]):
    """Batches of one run, in order and without gap. Use it in a `with`; one reader at a time.

    Iteration stops after the batch that ends the run, and raises Refusal when the core refuses the watch or stays away.
    """

    __slots__ = (
        "_bound",
        "_caught_up",
        "_created",
        "_ended",
        "_failure",
        "_has_news",
        "_parts",
        "_size",
        "_source",
        "_taken",
        "_waiter",
        "followers",
        "new_run",
        "patience_until",
        "run_id",
        "tail",
        "watch_id",
    )

    def __init__(self, source: Source, run_id: str, *, after: int, bound: int, new_run: NewRun | None = None) -> None:
        self.run_id = run_id
        """Empty while the run is not created."""
        self.new_run = new_run
        """What is to be created; None once it is."""
        self.tail = after
        """Seq of the newest event that is here: a (re)start goes on after it."""
        self.watch_id = 0
        """Its id on the stream, or that of the watch it follows; 0 while it is not served."""
        self.followers: list[Watch] | None = None
        """For the source: watches of the same run that are served along with this one; see `edge/sharing.py`."""
        self.patience_until = 0.0
        """For the source: when to give up, while there is trouble."""
        self._source = source
        self._bound = bound
        self._taken = after
        self._parts: list[tuple[int, bytes]] = []  # not a deque: an empty one costs 600 bytes per idle stream
        self._size = 0
        self._has_news = self._caught_up = self._ended = False
        self._created: Run | None = None
        self._failure: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._source.stop(self)

    @property
    def name(self) -> str:
        return self.run_id

    async def __anext__(self) -> WatchBatch:
        if not self._parts and not self._has_news and self._ended:
            raise StopAsyncIteration
        await self.ready()
        return self._take()

    async def ready(self) -> None:
        """Return once the next batch can be had without waiting. Raises the refusal of this watch."""
        while not self._parts and not self._has_news:
            await self._woken()

    async def created(self) -> Run:
        """Return the run that this watch creates, once it is stored; ask once. Raises the refusal of the create.

        Whoever breaks off this wait may ask again: the create goes on until the watch is closed.
        """
        deadline = self.new_run.deadline if self.new_run is not None else None
        try:
            async with asyncio.timeout_at(deadline):
                while self._created is None:
                    await self._woken()
        except TimeoutError:
            is_away = bool(self.patience_until)
            code = grpc.StatusCode.UNAVAILABLE if is_away else grpc.StatusCode.DEADLINE_EXCEEDED
            raise transport_refusal(code) from None
        created, self._created = self._created, None  # an idle stream holds nothing
        return created

    async def _woken(self) -> None:
        """Wait until the source has said something. Raises the refusal of this watch."""
        if self._failure is not None:
            raise self._failure
        if self._is_stopped():
            self._source.start(self)
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def put(self, part: WatchPart) -> bool:
        """Add news. Returns False at the bound: then the source stops the watch, and `ready` starts it again."""
        if self.new_run is not None and part.HasField("created"):
            run = part.created.run
            self.run_id, self._created, self.new_run = run.id, run, None
        if part.events:
            self._parts.append((part.last_seq, part.events))
            self._size += len(part.events) + _PART_OVERHEAD
            self.tail = part.last_seq
        self._caught_up |= part.caught_up
        self._ended |= part.ended
        self._has_news |= part.caught_up or part.ended
        self._wake()
        return self._size <= self._bound

    def fail(self, error: Exception) -> None:
        """End the watch with a refusal, once what waits was taken."""
        self._failure = error
        self._wake()

    def drop(self) -> bool:
        """Forget what waits, for a client that takes nothing: it is read again after the last batch taken."""
        if not self._parts:
            return False
        self._source.stop(self)
        self._parts.clear()
        self._size = 0
        self.tail = self._taken
        self._has_news = self._caught_up = self._ended = False
        return True

    def _take(self) -> WatchBatch:
        count = size = 0
        for _, events in self._parts:
            count += 1
            size += len(events)
            if size >= TAKE_BYTES:
                break
        taken = self._parts[:count]
        del self._parts[:count]
        self._size -= size + count * _PART_OVERHEAD
        if taken:
            self._taken = taken[-1][0]
        self._has_news = False
        if self._is_stopped() and self._size <= self._bound // 2:
            self._source.start(self)
        is_last = not self._parts
        events = taken[0][1] if count == 1 else b"".join([events for _, events in taken])
        return WatchBatch(events, self._taken, self._caught_up and is_last, self._ended and is_last)

    def _is_stopped(self) -> bool:
        """Neither served, nor about to be, nor over."""
        return not (self.watch_id or self.patience_until or self._ended or self._failure)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
