"""Cores, workers, and the runs they own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from core_service.ports.records import Head, Owned


class OwnershipStore(Protocol):
    """Leases of cores, claims, adoption, loss (ENGINE.md, B and I)."""

    async def renew_core(self, core_id: str, *, address: str, lease: float) -> None:
        """Say that this core lives for another `lease` seconds.

        On a connection of its own, so that load cannot delay it.
        """
        ...

    async def remove_core(self, core_id: str, *, grace: float) -> None:
        """Forget this core, and give up all its runs: owner NULL, lost once the grace is over (ENGINE.md K1)."""
        ...

    async def disown_all(self, *, core_id: str, grace: float) -> int:
        """SQLite at start: no other core can live. Forget all others; RUNNING and WAITING runs get owner NULL and a
        grace.

        Returns how many runs were disowned. On PostgreSQL nothing happens.
        """
        ...

    async def claim(
        self,
        tenant: str,
        agent_id: str,
        *,
        owner: str,
        session: str,
        limit: int,
        started: Callable[[int, int], bytes],
    ) -> list[Owned]:
        """Claim up to `limit` queued heads of threads for a worker (ENGINE.md I1): RUNNING, attempt + 1, fence + 1,
        acked 0.

        `started(seq, attempt)` makes the record of RunStarted, which is appended in the same transaction.
        """
        ...

    async def waiting_tenants(self, agent_id: str, *, after: str, limit: int) -> list[str]:
        """Return tenants, above `after`, that have queued heads of this agent."""
        ...

    async def adopt(self, run_id: str, *, attempt: int, owner: str, session: str) -> Owned | None:
        """Take over a run that this worker holds (ENGINE.md B5): fence + 1, no grace.

        None: it is not that worker's any more.
        """
        ...

    async def held_by(self, session: str) -> list[tuple[str, int]]:
        """Return (run_id, attempt) of RUNNING and WAITING runs that a worker is believed to hold."""
        ...

    async def session_lost(self, session: str, *, owner: str, grace: float) -> int:
        """A worker's stream broke: its runs on this core are lost once the grace is over. Returns how many."""
        ...

    async def lost_runs(self, *, margin: float, limit: int) -> list[Head]:
        """Return runs past their grace, and runs whose owner has no row or a lease over since `margin` seconds."""
        ...

    async def take(self, run_id: str, *, fence: int, owner: str) -> Owned | None:
        """Take a lost run from whoever had it: fence + 1, session NULL. None: somebody was faster."""
        ...

    async def overdue_queued(self, *, limit: int) -> list[Head]:
        """Return queued heads of threads whose start_by has passed, and queued runs whose cancel nobody carried out."""
        ...

    async def queued_count(self) -> int:
        """Return how many runs are queued and first of their thread, over all tenants."""
        ...
