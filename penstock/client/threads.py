"""Calls about threads: the conversations that runs belong to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING

from penstock.client.caller import Caller, new_request_id
from penstock.v1 import thread_service_pb2
from penstock.v1.message_pb2 import Message
from penstock.v1.thread_pb2 import Thread

if TYPE_CHECKING:
    from penstock.v1.thread_service_pb2_grpc import ThreadServiceAsyncStub


class ThreadCalls:
    """The part of a client that is about threads."""

    _caller: Caller
    _threads: ThreadServiceAsyncStub

    async def create_thread(
        self, thread_id: str = "", *, metadata: Mapping[str, str] | None = None, request_id: str = ""
    ) -> Thread:
        """Start a conversation. Runs that name no thread get one by themselves."""
        request = thread_service_pb2.CreateThreadRequest(
            request_id=request_id or new_request_id(), thread_id=thread_id, metadata=metadata
        )
        return (await self._caller.call(self._threads.CreateThread, request)).thread

    async def thread(self, thread_id: str) -> Thread:
        """Return a thread."""
        request = thread_service_pb2.GetThreadRequest(thread_id=thread_id)
        return (await self._caller.call(self._threads.GetThread, request)).thread

    def threads(self) -> AsyncIterator[Thread]:
        """Yield threads, newest first."""
        request = thread_service_pb2.ListThreadsRequest()
        return self._caller.pages(self._threads.ListThreads, request, lambda page: page.threads)

    def messages(self, thread_id: str) -> AsyncIterator[Message]:
        """Yield what was said in a thread, oldest first."""
        request = thread_service_pb2.ListMessagesRequest(thread_id=thread_id)
        return self._caller.pages(self._threads.ListMessages, request, lambda page: page.messages)
