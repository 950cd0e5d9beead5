"""Runs in the store: created, read, cancelled, called by each other, watched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from core_service.ports.records import Created, Head, NewRun, Page, RequestKey, RunFilter
from penstock.v1.run_pb2 import EndReason, Run


class RunStore(Protocol):
    """Runs. What happens to one while it is under way is appended to its log (`LogStore`)."""

    async def create_run(self, new: NewRun) -> Created:
        """Create a run, its head, its messages, labels and first segment (ENGINE.md G3), or steer the thread's holder.

        Creates the thread if it does not exist. The policies INTERRUPT and ROLLBACK note a cancel for every active run
        of the thread and queue the new one. Refuses with IdempotencyMismatch, ThreadBusy, ThreadWaiting, QueueFull; a
        child of an ended run with RunHasEnded, of one too deep with DepthExceeded, of none with RunNotFound. Raises
        DueTimePassed when `new.due` is not its schedule's next time any more.
        """
        ...

    async def get_run(self, tenant: str, run_id: str) -> Run | None:
        """Return a run as it is now, without its messages."""
        ...

    async def list_runs(self, tenant: str, which: RunFilter, page: Page) -> list[Run]:
        """Return runs, newest first (create time, id)."""
        ...

    async def request_cancel(
        self, tenant: str, run_id: str, reason: EndReason.ValueType, *, request: RequestKey | None
    ) -> Head | None:
        """Note that a run is to be cancelled, unless it was noted before or the run has ended. None: no such run.

        Returns the head as it is then. Refuses with IdempotencyMismatch.
        """
        ...

    async def children(self, run_id: str) -> list[Head]:
        """Return the active runs that this run has called."""
        ...

    async def orphans(self, *, limit: int) -> list[Head]:
        """Return active runs whose parent has ended and whose cancel was not noted."""
        ...

    async def keep_watched(self, run_ids: Sequence[str]) -> None:
        """Note that these runs are being watched now: watched_until = now + their grace (ENGINE.md D7)."""
        ...

    async def unwatched(self, *, limit: int) -> list[Head]:
        """Return active runs whose watched_until is over and whose cancel was not noted."""
        ...
