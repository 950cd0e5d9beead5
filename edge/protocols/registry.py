"""The protocols of this edge, one line each.

A protocol is a module with `routes(core, settings)`. It parses, calls and encodes; refusals that it does not answer in
words of its own (`edge/errors.py`) become RFC 9457 problems. No protocol knows another.
"""

from __future__ import annotations

from typing import Protocol

from aiohttp import web

from edge.config import EdgeSettings
from edge.core import CoreClient
from edge.protocols import ag_ui, ai_sdk, openai_chat, openai_responses, rest, websocket


class Adapter(Protocol):
    """What a protocol's module has."""

    def routes(self, core: CoreClient, settings: EdgeSettings) -> list[web.RouteDef]:
        """Return its routes."""
        ...


PROTOCOLS: tuple[Adapter, ...] = (
    rest,
    openai_chat,
    ai_sdk,
    ag_ui,
    openai_responses,
    websocket,
)
