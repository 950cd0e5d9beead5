"""/v1/threads"""

from __future__ import annotations

from aiohttp import web

from edge import query
from edge.config import EdgeSettings
from edge.core import CoreClient
from edge.json_body import fill, take
from edge.protocols.rest import shapes
from penstock.flat_json import flat
from penstock.v1.run_service_pb2 import ListRunsRequest
from penstock.v1.thread_service_pb2 import (
    CreateThreadRequest,
    GetThreadRequest,
    ListMessagesRequest,
    ListThreadsRequest,
)


def routes(core: CoreClient, settings: EdgeSettings) -> list[web.RouteDef]:
    """Return the routes of threads."""
    threads = Threads(core, settings)
    return [
        web.post("/v1/threads", threads.create),
        web.get("/v1/threads", threads.list),
        web.get("/v1/threads/{thread_id}", threads.get),
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
        thread = (await self._core.call(self._core.threads.CreateThread, create)).thread
        return shapes.json(flat(thread), status=201, headers={"Location": f"/v1/threads/{thread.id}"})

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
