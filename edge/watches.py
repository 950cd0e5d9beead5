"""All watches of this edge on one `WatchMany` stream (ENGINE.md J6, J7).

Owns the stream and its re-attachment: after silence, a break or a drain it is opened again and every watch goes on
after the newest event it has. The reader never awaits a watcher. It does not read events, nor know who watches.
The core sends the events of a run once for all who are level with it (`sharing.py`).
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import grpc
import structlog

from edge.errors import DECIDED, Refusal, refusal_of, refuse
from edge.sharing import Sharing
from edge.watch import NewRun, Watch
from penstock.grpc_options import MAX_MESSAGE_BYTES
from penstock.v1.run_service_pb2 import (
    WatchAction,
    WatchCreate,
    WatchError,
    WatchManyRequest,
    WatchManyResponse,
    WatchPart,
    WatchStart,
    WatchStop,
)

log = structlog.get_logger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
ACTIONS_PER_MESSAGE, MESSAGE_BYTES = 1_000, 1 << 20
MAX_CREATE_BYTES = MAX_MESSAGE_BYTES - (1 << 20)
"""A message that gRPC refuses would break the stream of everybody, and again when it is repeated."""

FINAL_CODES = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
"""Ends of the stream that another attempt would only meet again."""

WatchCall = grpc.aio.StreamStreamCall[WatchManyRequest, WatchManyResponse]


@dataclass(frozen=True, slots=True)
class WatchLimits:
    """What the shared stream and its watches may use; see the settings of the same names."""

    buffer: int = 256 << 10
    silence: float = 25.0
    reattach_for: float = 60.0


class Watches:
    """The shared watch stream. An async context manager; it attaches when the first watch is opened."""

    def __init__(self, dial: Callable[[], WatchCall], limits: WatchLimits) -> None:
        self._dial = dial
        self._limits = limits
        self._served = Sharing()
        self._ids = itertools.count(1)
        self._outbox: deque[WatchAction] = deque()
        self._asked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._pause = FIRST_PAUSE
        self.is_attached = False
        self.attachments = 0
        """How often the stream came up."""
        self.overflows = 0
        """How often a watch was stopped because its buffer was full."""

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._serve(), name="watch stream")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])

    def __len__(self) -> int:
        return len(self._served)

    @property
    def following(self) -> int:
        """How many of them are served together with another one of their run."""
        return self._served.following

    def open(self, run_id: str, *, after: int) -> Watch:
        """Return a watch of the events after a seq. It is served from its first use on."""
        return Watch(self, run_id, after=after, bound=self._limits.buffer)

    def open_new(self, new_run: NewRun) -> Watch:
        """Return a watch of a run that it creates when it is first used, from the first event on. Raises Refusal."""
        if new_run.create.ByteSize() > MAX_CREATE_BYTES:
            raise Refusal(413, "BODY_TOO_LARGE", f"A run may be created with at most {MAX_CREATE_BYTES} bytes.")
        return Watch(self, "", after=0, bound=self._limits.buffer, new_run=new_run)

    def start(self, watch: Watch) -> None:
        """Serve the watch after its tail. Part of `Source`."""
        watch.watch_id = next(self._ids)
        watch.patience_until = 0.0 if self.is_attached else self._patience(watch)
        self._served.add(watch)
        self._send(_start_of(watch))

    def stop(self, watch: Watch) -> None:
        """Serve the watch no more. Part of `Source`."""
        if self._served.leave(watch):
            self._send_stop(watch.watch_id)
        watch.watch_id = 0
        watch.patience_until = 0.0

    def _send_stop(self, watch_id: int) -> None:
        self._send(WatchAction(stop=WatchStop(watch_id=watch_id)))

    def _send(self, action: WatchAction) -> None:
        self._outbox.append(action)
        self._asked.set()

    def _patience(self, watch: Watch) -> float:
        if watch.new_run is not None:
            return watch.new_run.deadline
        return asyncio.get_running_loop().time() + self._limits.reattach_for

    async def _serve(self) -> None:
        while True:
            await self._asked.wait()
            failure = None
            try:
                failure = await self._attach()
            except Exception:
                log.exception("watch stream failed")
            self._detached(failure)
            await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))
            self._pause = min(self._pause * 2, LONGEST_PAUSE)

    async def _attach(self) -> grpc.aio.AioRpcError | None:
        """Serve all watches on one new stream, until it ends; return why it did, if it was not a plain end."""
        self._outbox = deque(_start_of(watch) for watch in self._served)
        call = self._dial()
        try:
            async with asyncio.TaskGroup() as tasks:
                writer = tasks.create_task(self._write(call))
                failure = await self._read(call)
                writer.cancel()
            return failure
        finally:
            call.cancel()

    async def _write(self, call: WatchCall) -> None:
        try:
            while True:
                while self._outbox:
                    await call.write(WatchManyRequest(actions=self._next_actions()))
                self._asked.clear()
                await self._asked.wait()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # the reader learns why

    def _next_actions(self) -> list[WatchAction]:
        """Take what one message carries: one action at least, and no more than its bounds."""
        actions = [self._outbox.popleft()]
        size = actions[0].ByteSize()
        while self._outbox and len(actions) < ACTIONS_PER_MESSAGE:
            size += self._outbox[0].ByteSize()
            if size > MESSAGE_BYTES:
                break
            actions.append(self._outbox.popleft())
        return actions

    async def _read(self, call: WatchCall) -> grpc.aio.AioRpcError | None:
        clock = asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(self._limits.silence) as limit:
                async for response in call:
                    _postpone(limit, clock() + self._limits.silence, at_least=self._limits.silence * 0.1)
                    if not self.is_attached:
                        self._attached()
                    for part in response.parts:
                        self._deliver(part)
                    for watch_id in self._served.join():
                        self._send_stop(watch_id)
        except TimeoutError:
            log.warning("watch stream is silent", seconds=self._limits.silence)
        except grpc.aio.AioRpcError as error:
            return error
        return None

    def _attached(self) -> None:
        self.is_attached = True
        self.attachments += 1
        self._pause = FIRST_PAUSE
        for watch in self._served:
            watch.patience_until = 0.0

    def _detached(self, failure: grpc.aio.AioRpcError | None) -> None:
        """Start the patience of those who wait, end those who have waited too long, and ask for another attempt."""
        if self.is_attached:
            code = "OK" if failure is None else failure.code().name
            log.warning("watch stream ended", code=code, watches=len(self))
        self.is_attached = False
        if failure is not None and failure.code() in FINAL_CODES:
            self._fail_all(refusal_of(failure))
        now = asyncio.get_running_loop().time()
        for watch in self._served:
            watch.patience_until = watch.patience_until or self._patience(watch)
            if watch.patience_until < now:
                self._fail(watch, core_away())
        if self._served:
            self._asked.set()

    def _deliver(self, part: WatchPart) -> None:
        watches = self._served.served_by(part.watch_id)
        if not watches:
            return  # stopped while this was under way
        full = [watch for watch in watches if not watch.put(part)]
        if part.HasField("error"):
            for watch in self._served.end(part.watch_id):
                self._refused(watch, part.error)
            return
        watches[0].patience_until = 0.0
        if part.ended:
            self._served.end(part.watch_id)
            return
        if part.caught_up:
            self._served.is_level(part.watch_id)
        for watch in full:
            self.overflows += 1
            self.stop(watch)

    def _refused(self, watch: Watch, error: WatchError) -> None:
        """Try again what may pass (a drain, a store that is away); hand on the rest."""
        loop = asyncio.get_running_loop()
        watch.patience_until = watch.patience_until or self._patience(watch)
        pause = random.uniform(0.5, 1.0) * LONGEST_PAUSE / 2
        if _may_pass(error) and loop.time() + pause < watch.patience_until:
            loop.call_later(pause, self._start_again, watch)
        else:
            watch.fail(refuse(error.code, error.reason, error.message, error.metadata))

    def _start_again(self, watch: Watch) -> None:
        if watch.watch_id == 0 and watch.patience_until:  # neither closed nor started meanwhile
            patience = watch.patience_until
            self.start(watch)
            watch.patience_until = patience

    def _fail(self, leader: Watch, refusal: Refusal) -> None:
        for watch in self._served.end(leader.watch_id):
            watch.fail(refusal)

    def _fail_all(self, refusal: Refusal) -> None:
        for watch in self._served:
            self._fail(watch, refusal)


def _start_of(watch: Watch) -> WatchAction:
    if (new := watch.new_run) is not None:
        return WatchAction(create=WatchCreate(watch_id=watch.watch_id, create=new.create, caller=new.caller))
    return WatchAction(start=WatchStart(watch_id=watch.watch_id, run_id=watch.run_id, after_seq=watch.tail))


def core_away() -> Refusal:
    """Return the refusal of a watch that has waited for the core long enough."""
    return Refusal(503, "CORE_UNAVAILABLE", "The core cannot be reached now; try again.")


def _postpone(limit: asyncio.Timeout, when: float, *, at_least: float) -> None:
    """Move a limit when that changes it by so much: a timer per message costs more than reading the message."""
    before = limit.when()
    if before is None or when - before >= at_least:
        limit.reschedule(when)


def _may_pass(error: WatchError) -> bool:
    return error.code == grpc.StatusCode.UNAVAILABLE.value[0] and error.reason not in DECIDED
