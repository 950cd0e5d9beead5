"""Calls about agents: what can be called."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from penstock.client.caller import Caller
from penstock.v1 import agent_service_pb2
from penstock.v1.agent_pb2 import Agent

if TYPE_CHECKING:
    from penstock.v1.agent_service_pb2_grpc import AgentServiceAsyncStub


class AgentCalls:
    """The part of a client that is about agents."""

    _caller: Caller
    _agents: AgentServiceAsyncStub

    async def agent(self, agent_id: str) -> Agent:
        """Return an agent."""
        request = agent_service_pb2.GetAgentRequest(agent_id=agent_id)
        return (await self._caller.call(self._agents.GetAgent, request)).agent

    def agents(self) -> AsyncIterator[Agent]:
        """Yield all agents, by id."""
        request = agent_service_pb2.ListAgentsRequest()
        return self._caller.pages(self._agents.ListAgents, request, lambda page: page.agents)
