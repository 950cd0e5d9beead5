"""Where AG-UI is served: AG-UI fixes no path, so these are ours, those of earlier servers, and those of CopilotKit.

Owns the table. Paths with a word of their own come before those that take any word for an agent.
"""

from __future__ import annotations

from aiohttp import web

from edge.answering import answering
from edge.config import EdgeSettings
from edge.core import CoreClient
from edge.protocols.ag_ui.copilotkit import CopilotKit
from edge.protocols.ag_ui.refusals import response
from edge.protocols.ag_ui.routes import AgUi

PREFIX = "/v1/ag-ui"


def routes(core: CoreClient, settings: EdgeSettings) -> list[web.RouteDef]:
    """Return the routes of this protocol."""
    ag_ui = AgUi(core, settings)
    copilotkit = CopilotKit(core, ag_ui)
    handlers = (
        ("POST", "/ag-ui/agent", ag_ui.run),
        ("POST", f"{PREFIX}/run", ag_ui.run),
        ("POST", f"{PREFIX}/agents/{{agent}}/runs", ag_ui.run),
        ("POST", f"{PREFIX}/threads/{{thread}}/runs", ag_ui.run),
        ("GET", f"{PREFIX}/info", copilotkit.info),
        ("POST", PREFIX, copilotkit.single),
        ("POST", f"{PREFIX}/agent/{{agent}}/run", ag_ui.run),
        ("POST", f"{PREFIX}/agent/{{agent}}/connect", ag_ui.connect),
        ("POST", f"{PREFIX}/agent/{{agent}}/stop/{{thread}}", ag_ui.stop),
        ("POST", f"{PREFIX}/{{agent}}", ag_ui.run),
        ("POST", f"{PREFIX}/{{agent}}/connect", ag_ui.connect),
        ("POST", f"{PREFIX}/{{agent}}/stop/{{thread}}", ag_ui.stop),
        ("GET", f"{PREFIX}/{{agent}}/capabilities", ag_ui.capabilities),
    )
    return [web.route(method, path, answering(handler, response)) for method, path, handler in handlers]
