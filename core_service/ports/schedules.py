"""Schedules in the database, as the engine sees them. Conventions: `core_service/ports/__init__.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from core_service.ports.records import DueTime, Page, RequestKey
from penstock.v1.schedule_pb2 import Schedule


@dataclass(frozen=True, slots=True)
class DueSchedule:
    """A schedule whose time has come."""

    tenant: str
    schedule: Schedule
    time: int
    """When it was due."""
    now: int
    """The store's time when it was found."""


class ScheduleStore(Protocol):
    """The schedules of all tenants."""

    async def now(self) -> int:
        """Return the time that decides what is due: the database's, or on SQLite the core's."""
        ...

    async def create(
        self, tenant: str, schedule: Schedule, *, next_time: int | None, request: RequestKey | None
    ) -> Schedule:
        """Store a schedule, and return it as stored; a repeat returns that of the first call.

        Refuses with IdempotencyMismatch, and with ScheduleNotFound when what a repeat made was deleted since.
        """
        ...

    async def get(self, tenant: str, schedule_id: str) -> Schedule | None:
        """Return a schedule as it is now."""
        ...

    async def page(self, tenant: str, *, agent_id: str, page: Page) -> Sequence[Schedule]:
        """Return schedules, newest first (create time, id); an empty `agent_id` is any."""
        ...

    async def pause(self, tenant: str, schedule_id: str) -> None:
        """Stop a schedule; it has no next time any more."""
        ...

    async def resume(self, tenant: str, schedule_id: str, *, next_time: int | None) -> None:
        """Continue a paused schedule; one that is not paused keeps its own next time."""
        ...

    async def delete(self, tenant: str, schedule_id: str) -> bool:
        """Forget a schedule. False: there is none."""
        ...

    async def due(self, *, limit: int) -> Sequence[DueSchedule]:
        """Return schedules whose next time has come, longest due first."""
        ...

    async def refuse(self, due: DueTime, refusal: str) -> bool:
        """Note that a due time makes no run and why, and go on to the next one. A run does both when it is created.

        False: it is not the next one any more, and nothing was noted.
        """
        ...
