"""What the native routes share: bodies in, pages and JSON objects out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aiohttp import web
from google.protobuf.message import Message as ProtoMessage

from edge import query
from edge.config import EdgeSettings
from edge.json_body import Members, read_json, read_members
from penstock.flat_json import dumps, flat

PAGE = ("page_size", "page_token")

DELETE_SECONDS = 60.0
"""How long a deletion may take that has to wait for the ends of what it cancels."""


async def members(request: web.Request, settings: EdgeSettings) -> Members:
    """Return the members of a JSON object body."""
    return read_members(await read_json(request, max_depth=settings.max_json_depth), "")


def location(settings: EdgeSettings, *names: str) -> str:
    """Return the path of a resource."""
    return "/".join([settings.place_of("native").prefix, *names])


def page(request: web.Request) -> tuple[int, str]:
    """Return page size and token of a list."""
    return query.integer(request, "page_size"), request.query.get("page_token", "")


def page_of(name: str, items: Iterable[ProtoMessage], next_page_token: str) -> web.Response:
    """Answer with a page of a list."""
    return json({name: [flat(item) for item in items], "next_page_token": next_page_token})


def json(body: Mapping[str, object], *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Answer with an object."""
    return answer(dumps(body), status=status, headers=headers)


def answer(body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Answer with JSON that is written already."""
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")
