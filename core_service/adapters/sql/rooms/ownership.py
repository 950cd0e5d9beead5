"""Cores, claims, adoption, loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from core_service.adapters.sql import dispatch, ownership
from core_service.adapters.sql.transaction import Database
from core_service.ports import Head, Owned

FAIR_TURN = 8
"""Every so many claims go by age alone, so that low priorities get on (ENGINE.md, I2)."""


class OwnershipRoom:
    """Implements `ports.OwnershipStore`; the contract of each method stands there."""

    name: str
    _database: Database
    _claims: Iterator[int]

    async def renew_core(self, core_id: str, *, address: str, lease: float) -> None:
        await self._database.renew(lambda tx: ownership.renew_core(tx, core_id, address=address, lease=lease))

    async def remove_core(self, core_id: str, *, grace: float) -> None:
        await self._database.write(lambda tx: ownership.remove_core(tx, core_id, grace=grace))

    async def disown_all(self, *, core_id: str, grace: float) -> int:
        if self.name != "sqlite":
            return 0
        return await self._database.write(lambda tx: ownership.disown_all(tx, core_id=core_id, grace=grace))

    async def claim(
        self,
        tenant: str,
        agent_id: str,
        *,
        owner: str,
        session: str,
        limit: int,
        started: Callable[[int, int], bytes],
    ) -> list[Owned]:
        by_age = next(self._claims) % FAIR_TURN == 0
        return await self._database.write(
            lambda tx: dispatch.claim(
                tx, tenant, agent_id, owner=owner, session=session, limit=limit, by_age=by_age, started=started
            )
        )

    async def waiting_tenants(self, agent_id: str, *, after: str, limit: int) -> list[str]:
        return await self._database.read(lambda tx: dispatch.waiting_tenants(tx, agent_id, after=after, limit=limit))

    async def adopt(self, run_id: str, *, attempt: int, owner: str, session: str) -> Owned | None:
        return await self._database.write(
            lambda tx: ownership.adopt(tx, run_id, attempt=attempt, owner=owner, session=session)
        )

    async def held_by(self, session: str) -> list[tuple[str, int]]:
        return await self._database.read(lambda tx: ownership.held_by(tx, session))

    async def session_lost(self, session: str, *, owner: str, grace: float) -> int:
        return await self._database.write(lambda tx: ownership.session_lost(tx, session, owner=owner, grace=grace))

    async def lost_runs(self, *, margin: float, limit: int) -> list[Head]:
        return await self._database.read(lambda tx: ownership.lost_runs(tx, margin=margin, limit=limit))

    async def take(self, run_id: str, *, fence: int, owner: str) -> Owned | None:
        return await self._database.write(lambda tx: ownership.take(tx, run_id, fence=fence, owner=owner))

    async def overdue_queued(self, *, limit: int) -> list[Head]:
        return await self._database.read(lambda tx: dispatch.overdue_queued(tx, limit=limit))

    async def queued_count(self) -> int:
        return await self._database.read(dispatch.queued_count)
