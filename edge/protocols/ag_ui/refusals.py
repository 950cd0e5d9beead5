"""Refusals as AG-UI's clients read them: JSON with a status, or a stream that holds nothing but RUN_ERROR.

Owns this protocol's error body. The client keeps a body only when its type is plain `application/json`. Answers that a
paused thread cannot take are told in a stream, with status 200: AG-UI's pages on interrupts ask for RUN_ERROR.
"""

from __future__ import annotations

from aiohttp import web

from edge.errors import Refusal, retry_after
from edge.protocols.ag_ui.frames import frame, to_json
from edge.sse import HEADERS


class Unresumed(Refusal):
    """What was sent does not resume the run that the thread waits with."""


def response(refusal: Refusal) -> web.Response:
    """Return the refusal as an HTTP answer."""
    if isinstance(refusal, Unresumed):
        return web.Response(body=error_frame(refusal), headers=HEADERS)
    body = {**refusal.metadata, "error": refusal.reason, "message": refusal.message}
    headers = retry_after(refusal.status)
    return web.Response(status=refusal.status, body=to_json(body), content_type="application/json", headers=headers)


def error_frame(refusal: Refusal) -> bytes:
    """Return the refusal as the last frame of a stream. Without it a broken run looks complete."""
    return frame("RUN_ERROR", {"message": refusal.message, "code": refusal.reason})
