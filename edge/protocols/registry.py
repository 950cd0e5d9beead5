"""The protocols of this edge, one line each.

A protocol is a module with `routes(core, settings)`. It parses, calls and encodes; refusals that it does not answer in
words of its own (`edge/errors.py`) become RFC 9457 problems. No protocol knows another, nor that it may be served
elsewhere than it says: what the settings move is moved here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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


PROTOCOLS: tuple[tuple[str, Adapter], ...] = (
    ("native", rest),
    ("websocket", websocket),
    ("openai", openai_chat),
    ("ai_sdk", ai_sdk),
    ("ag_ui", ag_ui),
    ("openai", openai_responses),
)
"""Each with its name in the settings, `[protocols.<name>]`."""


def all_routes(core: CoreClient, settings: EdgeSettings) -> Iterator[web.RouteDef]:
    """Yield the routes of all protocols that are switched on, below their prefixes."""
    for name, adapter in PROTOCOLS:
        place, usual = settings.place_of(name), settings.usual_prefix(name)
        if place.is_enabled:
            yield from _moved(adapter.routes(core, settings), usual, place.prefix)


def _moved(routes: Iterable[web.RouteDef], usual: str, prefix: str) -> Iterator[web.RouteDef]:
    """Yield routes below another prefix; aliases, which lie below none, are served at the usual place only."""
    for route in routes:
        if prefix == usual:
            yield route
        elif route.path == usual or route.path.startswith(f"{usual}/"):
            path = prefix + route.path.removeprefix(usual)
            yield web.RouteDef(route.method, path, route.handler, route.kwargs)
