"""The database, as the engine sees it: one store of several rooms, each with a file of its own."""

from __future__ import annotations

from typing import Protocol

from core_service.ports.agents import AgentStore
from core_service.ports.deletions import DeletionStore
from core_service.ports.history import HistoryStore
from core_service.ports.log import LogStore
from core_service.ports.ownership import OwnershipStore
from core_service.ports.records import RequestKey
from core_service.ports.retention import RetentionStore
from core_service.ports.runs import RunStore
from core_service.ports.schedules import ScheduleStore
from core_service.ports.signals import SignalStore
from core_service.ports.threads import ThreadStore
from core_service.ports.webhooks import WebhookStore


class Store(
    LogStore,
    RunStore,
    SignalStore,
    ThreadStore,
    HistoryStore,
    DeletionStore,
    AgentStore,
    OwnershipStore,
    Protocol,
):
    """The database. One implementation serves SQLite and PostgreSQL; `tests/store/` holds both to this contract."""

    name: str
    """`sqlite` or `postgresql`."""
    retention: RetentionStore
    schedules: ScheduleStore
    webhooks: WebhookStore

    async def first_call(self, tenant: str, request: RequestKey, value: str) -> str:
        """Note a request with a value, and return the value of its first call. Refuses with IdempotencyMismatch."""
        ...

    async def forget_requests(self, *, limit: int) -> None:
        """Delete about `limit` expired request ids, oldest first. They count as absent whether deleted or not."""
        ...

    async def is_available(self) -> bool:
        """Tell whether a trivial statement works now. Never raises."""
        ...
