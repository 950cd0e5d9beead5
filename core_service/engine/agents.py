"""The registry of agents: what workers declared, with what is connected now."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from core_service.domain.errors import AgentNotFound, InvalidArgument
from core_service.domain.pages import TextPages
from core_service.ports import Clock, Store
from penstock.v1.agent_pb2 import Agent

_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_PAGES = TextPages("agents")


class Agents:
    """Reads and declares agents. A small cache saves the look-up of every create; declarations keep it true."""

    def __init__(self, store: Store, clock: Clock, *, is_online: Callable[[str], bool]) -> None:
        self._store = store
        self._clock = clock
        self._is_online = is_online
        self._known: dict[tuple[str, str], Agent] = {}

    async def declare(self, tenant: str, agents: Iterable[Agent]) -> None:
        """Insert or update what a worker brings. Refuses ids that are not lower case letters, digits, `.`, `_`, `-`."""
        declared = []
        for agent in agents:
            if not _ID.fullmatch(agent.id):
                raise InvalidArgument(
                    f"{agent.id!r} is no agent id: use up to 64 of a–z, 0–9, '.', '_' and '-'.", field="agent.id"
                )
            stored = Agent()
            stored.CopyFrom(agent)
            stored.name = agent.name or agent.id
            stored.online = False
            stored.replayable = agent.replayable if agent.HasField("replayable") else True
            stored.update_time.FromMicroseconds(self._clock.now())
            known = self._known.get((tenant, agent.id)) or await self._store.get_agent(tenant, agent.id)
            stored.create_time.CopyFrom(known.create_time if known else stored.update_time)
            if known is None or _declaration(known) != _declaration(stored):
                declared.append(stored)
        if declared:
            await self._store.declare_agents(tenant, declared)
            for agent in declared:
                self._known[tenant, agent.id] = agent

    async def get(self, tenant: str, agent_id: str) -> Agent:
        """Return an agent. Refuses with AgentNotFound."""
        return self._shown(await self._find(tenant, agent_id))

    async def is_online(self, tenant: str, agent_id: str) -> bool:
        """Tell whether a worker that runs the agent is connected. Refuses with AgentNotFound."""
        return self._is_online((await self._find(tenant, agent_id)).id)

    async def _find(self, tenant: str, agent_id: str) -> Agent:
        agent = self._known.get((tenant, agent_id))
        if agent is None:
            found = await self._store.get_agent(tenant, agent_id) if _ID.fullmatch(agent_id) else None
            if found is None:
                raise AgentNotFound(f"No worker ever declared an agent {agent_id[:80]!r}.", agent_id=agent_id[:80])
            agent = self._known[tenant, agent_id] = found
        return agent

    async def is_replayable(self, tenant: str, agent_id: str) -> bool:
        """Tell whether the agent's handler may be started again for the same run. Of an unknown agent: yes."""
        agent = self._known.get((tenant, agent_id)) or await self._store.get_agent(tenant, agent_id)
        return agent is None or not agent.HasField("replayable") or agent.replayable

    async def page(self, tenant: str, *, page_size: int, page_token: str) -> tuple[list[Agent], str]:
        """Return a page of agents by id, and the token of the next."""
        size, after = _PAGES.read(page_size, page_token)
        agents = await self._store.list_agents(tenant, after_id=after, limit=size + 1)
        token = _PAGES.token(agents[size - 1].id) if len(agents) > size else ""
        return [self._shown(agent) for agent in agents[:size]], token

    def _shown(self, agent: Agent) -> Agent:
        shown = Agent()
        shown.CopyFrom(agent)
        shown.online = self._is_online(agent.id)
        return shown


def _declaration(agent: Agent) -> bytes:
    """Return what the worker said, without what the core added."""
    said = Agent()
    said.CopyFrom(agent)
    said.ClearField("create_time")
    said.ClearField("update_time")
    return said.SerializeToString(deterministic=True)
