"""Tells the store which runs are being watched, for those that are to be cancelled when nobody does (ENGINE.md D7).

Each core tells of its own watchers; whoever sweeps sees all of them. So it survives a kill of core and edge.
"""

from __future__ import annotations

import structlog

from core_service.domain.errors import Refusal
from core_service.engine.watch import WatchHub
from core_service.ports import Clock, Store

log = structlog.get_logger(__name__)

SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 5.0


class Attendance:
    """The loop that keeps watched runs alive."""

    def __init__(self, store: Store, clock: Clock, hub: WatchHub) -> None:
        self._store = store
        self._clock = clock
        self._hub = hub

    async def run(self) -> None:
        """Tell the store every third of the shortest grace, until cancelled."""
        while True:
            watched = self._hub.kept_alive()
            pause = min(watched.values(), default=LONGEST_PAUSE) / 3
            await self._clock.sleep(max(SHORTEST_PAUSE, min(pause, LONGEST_PAUSE)))
            if not watched:
                continue
            try:
                await self._store.keep_watched(list(watched))
            except Refusal as error:
                log.warning("attendance not noted", runs=len(watched), reason=error.reason)
