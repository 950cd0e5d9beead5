"""Errors as OpenAI's clients read them: the error object, the customary codes, and the word not to ask again.

Owns the error object. Which refusal is which HTTP status stands in `edge/errors.py`; how a failed run is told is each
protocol's own.
"""

from __future__ import annotations

import msgspec
from aiohttp import web

from edge.errors import Refusal, retry_after

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
