"""Refusals as AI SDK clients read them: the whole body is the message that a person sees.

Owns that form. Which refusal is which status stands in `edge/errors.py`; a run that fails is an `error` chunk.
"""

from __future__ import annotations

from aiohttp import web

from edge.errors import Refusal, retry_after

REASON_HEADER = "X-Reason"


def response(refusal: Refusal) -> web.Response:
    """Return the refusal as an HTTP answer."""
    headers = {**retry_after(refusal.status), REASON_HEADER: refusal.reason}
    return web.Response(status=refusal.status, text=refusal.message, headers=headers)
