"""The lock that keeps a second core away from an SQLite database (ENGINE.md, B4)."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class DatabaseInUse(RuntimeError):
    """Another core has this database open. The message names it."""


@contextmanager
def exclusive(database: Path, *, holder: str) -> Iterator[None]:
    """Hold the lock beside `database`; the system releases it however the process dies. Raises DatabaseInUse."""
    path = database.with_name(database.name + ".lock")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            first = os.pread(descriptor, 1024, 0).decode(errors="replace").strip() or "a core that has just started"
            raise DatabaseInUse(
                f"{database} is in use by {first}. One SQLite database serves one core: stop that one first, "
                "give this one another data directory, or use PostgreSQL."
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{holder}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
