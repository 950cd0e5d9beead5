"""/openapi.json and /docs.

Owns the two answers, each made when it is first asked for: most edges never are.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import msgspec
from aiohttp import web

from edge.openapi.document import Served, document

PAGE = Path(__file__).with_name("page.html")


class Description:
    """The description of what an edge serves, itself included."""

    def __init__(self, served: Sequence[Served]) -> None:
        self._served = served

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [web.get("/openapi.json", self.document), web.get("/docs", self.page)]

    async def document(self, _request: web.Request) -> web.Response:
        """The OpenAPI document of this edge."""
        return web.Response(body=self._document, content_type="application/json")

    async def page(self, _request: web.Request) -> web.Response:
        """A page that shows the document."""
        return web.Response(body=self._page, content_type="text/html", charset="utf-8")

    @cached_property
    def _document(self) -> bytes:
        own = [("system", route) for route in self.routes()]
        return msgspec.json.encode(document([*self._served, *own], version("penstock")))

    @cached_property
    def _page(self) -> bytes:
        return PAGE.read_bytes()
