"""Deleting runs and threads in the store.

What is deleted is gone with one small transaction, and nobody sees half of it. What it leaves behind can be large: it
is noted as remains, and goes piece by piece.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from core_service.ports.records import RequestKey


@dataclass(frozen=True, slots=True)
class Remains:
    """What a deleted thread or run has left behind."""

    tenant: str
    resource_id: str
    is_thread: bool


@dataclass(frozen=True, slots=True)
class Cleared:
    """What became of a piece of remains."""

    is_done: bool
    """Nothing is left."""
    run_ids: tuple[str, ...] = ()
    """Runs of a deleted thread that are gone with this piece, and now have remains of their own."""


class DeletionStore(Protocol):
    """Deletes for good. A known request does nothing and is no error."""

    async def delete_run(self, tenant: str, run_id: str, *, request: RequestKey | None) -> None:
        """Delete an ended run; the messages that it brought and said stay in its thread.

        Refuses with RunNotFound, RunActive (also while its unread messages are to become a run of their own),
        IdempotencyMismatch.
        """
        ...

    async def delete_thread(self, tenant: str, thread_id: str, *, request: RequestKey | None) -> None:
        """Delete a thread that has no active run. As long as it has remains, nothing can be created under its id.

        Refuses with ThreadNotFound, ThreadBusy (also for runs that wait for their turn or their time, or are to be made
        of unread messages), IdempotencyMismatch.
        """
        ...

    async def remains(self, *, limit: int) -> list[Remains]:
        """Return what has remains, threads first."""
        ...

    async def clear_remains(self, what: Remains) -> Cleared:
        """Remove a piece of remains, in a transaction of bounded size. Done at once when there are none."""
        ...
