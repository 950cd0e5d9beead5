"""/v1/agents"""

from __future__ import annotations

from aiohttp import web

from edge import query
from edge.config import EdgeSettings
from edge.core import CoreClient
from edge.openapi.operation import operation
from edge.protocols.rest import shapes
from penstock.flat_json import flat
from penstock.v1.agent_pb2 import Agent
from penstock.v1.agent_service_pb2 import GetAgentRequest, ListAgentsRequest


def routes(core: CoreClient, settings: EdgeSettings) -> list[web.RouteDef]:
    """Return the routes of agents."""
    agents = Agents(core)
    return [
        web.get("/v1/agents", agents.list),
        web.get("/v1/agents/{agent_id}", agents.get),
    ]


class Agents:
    """/v1/agents"""

    def __init__(self, core: CoreClient) -> None:
        self._core = core

    @operation("List the agents.", query=shapes.PAGE, answer=Agent, page_of="agents")
    async def list(self, request: web.Request) -> web.Response:
        query.only(request, *shapes.PAGE)
        size, token = shapes.page(request)
        asked = ListAgentsRequest(page_size=size, page_token=token)
        answer = await self._core.call(self._core.agents.ListAgents, asked)
        return shapes.page_of("agents", answer.agents, answer.next_page_token)

    @operation("Get an agent.", answer=Agent)
    async def get(self, request: web.Request) -> web.Response:
        query.only(request)
        asked = GetAgentRequest(agent_id=request.match_info["agent_id"])
        answer = await self._core.call(self._core.agents.GetAgent, asked)
        return shapes.json(flat(answer.agent))
