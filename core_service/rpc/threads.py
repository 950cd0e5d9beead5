"""Serves ThreadService."""

from __future__ import annotations

from core_service.engine.threads import Threads
from core_service.rpc.caller import tenant_of
from core_service.rpc.errors import Context
from penstock.v1.thread_service_pb2 import (
    CreateThreadRequest,
    CreateThreadResponse,
    GetThreadRequest,
    GetThreadResponse,
    ListMessagesRequest,
    ListMessagesResponse,
    ListThreadsRequest,
    ListThreadsResponse,
)


class ThreadServicer:
    """ThreadService over the engine."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads

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
