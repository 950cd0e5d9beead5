"""Serves AgentService."""

from __future__ import annotations

from core_service.engine.agents import Agents
from core_service.rpc.caller import tenant_of
from core_service.rpc.errors import Context
from penstock.v1.agent_service_pb2 import GetAgentRequest, GetAgentResponse, ListAgentsRequest, ListAgentsResponse


class AgentServicer:
    """AgentService over the engine."""

    def __init__(self, agents: Agents) -> None:
        self._agents = agents

    async def GetAgent(self, request: GetAgentRequest, context: Context) -> GetAgentResponse:
        return GetAgentResponse(agent=await self._agents.get(tenant_of(context), request.agent_id))

    async def ListAgents(self, request: ListAgentsRequest, context: Context) -> ListAgentsResponse:
        agents, token = await self._agents.page(
            tenant_of(context), page_size=request.page_size, page_token=request.page_token
        )
        return ListAgentsResponse(agents=agents, next_page_token=token)
