"""A few threads that each keep one database connection. Which database, and what is done on it, is not known here."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar


class Connection(Protocol):
    """All that this module needs of a connection."""

    def close(self) -> None: ...


C = TypeVar("C", bound=Connection)
R = TypeVar("R")


class ConnectionThreads(Generic[C]):
    """A pool of threads. A connection is made when its thread first needs one, and used by that thread only."""

    def __init__(self, name: str, size: int, connect: Callable[[], C]) -> None:
        self._connect = connect
        self._executor = ThreadPoolExecutor(size, thread_name_prefix=name)
        self._local = threading.local()
        self._open: set[C] = set()
        self._lock = threading.Lock()

    async def run(self, work: Callable[[], R]) -> R:
        """Run `work` on one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

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
        self._executor.shutdown()
        for connection in self._open:
            connection.close()
