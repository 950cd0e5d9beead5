"""The events of a thread's runs as one stream, however often the calls that bring them break."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc.aio

from penstock.calls import Patience
from penstock.v1.event_pb2 import Event
from penstock.v1.thread_service_pb2 import WatchThreadRequest

if TYPE_CHECKING:
    from penstock.v1.thread_service_pb2_grpc import ThreadServiceAsyncStub


@dataclass(frozen=True, slots=True)
class ThreadEvent:
    """An event of one of a thread's runs."""

    run_id: str
    event: Event
    cursor: str
    """Where a watch goes on behind it. Opaque."""


async def follow(
    threads: ThreadServiceAsyncStub, thread_id: str, *, after: str, patience: Patience
) -> AsyncGenerator[ThreadEvent, None]:
    """Yield events without end: a new call goes on where the last one broke."""
    while True:
        call = threads.WatchThread(WatchThreadRequest(thread_id=thread_id, after=after))
        try:
            async for batch in call:
                patience.renew()
                for event in batch.events:
                    after = f"{batch.cursor_prefix}{event.seq}"
                    yield ThreadEvent(batch.run_id, event, after)
        except grpc.aio.AioRpcError as error:
            await patience.bear(error)
        finally:
            call.cancel()
