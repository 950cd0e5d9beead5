"""/v1/threads/{thread_id}/state: the bare state as a resource, its version as its entity tag (RFC 9110, section 13)."""

from __future__ import annotations

import re

from aiohttp import web

from edge import query
from edge.config import EdgeSettings
from edge.core import CoreClient
from edge.errors import Refusal
from edge.json_body import compact, read_json, refused
from edge.openapi.operation import operation
from edge.protocols.rest import shapes
from penstock.v1.thread_pb2 import Thread
from penstock.v1.thread_service_pb2 import GetThreadRequest, PatchStateRequest, SetStateRequest

NEVER_SET = "{}"
"""What a state is that nobody has set: version 0, and what patches begin with."""

PATCH_TYPES = ("application/json-patch+json", "application/json")
_TAG = re.compile(r'(?:W/)?"([0-9]{1,9})"')
"""Weak ones too: a proxy that compresses makes them of ours, and a version is exact however it comes."""


def routes(core: CoreClient, settings: EdgeSettings) -> list[web.RouteDef]:
    """Return the routes of a thread's state."""
    state = ThreadState(core, settings)
    path = "/v1/threads/{thread_id}/state"
    return [web.get(path, state.get), web.put(path, state.put), web.patch(path, state.patch)]


class ThreadState:
    """/v1/threads/{thread_id}/state"""

    def __init__(self, core: CoreClient, settings: EdgeSettings) -> None:
        self._core = core
        self._settings = settings

    @operation("Get the state of a thread.")
    async def get(self, request: web.Request) -> web.Response:
        query.only(request)
        asked = GetThreadRequest(thread_id=request.match_info["thread_id"])
        thread = (await self._core.call(self._core.threads.GetThread, asked)).thread
        if _is_known(request.headers.get("If-None-Match", ""), thread.state_version):
            return web.Response(status=304, headers=_headers(thread))
        return _answer(thread)

    @operation("Set the state of a thread.")
    async def put(self, request: web.Request) -> web.Response:
        query.only(request)
        body = await read_json(request, max_depth=self._settings.max_json_depth)
        change = SetStateRequest(
            request_id=query.idempotency_key(request),
            thread_id=request.match_info["thread_id"],
            state_json=compact(body),
            expected_version=_expected(request),
        )
        return _answer((await self._core.call(self._core.threads.SetState, change)).thread)

    @operation("Patch the state of a thread, with a JSON Patch.")
    async def patch(self, request: web.Request) -> web.Response:
        query.only(request)
        if request.content_type not in PATCH_TYPES:
            raise Refusal(415, "UNSUPPORTED_MEDIA_TYPE", f"Send a JSON Patch, as {PATCH_TYPES[0]}.")
        body = await read_json(request, max_depth=self._settings.max_json_depth)
        change = PatchStateRequest(
            request_id=query.idempotency_key(request),
            thread_id=request.match_info["thread_id"],
            patch_json=compact(body),
            expected_version=_expected(request),
        )
        return _answer((await self._core.call(self._core.threads.PatchState, change)).thread)


def _answer(thread: Thread) -> web.Response:
    body = (thread.state_json or NEVER_SET).encode()
    return shapes.answer(body, headers=_headers(thread))


def _headers(thread: Thread) -> dict[str, str]:
    return {"ETag": f'"{thread.state_version}"', "Cache-Control": "no-cache"}


def _is_known(header: str, version: int) -> bool:
    """Tell whether a client that names these versions has this one already."""
    return header.strip() == "*" or str(version) in _TAG.findall(header)


def _expected(request: web.Request) -> int | None:
    """Return the version that a client wants to change; None: any."""
    match, none_match = request.headers.get("If-Match"), request.headers.get("If-None-Match")
    if none_match is not None:
        if match is not None or none_match.strip() != "*":
            raise refused("If-None-Match", "If-None-Match of a change must be *: only if there is no state yet.")
        return 0
    if match is None or match.strip() == "*":
        return None
    tag = _TAG.fullmatch(match.strip())
    if tag is None:
        raise refused("If-Match", "If-Match must be the ETag of one state, or *.")
    return int(tag[1])
