"""Cancels the runs that a run has called, once it has ended (ENGINE.md D8). A sweep finds what this one misses."""

from __future__ import annotations

import asyncio

import structlog

from core_service.domain.errors import Refusal
from core_service.engine.owned import OwnedRun
from core_service.engine.settling import Settling
from core_service.ports import Store
from penstock.v1.run_pb2 import EndReason

log = structlog.get_logger(__name__)


class Offspring:
    """The loop that cancels children."""

    def __init__(self, store: Store, settling: Settling) -> None:
        self._store = store
        self._settling = settling
        self._ended: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    def ended(self, owned: OwnedRun) -> None:
        """A run has ended, perhaps before the runs that it called."""
        if owned.grammar.children:
            self._ended.put_nowait((owned.tenant, owned.run_id))

    async def run(self) -> None:
        """Cancel until cancelled."""
        while True:
            tenant, run_id = await self._ended.get()
            try:
                for head in await self._store.children(run_id):
                    await self._settling.cancel(tenant, head.run_id, EndReason.END_REASON_PARENT)
            except Refusal as error:
                log.warning("children not cancelled", run_id=run_id, reason=error.reason)
