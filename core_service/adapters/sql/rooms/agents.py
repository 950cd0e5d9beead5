"""Agents."""

from __future__ import annotations

from collections.abc import Sequence

from core_service.adapters.sql import agents
from core_service.adapters.sql.transaction import Database
from penstock.v1.agent_pb2 import Agent


class AgentRoom:
    """Implements `ports.AgentStore`; the contract of each method stands there."""

    _database: Database

    async def declare_agents(self, tenant: str, agents_: Sequence[Agent]) -> None:
        await self._database.write(lambda tx: agents.declare_agents(tx, tenant, agents_))

    async def get_agent(self, tenant: str, agent_id: str) -> Agent | None:
        return await self._database.read(lambda tx: agents.get_agent(tx, tenant, agent_id))

    async def list_agents(self, tenant: str, *, after_id: str, limit: int) -> list[Agent]:
        return await self._database.read(lambda tx: agents.list_agents(tx, tenant, after_id=after_id, limit=limit))
