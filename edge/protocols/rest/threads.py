"""/v1/threads"""

from __future__ import annotations

from aiohttp import web

from edge import query
from edge.config import EdgeSettings
from edge.core import CoreClient
from edge.json_body import fill, refused, take
from edge.protocols.rest import shapes
from penstock.flat_json import flat
from penstock.v1.run_service_pb2 import ListRunsRequest
from penstock.v1.thread_pb2 import Thread, ThreadStorage
from penstock.v1.thread_service_pb2 import (
    CreateThreadRequest,
    DeleteThreadRequest,
    ForkThreadRequest,
    GetStorageRequest,
    GetThreadRequest,
    ListMessagesRequest,
    ListThreadsRequest,
)

NOTHING = {field.name: 0 for field in ThreadStorage.DESCRIPTOR.fields if field.name != "thread_id"}
"""Figures of 0 are told, too."""


def routes(core: CoreClient, settings: EdgeSettings) -> list[web.RouteDef]:
    """Return the routes of threads."""
    threads = Threads(core, settings)
    return [
        web.post("/v1/threads", threads.create),
        web.get("/v1/threads", threads.list),
        web.get("/v1/threads/{thread_id}", threads.get),
        web.delete("/v1/threads/{thread_id}", threads.delete),
        web.post("/v1/threads/{thread_id}/fork", threads.fork),
        web.get("/v1/threads/{thread_id}/storage", threads.storage),
        web.get("/v1/threads/{thread_id}/messages", threads.messages),
        web.get("/v1/threads/{thread_id}/runs", threads.runs),
    ]


class Threads:
    """/v1/threads"""

    def __init__(self, core: CoreClient, settings: EdgeSettings) -> None:
        self._core = core
        self._settings = settings

    async def create(self, request: web.Request) -> web.Response:
        query.only(request)
        create = CreateThreadRequest(request_id=query.idempotency_key(request))
        if request.can_read_body:
            fill(create, take(await shapes.members(request, self._settings), "thread_id", "metadata"), "")
        return self._made((await self._core.call(self._core.threads.CreateThread, create)).thread)

    async def list(self, request: web.Request) -> web.Response:
        query.only(request, *shapes.PAGE)
        size, token = shapes.page(request)
        asked = ListThreadsRequest(page_size=size, page_token=token)
        answer = await self._core.call(self._core.threads.ListThreads, asked)
        return shapes.page_of("threads", answer.threads, answer.next_page_token)

    async def get(self, request: web.Request) -> web.Response:
        query.only(request)
        asked = GetThreadRequest(thread_id=request.match_info["thread_id"])
        return shapes.json(flat((await self._core.call(self._core.threads.GetThread, asked)).thread))

    async def delete(self, request: web.Request) -> web.Response:
        query.only(request, "cancel")
        delete = DeleteThreadRequest(
            request_id=query.idempotency_key(request),
            thread_id=request.match_info["thread_id"],
            cancel=query.flag(request, "cancel"),
        )
        timeout = shapes.DELETE_SECONDS if delete.cancel else None
        await self._core.call(self._core.threads.DeleteThread, delete, timeout=timeout)
        return web.Response(status=204)

    async def fork(self, request: web.Request) -> web.Response:
        query.only(request)
        fork = ForkThreadRequest(request_id=query.idempotency_key(request), thread_id=request.match_info["thread_id"])
        if request.can_read_body:
            names = ("new_thread_id", "message_id", "event", "metadata")
            members = take(await shapes.members(request, self._settings), *names)
            if "message_id" in members and "event" in members:
                raise refused("event", "Name a message or an event to fork at, not both.")
            fill(fork, members, "")
        return self._made((await self._core.call(self._core.threads.ForkThread, fork)).thread)

    async def storage(self, request: web.Request) -> web.Response:
        query.only(request)
        asked = GetStorageRequest(thread_id=request.match_info["thread_id"])
        answer = await self._core.call(self._core.threads.GetStorage, asked)
        return shapes.json(NOTHING | flat(answer.storage))

    async def messages(self, request: web.Request) -> web.Response:
        query.only(request, *shapes.PAGE)
        size, token = shapes.page(request)
        asked = ListMessagesRequest(thread_id=request.match_info["thread_id"], page_size=size, page_token=token)
        answer = await self._core.call(self._core.threads.ListMessages, asked)
        return shapes.page_of("messages", answer.messages, answer.next_page_token)

    async def runs(self, request: web.Request) -> web.Response:
        query.only(request, *shapes.PAGE)
        thread_id = request.match_info["thread_id"]
        size, token = shapes.page(request)
        asked = ListRunsRequest(thread_id=thread_id, page_size=size, page_token=token)
        # A list of runs is empty for an unknown thread; a path below it is not there at all.
        await self._core.call(self._core.threads.GetThread, GetThreadRequest(thread_id=thread_id))
        answer = await self._core.call(self._core.runs.ListRuns, asked)
        return shapes.page_of("runs", answer.runs, answer.next_page_token)

    def _made(self, thread: Thread) -> web.Response:
        location = shapes.location(self._settings, "threads", thread.id)
        return shapes.json(flat(thread), status=201, headers={"Location": location})
