"""Handlers whose refusals are told in the words of their protocol; the native ones are told by `edge/middleware.py`."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import grpc
import structlog
from aiohttp import web

from edge.errors import Refusal, refusal_of
from edge.middleware import Handler

log = structlog.get_logger(__name__)

Tell = Callable[[Refusal], web.StreamResponse]
"""Makes the HTTP answer that a refusal is in a protocol."""


def answering(handler: Handler, tell: Tell) -> Handler:
    """Wrap a handler so that whatever it meets before its answer began is told by `tell`."""

    @wraps(handler)
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except Refusal as refusal:
            return tell(refusal)
        except grpc.aio.AioRpcError as error:
            return tell(refusal_of(error))
        except web.HTTPRequestEntityTooLarge:
            return tell(Refusal(413, "BODY_TOO_LARGE", "The body is too large."))
        except ConnectionError:
            raise  # the client is gone, or is to see that the stream broke off
        except Exception:
            if request.writer.output_size:
                raise  # the middleware cuts the response off
            log.exception("request failed", path=request.path)
            return tell(Refusal(500, "INTERNAL", "Something went wrong on the server."))

    return answer
