"""Makes runs of the steering messages that came too late for the run they were sent to.

The end's own transaction says which; a run is made of them afterwards, exactly once.
"""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from core_service.domain.errors import Refusal
from core_service.engine.creates import Creates
from core_service.engine.owned import OwnedRun
from core_service.ports import FollowUp, Store

log = structlog.get_logger(__name__)

POLL_SECONDS = 5.0
RUNS_PER_TURN = 50


class FollowUps:
    """The loop that creates follow-up runs."""

    def __init__(self, store: Store, creates: Creates) -> None:
        self._store = store
        self._creates = creates
        self._wake = asyncio.Event()

    def ended(self, owned: OwnedRun) -> None:
        """A run has ended; wake up when it left messages unread."""
        if owned.grammar.ended is not None and (owned.grammar.ended.unread_message_ids or owned.held_back):
            self._wake.set()

    async def run(self) -> None:
        """Create until cancelled; what a crash left behind is found by the poll."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            try:
                for follow_up in await self._store.follow_ups(limit=RUNS_PER_TURN):
                    await self._create(follow_up)
            except Refusal as error:
                log.warning("follow-ups failed", reason=error.reason)

    async def _create(self, follow_up: FollowUp) -> None:
        """What is refused now is tried again at the next poll."""
        try:
            run = await self._creates.follow_up(follow_up)
        except Refusal as error:
            log.warning("follow-up refused", run_id=follow_up.run.id, reason=error.reason)
        else:
            log.info("follow-up created", run_id=follow_up.run.id, follow_up=run.id)
