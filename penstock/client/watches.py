"""The events of a run as one stream, however often the calls that bring them break."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import grpc.aio

from penstock.calls import Patience
from penstock.v1.event_pb2 import Event
from penstock.v1.run_service_pb2 import WatchRunResponse

OpenWatch = Callable[[str, int], AsyncGenerator[WatchRunResponse, None]]
"""Opens a call for a run's events behind a seq. The run id is empty until the first answer has told it."""


async def events(
    open_watch: OpenWatch, *, run_id: str = "", after: int = 0, patience: Patience
) -> AsyncGenerator[Event, None]:
    """Yield events to `run_ended`: a new call goes on where the last one broke."""
    while True:
        try:
            async with aclosing(open_watch(run_id, after)) as batches:
                async for batch in batches:
                    patience.renew()
                    run_id = batch.run_id or run_id
                    for event in batch.events:
                        after = event.seq
                        yield event
            return  # only the end of the run completes a stream
        except grpc.aio.AioRpcError as error:
            await patience.bear(error)
