"""Refusals as AI SDK clients read them: the whole body is the message that a person sees.

Owns that form. Which refusal is which status stands in `edge/errors.py`; a run that fails is an `error` chunk.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps

import grpc
import structlog
from aiohttp import web

from edge.errors import Refusal, refusal_of, retry_after

log = structlog.get_logger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

REASON_HEADER = "X-Reason"


def response(refusal: Refusal) -> web.Response:
    """Return the refusal as an HTTP answer."""
    headers = {**retry_after(refusal.status), REASON_HEADER: refusal.reason}
    return web.Response(status=refusal.status, text=refusal.message, headers=headers)


def answering(handler: Handler) -> Handler:
    """Wrap a handler so that whatever it meets is told in the words of this protocol, as `edge/middleware.py` does."""

    @wraps(handler)
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except Refusal as refusal:
            return response(refusal)
        except grpc.aio.AioRpcError as error:
            return response(refusal_of(error))
        except ConnectionError:
            raise  # the client is gone, or is to see that the stream broke off
        except Exception:
            if request.writer.output_size:
                raise  # the middleware cuts the response off
            log.exception("request failed", path=request.path)
            return response(Refusal(500, "INTERNAL", "Something went wrong on the server."))

    return answer
