"""Where OpenAI's protocols are served: one table of handlers, below each of the prefixes."""

from __future__ import annotations

from aiohttp import web

from edge.answering import answering
from edge.middleware import Handler
from edge.openai.errors import response

PREFIXES = ("/v1", "/openai/v1")
"""The second one for deployments that keep `/v1` to the native routes."""


def below_prefixes(*handlers: tuple[str, str, Handler]) -> list[web.RouteDef]:
    """Return the routes of (method, path, handler), whose errors are told in OpenAI's words."""
    return [
        web.route(method, prefix + path, answering(handler, response))
        for prefix in PREFIXES
        for method, path, handler in handlers
    ]
