"""CopilotKit's own routes, so that its client needs no runtime of its own between a browser and the agents.

Owns their paths and the envelope by which its client may send all of them to one URL. They are AG-UI's otherwise.
"""

from __future__ import annotations

from importlib.metadata import version

from aiohttp import web
from msgspec import Raw, Struct
from msgspec.json import Decoder

from edge.core import CoreClient
from edge.errors import Refusal
from edge.lists import all_agents
from edge.protocols.ag_ui.capabilities import runtime_info
from edge.protocols.ag_ui.request import decode
from edge.protocols.ag_ui.routes import AgUi, json_response


class Params(Struct, rename="camel"):
    agent_id: str = ""
    thread_id: str = ""


class Envelope(Struct):
    method: str
    params: Params | None = None
    body: Raw = Raw(b"{}")


_ENVELOPE = Decoder(Envelope)


class CopilotKit:
    """The handlers."""

    def __init__(self, core: CoreClient, ag_ui: AgUi) -> None:
        self._core = core
        self._ag_ui = ag_ui

    async def info(self, _request: web.Request) -> web.StreamResponse:
        """List the agents."""
        agents = [agent async for agent in all_agents(self._core)]
        return json_response(runtime_info(agents, version("penstock")))

    async def single(self, request: web.Request) -> web.StreamResponse:
        """Carry out what the envelope names."""
        envelope = decode(await self._ag_ui.body(request), _ENVELOPE)
        params = envelope.params or Params()
        match envelope.method:
            case "info":
                return await self.info(request)
            case "agent/run":
                return await self._ag_ui.run_agent(request, envelope.body, params.agent_id)
            case "agent/connect":
                return await self._ag_ui.connect_thread(request, envelope.body)
            case "agent/stop":
                return await self._ag_ui.stop_thread(params.thread_id, None)
            case unknown:
                raise Refusal(400, "INVALID_ARGUMENT", f"There is no method {unknown[:80]!r}.", field="method")
