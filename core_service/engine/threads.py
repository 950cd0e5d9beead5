"""Threads as clients see them: create, read, list, messages, storage."""

from __future__ import annotations

from collections.abc import Sequence

from core_service.domain.errors import CoreDraining, InvalidPageToken, ThreadNotFound
from core_service.domain.ids import new_id
from core_service.domain.pages import TextPages, TimePages
from core_service.domain.run_requests import check_labels, check_thread_id
from core_service.engine.request_keys import request_key
from core_service.ports import Clock, Page, Store
from penstock.v1.message_pb2 import Message
from penstock.v1.thread_pb2 import Thread, ThreadStorage
from penstock.v1.thread_service_pb2 import CreateThreadRequest

_THREAD_PAGES = TimePages("threads")
_MESSAGE_PAGES = TextPages("messages")


class Threads:
    """The use cases of ThreadService."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self.draining = False

    async def create(self, tenant: str, request: CreateThreadRequest) -> Thread:
        """Create a thread. Refuses with ThreadExists, IdempotencyMismatch."""
        if self.draining:
            raise CoreDraining("This core shuts down; repeat with the same request_id in a moment.")
        key = request_key("create_thread", tenant, request)
        check_thread_id(request.thread_id)
        check_labels(request.metadata)
        thread = Thread(id=request.thread_id or new_id("thr"), metadata=request.metadata)
        thread.create_time.FromMicroseconds(self._clock.now())
        thread.update_time.CopyFrom(thread.create_time)
        return await self._store.create_thread(tenant, thread, request=key)

    async def get(self, tenant: str, thread_id: str) -> Thread:
        """Return a thread. Refuses with ThreadNotFound."""
        thread = await self._store.get_thread(tenant, thread_id)
        if thread is None:
            raise ThreadNotFound(f"There is no thread {thread_id[:80]!r}.", thread_id=thread_id[:80])
        return thread

    async def page(self, tenant: str, *, page_size: int, page_token: str) -> tuple[Sequence[Thread], str]:
        """Return a page of threads, newest first, and the token of the next."""
        size, after = _THREAD_PAGES.read(page_size, page_token)
        threads = await self._store.list_threads(tenant, Page(size + 1, after))
        if len(threads) <= size:
            return threads, ""
        last = threads[size - 1]
        return threads[:size], _THREAD_PAGES.token(last.create_time.ToMicroseconds(), last.id)

    async def messages(
        self, tenant: str, thread_id: str, *, page_size: int, page_token: str
    ) -> tuple[list[Message], str]:
        """Return a page of a thread's messages, oldest first, and the token of the next.

        Refuses with ThreadNotFound.
        """
        size, after = _MESSAGE_PAGES.read(page_size, page_token)
        if after and not after.isdecimal():
            raise InvalidPageToken("This page_token was not made by this list.", field="page_token")
        await self.get(tenant, thread_id)
        found = await self._store.list_messages(tenant, thread_id, after_pos=int(after or 0), limit=size + 1)
        messages = [message for _, message in found[:size]]
        return messages, _MESSAGE_PAGES.token(str(found[size - 1][0])) if len(found) > size else ""

    async def storage(self, tenant: str, thread_id: str) -> ThreadStorage:
        """Return what a thread occupies. Refuses with ThreadNotFound."""
        return await self._store.storage_of(tenant, thread_id)
