"""A few threads that each keep one database connection. Which database, and what is done on it, is not known here.

Not an executor of the standard library: its futures, chained to those of the loop, cost as much again as the way to a
thread and back. Every commit and every read takes that way: 80 µs instead of 160 on an idle machine.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Generic, Protocol, TypeAlias, TypeVar


class Connection(Protocol):
    """All that this module needs of a connection."""

    def close(self) -> None: ...


C = TypeVar("C", bound=Connection)
R = TypeVar("R")

_Job: TypeAlias = tuple[Callable[[], object], asyncio.Future[Any]]
"""Work, and who waits for it."""


class ConnectionThreads(Generic[C]):
    """A pool of threads. A connection is made when its thread first needs one, and used by that thread only."""

    def __init__(self, name: str, size: int, connect: Callable[[], C]) -> None:
        self._name = name
        self._size = size
        self._connect = connect
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._under_way = 0
        """Jobs without an answer. A thread is started for what the others cannot be free for."""
        self._threads: list[threading.Thread] = []
        self._local = threading.local()
        self._open: set[C] = set()
        self._lock = threading.Lock()

    async def run(self, work: Callable[[], R]) -> R:
        """Run `work` on one of the threads."""
        self._under_way += 1
        if len(self._threads) < min(self._under_way, self._size):
            self._start_thread()
        future: asyncio.Future[R] = self._loop.create_future()
        self._jobs.put((work, future))
        return await future

    def connection(self) -> C:
        """Return the connection of the calling thread, which is one of this pool."""
        connection: C | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect()
            with self._lock:
                self._open.add(connection)
        return connection

    def discard(self) -> None:
        """Forget the connection of the calling thread: it is broken. The next use makes another."""
        connection: C | None = getattr(self._local, "connection", None)
        if connection is not None:
            self._local.connection = None
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def close(self) -> None:
        """Let the threads finish what was given to them, then close the connections. Blocks."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        for connection in self._open:
            connection.close()

    def _start_thread(self) -> None:
        name = f"{self._name}_{len(self._threads)}"
        thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._do(*job)
            del job  # an idle thread holds nothing of what it has read

    def _do(self, work: Callable[[], object], future: asyncio.Future[Any]) -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is for who waits
            self._post(future, future.set_exception, error)
        else:
            self._post(future, future.set_result, result)

    def _post(self, future: asyncio.Future[Any], answer: Callable[[Any], None], value: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._answer, future, answer, value)

    def _answer(self, future: asyncio.Future[Any], answer: Callable[[Any], None], value: object) -> None:
        self._under_way -= 1
        if not future.done():  # else its caller has gone; what was done stays done
            answer(value)
