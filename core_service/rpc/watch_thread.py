"""The stream of a thread: the history of its runs, one after the other, then live, without an end of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from core_service.domain.errors import CoreDraining
from core_service.domain.segments import retagged
from core_service.engine.thread_watch import Piece, ThreadHub
from penstock.v1.thread_service_pb2 import WatchThreadResponse

BATCH_BYTES = 64 << 10
PROGRESS_SECONDS = 10.0
_EVENTS = WatchThreadResponse.EVENTS_FIELD_NUMBER


async def watch_thread(hub: ThreadHub, tenant: str, thread_id: str, *, after: str) -> AsyncIterator[bytes]:
    """Yield serialised WatchThreadResponses: stored bytes under the tag of this message, with a trailer.

    Ends with a refusal only: CoreDraining, or ThreadNotFound once the thread is deleted.
    """
    is_caught_up = False
    async with hub.opened(tenant, thread_id, after) as watcher:
        while True:
            watcher.bell.clear()
            piece = await watcher.next(BATCH_BYTES)
            is_level = piece is None or piece.is_level
            if piece is not None or not is_caught_up:
                yield _message(piece, str(watcher.cursor), caught_up=is_level and not is_caught_up)
                is_caught_up = is_caught_up or is_level
            if piece is not None:
                continue
            if hub.draining:
                raise CoreDraining("This core shuts down; watch again behind the last event.")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PROGRESS_SECONDS):
                    await watcher.bell.wait()
            if not watcher.bell.is_set():
                yield _message(None, str(watcher.cursor), caught_up=False)


def _message(piece: Piece | None, cursor: str, *, caught_up: bool) -> bytes:
    if piece is None:
        return WatchThreadResponse(cursor=cursor, caught_up=caught_up).SerializeToString()
    trailer = WatchThreadResponse(
        run_id=piece.run_id, cursor=cursor, cursor_prefix=piece.cursor.prefix, caught_up=caught_up
    )
    return retagged(piece.data, _EVENTS) + trailer.SerializeToString()
