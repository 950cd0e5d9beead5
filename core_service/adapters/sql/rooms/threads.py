"""Threads, and whose turn it is on them."""

from __future__ import annotations

from collections.abc import Sequence

from core_service.adapters.sql import delays, messages, threads
from core_service.adapters.sql.transaction import Database
from core_service.ports import Page, RequestKey
from penstock.v1.message_pb2 import Message
from penstock.v1.thread_pb2 import Thread


class ThreadRoom:
    """Implements `ports.ThreadStore`; the contract of each method stands there."""

    _database: Database
    _lifetime: float

    async def create_thread(self, tenant: str, thread: Thread, *, request: RequestKey | None) -> Thread:
        return await self._database.write(
            lambda tx: threads.create_thread(tx, tenant, thread, request=request, lifetime=self._lifetime)
        )

    async def get_thread(self, tenant: str, thread_id: str) -> Thread | None:
        return await self._database.read(lambda tx: threads.get_thread(tx, tenant, thread_id))

    async def list_threads(self, tenant: str, page: Page) -> list[Thread]:
        return await self._database.read(lambda tx: threads.list_threads(tx, tenant, page))

    async def list_messages(
        self, tenant: str, thread_id: str, *, after_pos: int, limit: int
    ) -> list[tuple[int, Message]]:
        return await self._database.read(
            lambda tx: messages.page(tx, tenant, thread_id, after_pos=after_pos, limit=limit)
        )

    async def join_due(self, *, limit: int) -> list[tuple[str, str]]:
        return await self._database.write(lambda tx: delays.join_due(tx, limit=limit))

    async def promote(self, threads_: Sequence[tuple[str, str]]) -> set[str]:
        return await self._database.write(lambda tx: threads.promote(tx, threads_))

    async def stuck_threads(self, *, limit: int) -> list[tuple[str, str]]:
        return await self._database.read(lambda tx: threads.stuck_threads(tx, limit=limit))
