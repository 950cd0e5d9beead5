"""Many watches on one stream, for edges: one message carries the news of all watches that have some.

A watch takes its turn round robin, with at most 64 KiB; a message has at most 1 MiB. A watch that must read history, or
whose run is being created, does so beside the others and never delays them. When the edge does not read, nothing is
taken and nothing grows. How a run is created is not known here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from types import TracebackType
from typing import Self

import structlog

from core_service.domain.errors import CoreDraining, Refusal, WorkerProtocol
from core_service.engine.creates import Creates
from core_service.engine.watch import Watcher, WatchHub
from core_service.rpc.errors import Note, bind_request_id, code_name, watch_error
from penstock.v1.run_service_pb2 import (
    CreateRunResponse,
    WatchCreate,
    WatchManyRequest,
    WatchManyResponse,
    WatchPart,
    WatchStart,
)

log = structlog.get_logger(__name__)

PART_BYTES = 64 << 10
MESSAGE_BYTES = 1 << 20
PARALLEL_READS = 8
PROGRESS_SECONDS = 10.0
METHOD = "/penstock.v1.RunService/WatchMany"


class _Watch:
    """One watch of the stream."""

    __slots__ = ("caught_up", "created", "queued", "watch_id", "watcher")

    def __init__(self, watch_id: int) -> None:
        self.watch_id = watch_id
        self.watcher: Watcher | None = None
        """None until it is known where the log ends, or while the run is being created."""
        self.created: CreateRunResponse | None = None
        """What came of the create of its run, until the edge has been told."""
        self.caught_up = False
        self.queued = False
        """It is in the ready queue, or a read of it is under way."""


class WatchMany:
    """The watches of one stream. An async context manager that closes them all.

    `note_create` is told the name of the code with which each create ended.
    """

    def __init__(self, hub: WatchHub, creates: Creates, tenant: str, note_create: Note) -> None:
        self._hub = hub
        self._creates = creates
        self._tenant = tenant
        self._note_create = note_create
        self._watches: dict[int, _Watch] = {}
        self._ready: deque[_Watch] = deque()
        self._refused: list[WatchPart] = []
        self._wake = asyncio.Event()
        self._reads = asyncio.Semaphore(PARALLEL_READS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_due = False
        """A sign of life."""
        self._closed = False
        self._failure: BaseException | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for watch_id in list(self._watches):
            self._stop(watch_id)

    async def serve(self, requests: AsyncIterator[WatchManyRequest]) -> AsyncIterator[WatchManyResponse]:
        """Follow the requests and yield news, until the edge closes its side or the core drains."""
        self._spawn(self._follow(requests))
        self._spawn(self._keep_alive())
        while True:
            await self._wake.wait()
            self._wake.clear()
            while (message := self._collect()).parts:
                yield message
            if self._is_due:
                self._is_due = False
                yield message
            if self._failure is not None:
                raise self._failure
            if self._closed:
                return
            if self._hub.draining and not self._is_busy():
                raise CoreDraining("This core shuts down; watch again behind the last events.")

    # ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _follow(self, requests: AsyncIterator[WatchManyRequest]) -> None:
        async for request in requests:
            for action in request.actions:
                match action.WhichOneof("action"):
                    case "start":
                        await self._start(action.start)
                    case "create":
                        self._create(action.create)
                    case "stop":
                        self._stop(action.stop.watch_id)
                    case _:  # a newer edge's wish: it will see that nothing comes of it
                        continue
        self._closed = True
        self._wake.set()

    async def _start(self, start: WatchStart) -> None:
        watch = self._admit(start.watch_id)
        if watch is None:
            return
        try:
            await self._open(watch, start.run_id, start.after_seq)
        except Refusal as refusal:
            self._refuse(watch, refusal)

    def _create(self, create: WatchCreate) -> None:
        watch = self._admit(create.watch_id)
        if watch is not None:
            self._spawn(self._create_and_open(watch, create))

    async def _create_and_open(self, watch: _Watch, create: WatchCreate) -> None:
        bind_request_id(create.caller.items())
        try:
            watch.created = await self._creates.create(self._tenant, create.create)
            self._note_create("OK")
            await self._open(watch, watch.created.run.id, 0)
        except Exception as error:  # noqa: BLE001 - `watch_error` logs what is not a refusal
            if watch.created is None:
                self._note_create(code_name(error))
            self._refuse(watch, error)

    def _admit(self, watch_id: int) -> _Watch | None:
        """Give a number to a new watch. None: it is refused."""
        watch = _Watch(watch_id)
        if watch_id <= 0 or watch_id in self._watches:
            refusal = WorkerProtocol("A watch_id must be above 0 and not in use on this stream.")
            self._say(WatchPart(watch_id=watch_id, error=watch_error(refusal, METHOD)))
            return None
        self._watches[watch_id] = watch
        return watch

    async def _open(self, watch: _Watch, run_id: str, after_seq: int) -> None:
        watcher = await self._hub.open(self._tenant, run_id, after_seq, lambda _: self._push(watch))
        if self._watches.get(watch.watch_id) is watch:
            watch.watcher = watcher
            self._push(watch)
        else:
            self._hub.close(watcher)

    def _stop(self, watch_id: int) -> None:
        watch = self._watches.pop(watch_id, None)
        if watch is not None and watch.watcher is not None:
            self._hub.close(watch.watcher)

    def _refuse(self, watch: _Watch, error: Exception) -> None:
        refusal = watch_error(error, METHOD)
        if self._watches.get(watch.watch_id) is watch:  # else it was stopped, and its number may be another watch's
            self._stop(watch.watch_id)
            self._say(WatchPart(watch_id=watch.watch_id, error=refusal, created=watch.created))

    def _say(self, refused: WatchPart) -> None:
        self._refused.append(refused)
        self._wake.set()

    # ── news ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _push(self, watch: _Watch) -> None:
        if not watch.queued:
            watch.queued = True
            self._ready.append(watch)
        self._wake.set()

    def _collect(self) -> WatchManyResponse:
        """Make one message of what is ready in memory; start reads for what is not."""
        message = WatchManyResponse(parts=self._refused)
        self._refused.clear()
        size = 0
        for _ in range(len(self._ready)):
            if size >= MESSAGE_BYTES:
                break
            watch = self._ready.popleft()
            watch.queued = False
            part = self._part(watch)
            if part is not None:
                message.parts.append(part)
                size += len(part.events) + 16
        return message

    def _part(self, watch: _Watch) -> WatchPart | None:
        watcher = watch.watcher
        if watcher is None or self._watches.get(watch.watch_id) is not watch:
            return None
        segment = watcher.take(PART_BYTES) if watcher.behind else None
        created, watch.created = watch.created, None
        if segment is None and watcher.behind:
            watch.queued = True
            self._spawn(self._read(watch, watcher))
            return None if created is None else WatchPart(watch_id=watch.watch_id, created=created)
        caught_up = not watcher.behind and not watch.caught_up
        if segment is None and not caught_up and not watcher.over:
            return None
        part = WatchPart(watch_id=watch.watch_id, caught_up=caught_up, ended=watcher.over, created=created)
        if segment is not None:
            part.events = segment.data
            part.last_seq = segment.last_seq
        watch.caught_up = watch.caught_up or caught_up
        if watcher.over:
            self._stop(watch.watch_id)
        elif watcher.behind:
            self._push(watch)
        return part

    async def _read(self, watch: _Watch, watcher: Watcher) -> None:
        try:
            async with self._reads:
                await watcher.read(PART_BYTES)
        except Refusal as refusal:
            self._refuse(watch, refusal)
        else:
            watch.queued = False
            self._push(watch)

    def _is_busy(self) -> bool:
        """Tell whether something committed, or about to be, has not been sent yet."""
        return any(watch.watcher is None or watch.watcher.behind for watch in self._watches.values())

    async def _keep_alive(self) -> None:
        """Say something now and then; a timer for each wait would cost more than what is waited for."""
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            self._is_due = True
            self._wake.set()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = error
            self._wake.set()
