"""What is due every second: signals whose ring was lost, delayed runs, questions nobody answered, runs nobody watches.

Each chore is a query on a small partial index, and fails alone. What is urgent does not wait for it: this finds what a
lost ring, a crash or the mere passing of time left behind.
"""

from __future__ import annotations

import structlog

from core_service.domain.errors import Refusal
from core_service.engine.owned import Ownership
from core_service.engine.settling import Settling
from core_service.ports import Bus, Clock, Ring, Store
from penstock.v1.run_pb2 import EndReason

log = structlog.get_logger(__name__)

PAUSE_SECONDS = 1.0
ROWS_PER_CHORE = 200


class Sweeps:
    """Looks through the store every second."""

    def __init__(self, *, store: Store, bus: Bus, clock: Clock, ownership: Ownership, settling: Settling) -> None:
        self._store = store
        self._bus = bus
        self._clock = clock
        self._ownership = ownership
        self._settling = settling

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await self._clock.sleep(PAUSE_SECONDS)
            await self.sweep()

    async def sweep(self) -> None:
        """Do every chore once."""
        for chore in (self._owned, self._nobodys, self._expired, self._due, self._orphans, self._unwatched):
            try:
                await chore()
            except Refusal as error:
                log.warning("sweep failed", chore=chore.__name__, reason=error.reason)
            except Exception:  # one chore must not stop the others
                log.exception("sweep failed", chore=chore.__name__)

    async def _owned(self) -> None:
        """Answers and steering messages for runs of this core (ENGINE.md B10)."""
        if not len(self._ownership):
            return
        signalled = await self._store.signalled([owned.run_id for owned in self._ownership])
        for head in await self._store.heads(signalled):
            await self._settling.signal(head)

    async def _nobodys(self) -> None:
        """Answers and cancels for waiting runs that nobody has."""
        for head in await self._store.nobodys_signals(limit=ROWS_PER_CHORE):
            await self._settling.signal(head)

    async def _expired(self) -> None:
        """Questions that nobody answered in time."""
        for head in await self._store.expire_inputs(limit=ROWS_PER_CHORE):
            await self._settling.signal(head)

    async def _due(self) -> None:
        """Delayed runs whose time has come."""
        due = await self._store.join_due(limit=ROWS_PER_CHORE)
        if due:
            self._bus.ring([Ring("work", agent_id) for agent_id in await self._store.promote(due)])

    async def _orphans(self) -> None:
        """Runs that outlived the run that called them."""
        for head in await self._store.orphans(limit=ROWS_PER_CHORE):
            await self._settling.cancel(head.tenant, head.run_id, EndReason.END_REASON_PARENT)

    async def _unwatched(self) -> None:
        """Runs that were to be cancelled once nobody watches them."""
        for head in await self._store.unwatched(limit=ROWS_PER_CHORE):
            await self._settling.cancel(head.tenant, head.run_id, EndReason.END_REASON_DISCONNECTED)
