"""Agents as workers declared them. Whether one is online is known to the engine only."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import case, select
from sqlalchemy.dialects.postgresql import insert

from core_service.adapters.sql.rows import AGENT, agent_body, to_agent
from core_service.adapters.sql.schema import agents
from core_service.adapters.sql.statements import all_given, count, now, text
from core_service.adapters.sql.transaction import Transaction, check_text
from penstock.v1.agent_pb2 import Agent

_in_tenant = agents.c.tenant == text("tenant")
_DECLARE = insert(agents).values(
    all_given(agents.c.tenant, agents.c.agent_id, agents.c.body) | {"created": now(), "updated": now()}
)
DECLARE = _DECLARE.on_conflict_do_update(
    index_elements=[agents.c.tenant, agents.c.agent_id],
    set_={
        "body": _DECLARE.excluded.body,
        "updated": case((agents.c.body == _DECLARE.excluded.body, agents.c.updated), else_=now()),
    },
)
GET = select(*AGENT).where(_in_tenant, agents.c.agent_id == text("agent"))
PAGE = (
    select(*AGENT)
    .where(_in_tenant, agents.c.agent_id > text("after"))
    .order_by(agents.c.agent_id)
    .limit(count("limit"))
)


def declare_agents(transaction: Transaction, tenant: str, declared: Sequence[Agent]) -> None:
    """Carry out `Store.declare_agents`, in the order of ids, so that two cores cannot deadlock."""
    for agent in declared:
        check_text("agent.id", agent.id)
    transaction.do_many(
        DECLARE,
        [
            {"tenant": tenant, "agent_id": agent.id, "body": agent_body(agent)}
            for agent in sorted(declared, key=lambda agent: agent.id)
        ],
    )


def get_agent(transaction: Transaction, tenant: str, agent_id: str) -> Agent | None:
    """Carry out `Store.get_agent`."""
    row = transaction.row(GET, tenant=tenant, agent=agent_id)
    return to_agent(row) if row is not None else None


def list_agents(transaction: Transaction, tenant: str, *, after_id: str, limit: int) -> list[Agent]:
    """Carry out `Store.list_agents`."""
    return [to_agent(row) for row in transaction.rows(PAGE, tenant=tenant, after=after_id, limit=limit)]
