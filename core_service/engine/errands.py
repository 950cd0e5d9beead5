"""Work that is finished once it has begun, even when whoever asked for it goes away.

The store carries out what it was given, whether anybody waits for the answer or not. So whoever acts on the answer must
not be cancelled in between: half a create would be a run that nobody starts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

T = TypeVar("T")


class Errands:
    """Holds the tasks of what is under way."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[object]] = set()

    async def run(self, work: Coroutine[None, None, T]) -> T:
        """Return the result of `work`, which goes on when the caller is cancelled."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    def _done(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # somebody has seen it: a refusal whose caller is gone is no news
