"""Calls about threads: the conversations that runs belong to."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING

from penstock.client.caller import Caller, new_request_id
from penstock.client.thread_events import ThreadEvent, follow
from penstock.json_text import to_json
from penstock.v1 import thread_service_pb2
from penstock.v1.message_pb2 import Message
from penstock.v1.thread_pb2 import Thread, ThreadStorage

if TYPE_CHECKING:
    from penstock.v1.thread_service_pb2_grpc import ThreadServiceAsyncStub

DELETION_SECONDS = 60.0
"""What a deletion may take longer than other calls: the ends of what it cancels are waited for."""


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

    async def set_state(
        self, thread_id: str, state: object, *, expected_version: int | None = None, request_id: str = ""
    ) -> Thread:
        """Replace the state of an idle thread by any JSON value. Another version than expected is STATE_CHANGED."""
        request = thread_service_pb2.SetStateRequest(
            request_id=request_id or new_request_id(),
            thread_id=thread_id,
            state_json=to_json(state),
            expected_version=expected_version,
        )
        return (await self._caller.call(self._threads.SetState, request)).thread

    async def patch_state(
        self,
        thread_id: str,
        patch: Sequence[Mapping[str, object]],
        *,
        expected_version: int | None = None,
        request_id: str = "",
    ) -> Thread:
        """Change the state of an idle thread by an RFC 6902 patch: a list of its operations."""
        request = thread_service_pb2.PatchStateRequest(
            request_id=request_id or new_request_id(),
            thread_id=thread_id,
            patch_json=to_json(patch),
            expected_version=expected_version,
        )
        return (await self._caller.call(self._threads.PatchState, request)).thread

    async def fork_thread(
        self,
        thread_id: str,
        *,
        message_id: str = "",
        event: tuple[str, int] | None = None,
        new_thread_id: str = "",
        metadata: Mapping[str, str] | None = None,
        request_id: str = "",
    ) -> Thread:
        """Make a thread with the messages and the state of another one: all of it, up to a message, or up to an event,
        given as (run id, seq).
        """
        if message_id and event:
            raise ValueError("a thread is forked at a message or at an event, not at both")
        request = thread_service_pb2.ForkThreadRequest(
            request_id=request_id or new_request_id(),
            thread_id=thread_id,
            new_thread_id=new_thread_id,
            metadata=metadata,
        )
        if message_id:
            request.message_id = message_id
        if event:
            request.event.run_id, request.event.seq = event
        return (await self._caller.call(self._threads.ForkThread, request)).thread

    async def delete_thread(self, thread_id: str, *, cancel: bool = False, request_id: str = "") -> None:
        """Delete a thread with all that is in it. A busy one is THREAD_BUSY unless its runs may be cancelled first."""
        request = thread_service_pb2.DeleteThreadRequest(
            request_id=request_id or new_request_id(), thread_id=thread_id, cancel=cancel
        )
        await self._caller.call(self._threads.DeleteThread, request, extra=DELETION_SECONDS if cancel else 0.0)

    def watch_thread(self, thread_id: str, *, after: str = "") -> AsyncGenerator[ThreadEvent, None]:
        """Yield the events of a thread's runs behind a cursor, one run after the other, then those to come.

        It has no end of its own: NotFound is raised once the thread is deleted.
        """
        return follow(self._threads, thread_id, after=after, patience=self._caller.patience())

    async def thread_storage(self, thread_id: str) -> ThreadStorage:
        """Return what a thread occupies in the store."""
        request = thread_service_pb2.GetStorageRequest(thread_id=thread_id)
        return (await self._caller.call(self._threads.GetStorage, request)).storage
