"""Agents in the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from penstock.v1.agent_pb2 import Agent


class AgentStore(Protocol):
    """Agents as workers declared them."""

    async def declare_agents(self, tenant: str, agents: Sequence[Agent]) -> None:
        """Insert or update agents; `online` is not stored."""
        ...

    async def get_agent(self, tenant: str, agent_id: str) -> Agent | None:
        """Return an agent."""
        ...

    async def list_agents(self, tenant: str, *, after_id: str, limit: int) -> list[Agent]:
        """Return agents by id."""
        ...
