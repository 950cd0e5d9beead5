"""Threads in the store, and whose turn it is on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from core_service.ports.records import Page, RequestKey
from penstock.v1.message_pb2 import Message
from penstock.v1.thread_pb2 import Thread


class ThreadStore(Protocol):
    """Threads, their messages, and the order of their runs."""

    async def create_thread(self, tenant: str, thread: Thread, *, request: RequestKey | None) -> Thread:
        """Create a thread. Refuses with ThreadExists, IdempotencyMismatch; a repeat returns the thread."""
        ...

    async def get_thread(self, tenant: str, thread_id: str) -> Thread | None:
        """Return a thread."""
        ...

    async def list_threads(self, tenant: str, page: Page) -> list[Thread]:
        """Return threads, newest first (create time, id)."""
        ...

    async def list_messages(
        self, tenant: str, thread_id: str, *, after_pos: int, limit: int
    ) -> list[tuple[int, Message]]:
        """Return messages with their positions, oldest first; hidden ones are left out."""
        ...

    async def join_due(self, *, limit: int) -> list[tuple[str, str]]:
        """Let delayed runs whose time has come join the end of their threads' queues (ENGINE.md G6); their messages
        are shown from now on. Returns (tenant, thread) of each, to be promoted.
        """
        ...

    async def promote(self, threads: Sequence[tuple[str, str]]) -> set[str]:
        """Of each (tenant, thread) that has no holder, make the first waiting run the holder.

        Returns the agents that have runs to start now.
        """
        ...

    async def stuck_threads(self, *, limit: int) -> list[tuple[str, str]]:
        """Return (tenant, thread) of threads that have waiting runs and no holder."""
        ...
