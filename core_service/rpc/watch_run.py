"""The stream of one watch: history, then live, then the end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from core_service.domain.errors import CoreDraining
from core_service.engine.watch import WatchHub
from penstock.v1.run_pb2 import Run
from penstock.v1.run_service_pb2 import WatchRunResponse

BATCH_BYTES = 64 << 10
PROGRESS_SECONDS = 10.0


def created(run: Run) -> bytes:
    """Return the first message of StreamRun."""
    return WatchRunResponse(run_id=run.id, head_seq=run.last_seq).SerializeToString()


async def watch_run(hub: WatchHub, tenant: str, run_id: str, *, after_seq: int) -> AsyncIterator[bytes]:
    """Yield serialised WatchRunResponses: stored bytes with a trailer. Ends after RunEnded, or with CoreDraining."""
    changed = asyncio.Event()
    watcher = await hub.open(tenant, run_id, after_seq, lambda _: changed.set())
    caught_up = False
    with hub.closing(watcher):
        while True:
            changed.clear()
            segment = await watcher.next(BATCH_BYTES)
            level = not watcher.behind
            if segment is not None or (level and not caught_up):
                trailer = WatchRunResponse(
                    run_id=run_id, head_seq=watcher.feed.last_seq, caught_up=level and not caught_up
                )
                yield (segment.data if segment else b"") + trailer.SerializeToString()
                caught_up = caught_up or level
            if watcher.over:
                return
            if not watcher.behind and hub.draining:
                raise CoreDraining("This core shuts down; watch again behind the last event.")
            if watcher.behind:
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PROGRESS_SECONDS):
                    await changed.wait()
            if not changed.is_set():
                yield WatchRunResponse(run_id=run_id, head_seq=watcher.feed.last_seq).SerializeToString()
