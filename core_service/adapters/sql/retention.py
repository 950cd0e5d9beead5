"""Policies of retention, and what they say about each agent. Implements `ports.RetentionStore`; how things expire is
`expiry.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import and_, delete, func, literal_column, select, tuple_
from sqlalchemy.dialects.postgresql import insert

from core_service.adapters.sql import expiry
from core_service.adapters.sql.schema import agents, retention
from core_service.adapters.sql.statements import all_given, count, integer, text
from core_service.adapters.sql.transaction import Database, Transaction, check_text
from core_service.ports import Keep, Kept, Term
from penstock.v1.message_pb2 import Message

_c = retention.c
KEEP = (_c.keep_events, _c.keep_messages, _c.keep_runs)
_in_tenant = _c.tenant == text("tenant")

_SET = insert(retention).values(all_given(*_c))
SET = _SET.on_conflict_do_update(
    index_elements=[_c.tenant, _c.agent_id],
    set_={column.name: _SET.excluded[column.name] for column in KEEP},
)
FIRST_PAGE = select(_c.agent_id, *KEEP).where(_in_tenant).order_by(_c.agent_id).limit(count("limit"))
PAGE = FIRST_PAGE.where(_c.agent_id > text("after"))
DELETE = delete(retention).where(_in_tenant, _c.agent_id == text("agent")).returning(_c.agent_id)

_own, _tenants = retention.alias("own"), retention.alias("tenants")
TERMS = (
    select(
        agents.c.tenant,
        agents.c.agent_id,
        *(
            func.coalesce(_own.c[column.name], _tenants.c[column.name], integer(f"default_{column.name}"))
            for column in KEEP
        ),
    )
    .select_from(
        agents.outerjoin(_own, and_(_own.c.tenant == agents.c.tenant, _own.c.agent_id == agents.c.agent_id)).outerjoin(
            _tenants, and_(_tenants.c.tenant == agents.c.tenant, _tenants.c.agent_id == literal_column("''"))
        )
    )
    .where(tuple_(agents.c.tenant, agents.c.agent_id) > tuple_(text("after_tenant"), text("after_agent")))
    .order_by(agents.c.tenant, agents.c.agent_id)
    .limit(count("limit"))
)


class SqlRetention:
    """Implements `ports.RetentionStore`; the contract of each method stands there."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def set_policy(self, tenant: str, agent_id: str, keep: Keep) -> None:
        await self._database.write(lambda tx: _set(tx, tenant, agent_id, keep))

    async def policies(self, tenant: str, *, after: str | None, limit: int) -> Sequence[tuple[str, Keep]]:
        return await self._database.read(lambda tx: _policies(tx, tenant, after=after, limit=limit))

    async def delete_policy(self, tenant: str, agent_id: str) -> bool:
        return await self._database.write(lambda tx: tx.row(DELETE, tenant=tenant, agent=agent_id) is not None)

    async def terms(self, defaults: Keep, *, after: tuple[str, str], limit: int) -> Sequence[Term]:
        return await self._database.read(lambda tx: _terms(tx, defaults, after=after, limit=limit))

    async def overdue(self, term: Term, what: Kept, *, limit: int) -> Sequence[str]:
        return await self._database.read(lambda tx: expiry.overdue(tx, term, what, limit=limit))

    async def expire_events(self, run_ids: Sequence[str]) -> Sequence[str]:
        return await self._database.write(lambda tx: expiry.expire_events(tx, run_ids))

    async def expire_messages(self, run_ids: Sequence[str]) -> Sequence[str]:
        return await self._database.write(lambda tx: expiry.expire_messages(tx, run_ids))

    async def delete_runs(self, tenant: str, run_ids: Sequence[str]) -> Sequence[str]:
        return await self._database.write(lambda tx: expiry.delete_runs(tx, tenant, run_ids))

    async def own_messages(self, tenant: str, run_id: str) -> Sequence[Message]:
        return await self._database.read(lambda tx: expiry.own_messages(tx, tenant, run_id))


def _set(transaction: Transaction, tenant: str, agent_id: str, keep: Keep) -> None:
    check_text("agent_id", agent_id)
    transaction.do(
        SET,
        tenant=tenant,
        agent_id=agent_id,
        keep_events=keep.events,
        keep_messages=keep.messages,
        keep_runs=keep.runs,
    )


def _policies(transaction: Transaction, tenant: str, *, after: str | None, limit: int) -> list[tuple[str, Keep]]:
    if after is None:
        rows = transaction.rows(FIRST_PAGE, tenant=tenant, limit=limit)
    else:
        rows = transaction.rows(PAGE, tenant=tenant, after=after, limit=limit)
    return [(agent_id, Keep(*keep)) for agent_id, *keep in rows]


def _terms(transaction: Transaction, defaults: Keep, *, after: tuple[str, str], limit: int) -> list[Term]:
    tenant, agent_id = after
    rows = transaction.rows(
        TERMS,
        after_tenant=tenant,
        after_agent=agent_id,
        default_keep_events=defaults.events or 0,
        default_keep_messages=defaults.messages or 0,
        default_keep_runs=defaults.runs or 0,
        limit=limit,
    )
    return [Term(tenant, agent_id, Keep(*keep)) for tenant, agent_id, *keep in rows]
