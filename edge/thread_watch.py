"""One client's watch of a thread: a WatchThread call of its own, opened again whenever it breaks.

Owns the cursor and the re-attachment, as `edge/watches.py` does for runs. There is no buffer: one message is held, and
the next one is read when that was taken, so a slow client slows its own call and nothing else.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Self, TypeAlias

import grpc
import structlog

from edge.errors import reason_of, refusal_of
from edge.watch import WatchBatch
from edge.watches import FINAL_CODES, FIRST_PAUSE, LONGEST_PAUSE, WatchLimits, core_away
from penstock.v1.run_service_pb2 import WatchRunResponse
from penstock.v1.thread_service_pb2 import WatchThreadRequest, WatchThreadResponse

log = structlog.get_logger(__name__)

ThreadCall: TypeAlias = grpc.aio.UnaryStreamCall[WatchThreadRequest, WatchThreadResponse]
Enter: TypeAlias = Callable[[str, str], None]
"""Told the run, and the prefix of its events' cursors, before a batch of another run than the last one is taken."""


class ThreadWatch(AsyncIterator[WatchBatch]):
    """Implements `edge.watch.Batches`. It never ends by itself; `enter` tells whose events the batches hold."""

    def __init__(
        self, dial: Callable[[str], ThreadCall], thread_id: str, *, after: str, enter: Enter, limits: WatchLimits
    ) -> None:
        self.thread_id = thread_id
        self.cursor = after
        """Of the newest event that was taken."""
        self._dial = dial
        self._enter = enter
        self._limits = limits
        self._call: ThreadCall | None = None
        self._message: WatchThreadResponse | None = None
        self._run_id = ""
        self._failure: Exception | None = None
        self._pause = FIRST_PAUSE
        self._patience_until = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._detach()

    @property
    def name(self) -> str:
        return self.thread_id

    async def __anext__(self) -> WatchBatch:
        await self.ready()
        message, self._message = self._message, None
        assert message is not None, "ready"
        self.cursor = message.cursor or self.cursor
        if message.events and message.run_id != self._run_id:
            self._run_id = message.run_id
            self._enter(message.run_id, message.cursor_prefix)
        last_seq = message.events[-1].seq if message.events else 0
        events = WatchRunResponse(events=message.events).SerializeToString()
        return WatchBatch(events, last_seq, message.caught_up, ended=False)

    async def ready(self) -> None:
        while self._message is None:
            if self._failure is not None:
                raise self._failure
            message = await self._read()
            if message is not None and (message.events or message.caught_up):
                self._message = message

    def fail(self, error: Exception) -> None:
        self._failure = error
        self._detach()

    def drop(self) -> bool:
        held = self._call is not None or self._message is not None
        self._detach()
        self._message = None
        return held

    async def _read(self) -> WatchThreadResponse | None:
        """Return the next message; None after trouble that may pass. Raises what ends the watch."""
        if self._call is None:
            self._call = self._dial(self.cursor)
        try:
            async with asyncio.timeout(self._limits.silence):
                message = await self._call.read()
        except TimeoutError:
            log.warning("thread stream is silent", thread_id=self.thread_id, seconds=self._limits.silence)
        except grpc.aio.AioRpcError as error:
            if not _passes(error):
                raise refusal_of(error) from error
        except asyncio.CancelledError:  # the call's own, when it was given up by `fail`, `drop` or a closing channel
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                self._detach()
                raise
        else:
            if isinstance(message, WatchThreadResponse):
                self._pause, self._patience_until = FIRST_PAUSE, 0.0
                return message
        await self._rest()
        return None

    async def _rest(self) -> None:
        """Give the core a moment before the watch is opened again, for as long as there is patience."""
        self._detach()
        if self._failure is not None:
            return
        now = asyncio.get_running_loop().time()
        self._patience_until = self._patience_until or now + self._limits.reattach_for
        if now > self._patience_until:
            raise core_away()
        await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))
        self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def _detach(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.cancel()


def _passes(error: grpc.aio.AioRpcError) -> bool:
    """Tell whether another attempt may go better: the core restarts or drains, the connection broke."""
    if reason_of(error) is not None:
        return error.code() == grpc.StatusCode.UNAVAILABLE
    return error.code() not in FINAL_CODES
