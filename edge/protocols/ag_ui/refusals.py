"""Refusals as AG-UI's clients read them: JSON with a status, or a stream that holds nothing but RUN_ERROR.

Owns this protocol's error body. The client keeps a body only when its type is plain `application/json`. Answers that a
paused thread cannot take are told in a stream, with status 200: AG-UI's pages on interrupts ask for RUN_ERROR.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps

import grpc
from aiohttp import web

from edge.errors import Refusal, refusal_of, retry_after
from edge.protocols.ag_ui.frames import frame, to_json
from edge.sse import HEADERS

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Unresumed(Refusal):
    """What was sent does not resume the run that the thread waits with."""


def answering(handler: Handler) -> Handler:
    """Wrap a handler so that refusals are told in the words of this protocol, as `edge/middleware.py` tells them."""

    @wraps(handler)
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except Unresumed as refusal:
            return web.Response(body=error_frame(refusal), headers=HEADERS)
        except Refusal as refusal:
            return _response(refusal)
        except grpc.aio.AioRpcError as error:
            return _response(refusal_of(error))

    return answer


def error_frame(refusal: Refusal) -> bytes:
    """Return the refusal as the last frame of a stream. Without it a broken run looks complete."""
    return frame("RUN_ERROR", {"message": refusal.message, "code": refusal.reason})


def _response(refusal: Refusal) -> web.Response:
    body = {**refusal.metadata, "error": refusal.reason, "message": refusal.message}
    headers = retry_after(refusal.status)
    return web.Response(status=refusal.status, body=to_json(body), content_type="application/json", headers=headers)
