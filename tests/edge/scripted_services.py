"""The services beside runs and threads, as little of them as the edge needs: one agent, a status."""

from __future__ import annotations

import grpc

from penstock.v1.agent_pb2 import Agent
from penstock.v1.agent_service_pb2 import (
    GetAgentRequest,
    GetAgentResponse,
    ListAgentsRequest,
    ListAgentsResponse,
)
from penstock.v1.agent_service_pb2_grpc import AgentServiceServicer
from penstock.v1.system_service_pb2 import GetStatusRequest, GetStatusResponse
from penstock.v1.system_service_pb2_grpc import SystemServiceServicer
from tests.edge.scripted_calls import Context, Refuse, ScriptedCalls, refuse

AGENT = Agent(id="echo", name="Echo", description="Repeats.", online=True, metadata={"team": "a"})


class Agents(AgentServiceServicer):
    """One agent."""

    def __init__(self, calls: ScriptedCalls) -> None:
        self._calls = calls

    async def GetAgent(self, request: GetAgentRequest, context: Context) -> GetAgentResponse:
        await self._calls.note("GetAgent", request, context)
        if request.agent_id != AGENT.id:
            await refuse(context, Refuse(grpc.StatusCode.NOT_FOUND, "AGENT_NOT_FOUND"))
        return GetAgentResponse(agent=AGENT)

    async def ListAgents(self, request: ListAgentsRequest, context: Context) -> ListAgentsResponse:
        await self._calls.note("ListAgents", request, context)
        return ListAgentsResponse(agents=[AGENT])


class System(SystemServiceServicer):
    """The status."""

    async def GetStatus(self, request: GetStatusRequest, context: Context) -> GetStatusResponse:
        return GetStatusResponse(core_id="core_1", version="1", store="sqlite", store_available=True)
