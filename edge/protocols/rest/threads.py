"""/v1/threads"""

from __future__ import annotations

from aiohttp import web

from edge import query
from edge.config import EdgeSettings
from edge.core import CoreClient
from edge.json_body import fill, refused, take
from edge.openapi.operation import operation
from edge.protocols.rest import shapes
from penstock.flat_json import flat
from penstock.v1.message_pb2 import Message
from penstock.v1.run_pb2 import Run
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

CREATE = ("thread_id", "metadata")
FORK = ("new_thread_id", "message_id", "event", "metadata")

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

    @operation("Create a thread.", body=(CreateThreadRequest, CREATE), answer=Thread, status=201)
    async def create(self, request: web.Request) -> web.Response:
        query.only(request)
        create = CreateThreadRequest(request_id=query.idempotency_key(request))
        if request.can_read_body:
            fill(create, take(await shapes.members(request, self._settings), *CREATE), "")
        return self._made((await self._core.call(self._core.threads.CreateThread, create)).thread)

    @operation("List the threads.", query=shapes.PAGE, answer=Thread, page_of="threads")
    async def list(self, request: web.Request) -> web.Response:
        query.only(request, *shapes.PAGE)
        size, token = shapes.page(request)
        asked = ListThreadsRequest(page_size=size, page_token=token)
        answer = await self._core.call(self._core.threads.ListThreads, asked)
        return shapes.page_of("threads", answer.threads, answer.next_page_token)

    @operation("Get a thread.", answer=Thread)
    async def get(self, request: web.Request) -> web.Response:
        query.only(request)
        asked = GetThreadRequest(thread_id=request.match_info["thread_id"])
        return shapes.json(flat((await self._core.call(self._core.threads.GetThread, asked)).thread))

    @operation("Delete a thread with all it has.", query=("cancel",), status=204)
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

    @operation("Make a thread that begins as this one.", body=(ForkThreadRequest, FORK), answer=Thread, status=201)
    async def fork(self, request: web.Request) -> web.Response:
        query.only(request)
        fork = ForkThreadRequest(request_id=query.idempotency_key(request), thread_id=request.match_info["thread_id"])
        if request.can_read_body:
            members = take(await shapes.members(request, self._settings), *FORK)
            if "message_id" in members and "event" in members:
                raise refused("event", "Name a message or an event to fork at, not both.")
            fill(fork, members, "")
        return self._made((await self._core.call(self._core.threads.ForkThread, fork)).thread)

    @operation("Tell what a thread takes.", answer=ThreadStorage)
    async def storage(self, request: web.Request) -> web.Response:
        query.only(request)
        asked = GetStorageRequest(thread_id=request.match_info["thread_id"])
        answer = await self._core.call(self._core.threads.GetStorage, asked)
        return shapes.json(NOTHING | flat(answer.storage))

    @operation("Read what was said in a thread.", query=shapes.PAGE, answer=Message, page_of="messages")
    async def messages(self, request: web.Request) -> web.Response:
        query.only(request, *shapes.PAGE)
        size, token = shapes.page(request)
        asked = ListMessagesRequest(thread_id=request.match_info["thread_id"], page_size=size, page_token=token)
        answer = await self._core.call(self._core.threads.ListMessages, asked)
        return shapes.page_of("messages", answer.messages, answer.next_page_token)

    @operation("List the runs of a thread.", query=shapes.PAGE, answer=Run, page_of="runs")
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
