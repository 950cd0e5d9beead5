"""Errors as OpenAI's clients read them: the error object, the customary codes, and the word not to ask again.

Owns this protocol's error object. Which refusal is which HTTP status stands in `edge/errors.py`; only a failed run,
which is no refusal of the core, gets its status here, for the calls that wait for its end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import grpc
import msgspec
import structlog
from aiohttp import web

from edge.errors import Refusal, refusal_of, retry_after
from penstock.v1.event_pb2 import RunEnded
from penstock.v1.run_pb2 import EndReason

log = structlog.get_logger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

NO_RETRY = {"x-should-retry": "false"}
"""OpenAI's clients send a failed request twice more, without an idempotency key: each would be a run of its own."""

CUSTOMARY_CODES = {
    "AGENT_NOT_FOUND": "model_not_found",
    "RATE_LIMITED": "rate_limit_exceeded",
    "UNAUTHENTICATED": "invalid_api_key",
}
"""Reasons for which OpenAI has a code. Every other reason is the code, as in all protocols."""

STATUS_OF_FAILURE: dict[int, int] = {
    EndReason.END_REASON_REJECTED: 400,
    EndReason.END_REASON_QUEUE_TIMEOUT: 503,
    EndReason.END_REASON_TIMEOUT: 504,
}
"""What a failed run is in HTTP; 500 for every other reason."""

_REASONS = {number: name.removeprefix("END_REASON_") for name, number in EndReason.items()}


def failure(end: RunEnded) -> Refusal:
    """Return what a client is told about a failed run."""
    reason = _REASONS.get(end.reason, "FAILED")
    message = end.error.message or f"The run failed: {reason}."
    return Refusal(STATUS_OF_FAILURE.get(end.reason, 500), end.error.code or reason, message)


def body(refusal: Refusal) -> bytes:
    """Return the error object: the body of a response, and the data of an error frame."""
    error = {
        "message": refusal.message,
        "type": "invalid_request_error" if refusal.status < 500 else "server_error",
        "param": refusal.metadata.get("field") or None,
        "code": CUSTOMARY_CODES.get(refusal.reason, refusal.reason),
    }
    return msgspec.json.encode({"error": error})


def frame(refusal: Refusal) -> bytes:
    """Return the refusal as the last frame of a stream. Without it a broken run looks complete."""
    return b"data: " + body(refusal) + b"\n\n"


def response(refusal: Refusal) -> web.Response:
    """Return the refusal as an HTTP answer."""
    headers = {**retry_after(refusal.status), **NO_RETRY}
    return web.Response(status=refusal.status, body=body(refusal), content_type="application/json", headers=headers)


def answering(handler: Handler) -> Handler:
    """Wrap a handler so that whatever it meets is told in the words of this protocol, as `edge/middleware.py` does."""

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
