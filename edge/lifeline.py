"""A run that lives as long as the connection of the client that asked for it.

Owns the cancel that follows a broken connection, for protocols whose clients cannot come back to a stream: to them,
closing the connection is how one stops. Nothing is kept: the handler of the request is the only memory, and a run
whose edge is killed goes on like any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import structlog

from edge.core import CoreClient
from edge.errors import refusal_of
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
        await _cancel(core, beginning)
        raise


async def _begin(core: CoreClient, asked: CreateRunRequest | SubmitInputRequest) -> Run:
    if isinstance(asked, SubmitInputRequest):
        return (await core.call(core.runs.SubmitInput, asked)).run
    return (await core.call(core.runs.CreateRun, asked)).run


async def _cancel(core: CoreClient, beginning: asyncio.Task[Run]) -> None:
    try:
        run_id = (await beginning).id
        request = CancelRunRequest(run_id=run_id, reason=EndReason.END_REASON_DISCONNECTED)
        await core.call(core.runs.CancelRun, request, timeout=CANCEL_SECONDS)
        log.info("run cancelled, its client is gone", run_id=run_id)
    except grpc.aio.AioRpcError as error:
        log.warning("run not cancelled, though its client is gone", reason=refusal_of(error).reason)
