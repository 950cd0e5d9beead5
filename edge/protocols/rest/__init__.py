"""The native protocol: the contract's messages as JSON resources, and runs as Server-Sent Events (CONTRACT.md 2.8).

Owns the routes below /v1, a module for each resource. Shapes are `penstock/flat_json.py` outwards and
`edge/json_body.py` inwards; frames are `edge/event_json.py`.
"""

from __future__ import annotations

from aiohttp import web

from edge.config import EdgeSettings
from edge.core import CoreClient
from edge.protocols.rest import agents, inputs, retention, runs, schedules, thread_events, thread_state, threads

RESOURCES = (agents, threads, thread_state, thread_events, runs, inputs, schedules, retention)


def routes(core: CoreClient, settings: EdgeSettings) -> list[web.RouteDef]:
    """Return the routes of the native protocol."""
    return [route for resource in RESOURCES for route in resource.routes(core, settings)]
