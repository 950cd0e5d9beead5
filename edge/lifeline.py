"""A run that lives as long as the connection of the client that asked for it.

Owns the cancel that follows a broken connection, for protocols whose clients cannot come back to a stream: to them,
closing the connection is how one stops. Nothing is kept: the handler of the request is the only memory, and a run
whose edge is killed goes on like any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress

import grpc
import structlog

from edge.core import CoreClient
from edge.errors import Refusal, refusal_of
from edge.watch import Watch
from penstock.v1.run_pb2 import EndReason, Run
from penstock.v1.run_service_pb2 import CancelRunRequest, CreateRunRequest, SubmitInputRequest

log = structlog.get_logger(__name__)

CANCEL_SECONDS = 5.0
"""How long a cancel is tried: its handler has no client any more, and must not outlive the edge's shutdown."""


@asynccontextmanager
async def run_of_client(
    core: CoreClient, asked: CreateRunRequest | SubmitInputRequest, *, ends_with_client: bool
) -> AsyncIterator[Run]:
    """Begin a run, or the next leg of one, and with `ends_with_client` cancel it when the connection breaks inside."""
    if not ends_with_client:
        yield await _begin(core, asked)
        return
    beginning = asyncio.create_task(_begin(core, asked))
    try:
        # Shielded: a call that is cut off may have made a run all the same, and nobody would know its id.
        yield await asyncio.shield(beginning)
    except (asyncio.CancelledError, ConnectionError):
        await _cancel(core, _id_in(beginning))
        raise


@asynccontextmanager
async def watch_of_client(
    core: CoreClient, create: CreateRunRequest, *, ends_with_client: bool
) -> AsyncIterator[tuple[Run, Watch]]:
    """As `run_of_client`, with a watch of the run from its first event on, which costs no second question."""
    with core.watch_new_run(create) as watch:
        del create  # it may be large, and the stream long
        try:
            yield await watch.created(), watch
        except (asyncio.CancelledError, ConnectionError):
            if ends_with_client:
                await _cancel(core, _id_of(watch))
            raise


async def _begin(core: CoreClient, asked: CreateRunRequest | SubmitInputRequest) -> Run:
    if isinstance(asked, SubmitInputRequest):
        return (await core.call(core.runs.SubmitInput, asked)).run
    return (await core.call(core.runs.CreateRun, asked)).run


async def _id_in(beginning: asyncio.Task[Run]) -> str:
    return (await beginning).id


async def _id_of(watch: Watch) -> str:
    return watch.run_id or (await watch.created()).id  # the create is not cut off while the watch is open


async def _cancel(core: CoreClient, beginning: Awaitable[str]) -> None:
    """Cancel the run whatever comes: a client may be lost twice, by a write that fails and then by its connection."""
    cancelling = asyncio.create_task(_try_cancel(core, beginning))
    while not cancelling.done():
        with suppress(asyncio.CancelledError):
            await asyncio.shield(cancelling)


async def _try_cancel(core: CoreClient, beginning: Awaitable[str]) -> None:
    try:
        run_id = await beginning
        request = CancelRunRequest(run_id=run_id, reason=EndReason.END_REASON_DISCONNECTED)
        await core.call(core.runs.CancelRun, request, timeout=CANCEL_SECONDS)
        log.info("run cancelled, its client is gone", run_id=run_id)
    except (grpc.aio.AioRpcError, Refusal) as error:
        refusal = error if isinstance(error, Refusal) else refusal_of(error)
        log.warning("run not cancelled, though its client is gone", reason=refusal.reason)
