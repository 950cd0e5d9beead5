"""Errors as OpenAI's clients read them: the error object, the customary codes, and the word not to ask again.

Owns the error object. Which refusal is which HTTP status stands in `edge/errors.py`; how a failed run is told is each
protocol's own.
"""

from __future__ import annotations

from functools import wraps

import grpc
import msgspec
import structlog
from aiohttp import web

from edge.errors import Refusal, refusal_of, retry_after
from edge.middleware import Handler

log = structlog.get_logger(__name__)

NO_RETRY = {"x-should-retry": "false"}
"""OpenAI's clients send a failed request twice more, without an idempotency key: each would be a run of its own."""

CUSTOMARY_CODES = {
    "AGENT_NOT_FOUND": "model_not_found",
    "PREVIOUS_RESPONSE_NOT_FOUND": "previous_response_not_found",
    "RATE_LIMITED": "rate_limit_exceeded",
    "UNAUTHENTICATED": "invalid_api_key",
}
"""Reasons for which OpenAI has a code. Every other reason is the code, as in all protocols."""


def error_object(refusal: Refusal) -> dict[str, str | None]:
    """Return what stands under `error` in a body, and in an error frame."""
    return {
        "message": refusal.message,
        "type": "invalid_request_error" if refusal.status < 500 else "server_error",
        "param": refusal.metadata.get("field") or None,
        "code": CUSTOMARY_CODES.get(refusal.reason, refusal.reason),
    }


def response(refusal: Refusal) -> web.Response:
    """Return the refusal as an HTTP answer."""
    body = msgspec.json.encode({"error": error_object(refusal)})
    headers = {**retry_after(refusal.status), **NO_RETRY}
    return web.Response(status=refusal.status, body=body, content_type="application/json", headers=headers)


def answering(handler: Handler) -> Handler:
    """Wrap a handler so that whatever it meets is told in OpenAI's words, as `edge/middleware.py` does in ours."""

    @wraps(handler)
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except Refusal as refusal:
            return response(refusal)
        except grpc.aio.AioRpcError as error:
            return response(refusal_of(error))
        except web.HTTPRequestEntityTooLarge:
            return response(Refusal(413, "BODY_TOO_LARGE", "The body is too large."))
        except ConnectionError:
            raise  # the client is gone
        except Exception:
            if request.writer.output_size:
                raise  # the middleware cuts the response off
            log.exception("request failed", path=request.path)
            return response(Refusal(500, "INTERNAL", "Something went wrong on the server."))

    return answer
