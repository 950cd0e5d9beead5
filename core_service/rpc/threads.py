"""Serves ThreadService. The stream is in `watch_thread.py`."""

from __future__ import annotations

from collections.abc import AsyncIterator

from core_service.engine.deletions import Deletions
from core_service.engine.thread_forks import ThreadForks
from core_service.engine.thread_states import ThreadStates
from core_service.engine.thread_watch import ThreadHub
from core_service.engine.threads import Threads
from core_service.rpc.caller import tenant_of
from core_service.rpc.errors import Context
from core_service.rpc.watch_thread import watch_thread
from penstock.v1.thread_service_pb2 import (
    CreateThreadRequest,
    CreateThreadResponse,
    DeleteThreadRequest,
    DeleteThreadResponse,
    ForkThreadRequest,
    ForkThreadResponse,
    GetStorageRequest,
    GetStorageResponse,
    GetThreadRequest,
    GetThreadResponse,
    ListMessagesRequest,
    ListMessagesResponse,
    ListThreadsRequest,
    ListThreadsResponse,
    PatchStateRequest,
    PatchStateResponse,
    SetStateRequest,
    SetStateResponse,
    WatchThreadRequest,
)


class ThreadServicer:
    """ThreadService over the engine."""

    def __init__(
        self, threads: Threads, states: ThreadStates, forks: ThreadForks, hub: ThreadHub, deletions: Deletions
    ) -> None:
        self._threads = threads
        self._states = states
        self._forks = forks
        self._hub = hub
        self._deletions = deletions

    async def CreateThread(self, request: CreateThreadRequest, context: Context) -> CreateThreadResponse:
        return CreateThreadResponse(thread=await self._threads.create(tenant_of(context), request))

    async def GetThread(self, request: GetThreadRequest, context: Context) -> GetThreadResponse:
        return GetThreadResponse(thread=await self._threads.get(tenant_of(context), request.thread_id))

    async def ListThreads(self, request: ListThreadsRequest, context: Context) -> ListThreadsResponse:
        threads, token = await self._threads.page(
            tenant_of(context), page_size=request.page_size, page_token=request.page_token
        )
        return ListThreadsResponse(threads=threads, next_page_token=token)

    async def ListMessages(self, request: ListMessagesRequest, context: Context) -> ListMessagesResponse:
        messages, token = await self._threads.messages(
            tenant_of(context), request.thread_id, page_size=request.page_size, page_token=request.page_token
        )
        return ListMessagesResponse(messages=messages, next_page_token=token)

    async def SetState(self, request: SetStateRequest, context: Context) -> SetStateResponse:
        return SetStateResponse(thread=await self._states.set(tenant_of(context), request))

    async def PatchState(self, request: PatchStateRequest, context: Context) -> PatchStateResponse:
        return PatchStateResponse(thread=await self._states.patch(tenant_of(context), request))

    async def ForkThread(self, request: ForkThreadRequest, context: Context) -> ForkThreadResponse:
        return ForkThreadResponse(thread=await self._forks.fork(tenant_of(context), request))

    async def DeleteThread(self, request: DeleteThreadRequest, context: Context) -> DeleteThreadResponse:
        await self._deletions.delete_thread(tenant_of(context), request)
        return DeleteThreadResponse()

    async def WatchThread(self, request: WatchThreadRequest, context: Context) -> AsyncIterator[bytes]:
        async for message in watch_thread(self._hub, tenant_of(context), request.thread_id, after=request.after):
            yield message

    async def GetStorage(self, request: GetStorageRequest, context: Context) -> GetStorageResponse:
        return GetStorageResponse(storage=await self._threads.storage(tenant_of(context), request.thread_id))
