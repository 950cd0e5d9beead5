"""/v1/threads/{thread_id}/events: the events of a thread's runs, one after the other, then live, without an end."""

from __future__ import annotations

from aiohttp import web

from edge import query
from edge.config import EdgeSettings
from edge.core import CoreClient
from edge.event_json import ThreadEncoder
from edge.openapi.operation import operation
from edge.sse import stream


def routes(core: CoreClient, settings: EdgeSettings) -> list[web.RouteDef]:
    """Return the route of a thread's stream."""
    return [web.get("/v1/threads/{thread_id}/events", ThreadEvents(core).follow)]


class ThreadEvents:
    """/v1/threads/{thread_id}/events"""

    def __init__(self, core: CoreClient) -> None:
        self._core = core

    @operation("Follow the events of a thread's runs.", query=("after",), streams=True)
    async def follow(self, request: web.Request) -> web.StreamResponse:
        query.only(request, "after")
        encoder = ThreadEncoder()
        thread_id, after = request.match_info["thread_id"], query.thread_cursor(request)
        watch = self._core.open_thread_watch(thread_id, after=after, enter=encoder.enter)
        return await stream(request, watch, encoder, is_resumable=True)
