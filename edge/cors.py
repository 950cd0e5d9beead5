"""What pages of other origins are told they may do (the CORS protocol of the Fetch standard, section 3.3).

Owns the headers; a browser enforces them. It adds to answers that are made already, so it refuses nothing, and it does
not know routes: what a path takes stands in its `Allow`.
"""

from __future__ import annotations

import re

from aiohttp import web

from edge.origins import ALL, Origins

EXPOSED = ", ".join(
    (
        "ETag",
        "Location",
        "Retry-After",
        "X-Request-Id",
        "X-Run-Id",
        "X-Run-Steered",
        "X-Thread-Id",
        "x-vercel-ai-ui-message-stream",
    )
)
"""What scripts may read beside the few headers that they always may."""

MAX_AGE = "600"
"""Seconds for which a browser remembers a preflight."""

_NAMES = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~, -]{1,1024}")


class Cors:
    """Adds the headers. With no origins it adds nothing."""

    def __init__(self, origins: Origins) -> None:
        self._origins = origins

    async def add(self, request: web.Request, response: web.StreamResponse) -> None:
        """Tell a page whether it may read this answer: a signal of aiohttp, sent before the headers are."""
        if not self._origins:
            return
        headers = response.headers
        if not self._origins.is_open:
            headers.add("Vary", "Origin")  # of every answer: a cache must not give one page's to another
        origin = request.headers.get("Origin", "")
        if not origin or not self._origins.admit(origin):
            return
        headers["Access-Control-Allow-Origin"] = ALL if self._origins.is_open else origin
        if not self._origins.is_open:
            headers["Access-Control-Allow-Credentials"] = "true"
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            _permit(request, response)
        else:
            headers["Access-Control-Expose-Headers"] = EXPOSED


def _permit(request: web.Request, response: web.StreamResponse) -> None:
    """Answer a preflight: the methods of the path, and the headers that the page wants to send."""
    headers = response.headers
    headers["Access-Control-Allow-Methods"] = headers.get("Allow", "")
    wanted = request.headers.get("Access-Control-Request-Headers", "")
    if _NAMES.fullmatch(wanted):
        headers["Access-Control-Allow-Headers"] = wanted
    headers["Access-Control-Max-Age"] = MAX_AGE
