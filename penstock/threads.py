"""Synchronous agent code on threads of its own, so that it never holds up the event loop.

A thread per run, and daemons: agent code that hangs can neither take a thread from another run nor keep the process
from exiting. Owns the crossing of results and outputs from such a thread into the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from penstock.outbox import Outbox

Result = TypeVar("Result")

BATCH = 64
"""Records that may be on their way into the loop."""
SMALL = 4 << 10
"""Bytes of a record that may travel with others; BATCH of these fit into the margin that an outbox keeps."""


async def in_thread(function: Callable[[], Result], *, name: str) -> Result:
    """What `function` returns or raises in a thread. When this is cancelled, the thread runs on, unattended."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[Result] = loop.create_future()
    context = contextvars.copy_context()

    def deliver(result: Result) -> None:
        if not outcome.done():
            outcome.set_result(result)

    def fail(error: BaseException) -> None:
        if not outcome.done():
            outcome.set_exception(error)

    def work() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            try:
                result = context.run(function)
            except StopIteration as error:  # a future refuses it
                loop.call_soon_threadsafe(fail, RuntimeError(f"the handler raised {error!r}"))
            except BaseException as error:  # noqa: BLE001 - whoever awaits the outcome gets it
                loop.call_soon_threadsafe(fail, error)
            else:
                loop.call_soon_threadsafe(deliver, result)

    threading.Thread(target=work, daemon=True, name=name).start()
    return await outcome


class Handoff:
    """Carries records from a thread to its outbox: by one call into the loop for all that wait."""

    def __init__(self, outbox: Outbox) -> None:
        self._loop = asyncio.get_running_loop()
        self._outbox = outbox
        self._records: deque[bytes] = deque()
        self._is_called = False

    def put(self, record: bytes) -> None:
        """From the thread: hand over a record, and wait while there is no room."""
        self._records.append(record)
        if len(self._records) >= BATCH or len(record) > SMALL or not self._outbox.has_room_for(BATCH):
            asyncio.run_coroutine_threadsafe(self._settle(), self._loop).result()
        elif not self._is_called:
            self._is_called = True
            self._loop.call_soon_threadsafe(self._empty)

    def _empty(self) -> None:
        self._is_called = False  # before the look: what is put from here on calls again
        while self._records:
            self._outbox.add(self._records.popleft())

    async def _settle(self) -> None:
        self._empty()
        with contextlib.suppress(asyncio.CancelledError):  # closed: nobody wants it any more
            await self._outbox.room()
