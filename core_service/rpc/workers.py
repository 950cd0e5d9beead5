"""Serves WorkerService: the stream of one worker."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from core_service.domain.errors import CoreDraining, WorkerProtocol, WorkerReplaced
from core_service.engine.journal import Journal
from core_service.engine.sessions import WorkerSession
from core_service.engine.workers import Workers
from core_service.rpc.caller import tenant_of
from core_service.rpc.errors import Context
from penstock.v1.worker_service_pb2 import ConnectRequest, ConnectResponse


class WorkerServicer:
    """WorkerService over the engine."""

    def __init__(self, workers: Workers, journal: Journal) -> None:
        self._workers = workers
        self._journal = journal
        self.draining = False

    async def Connect(
        self, requests: AsyncIterator[ConnectRequest], context: Context
    ) -> AsyncIterator[ConnectResponse]:
        if self.draining:
            raise CoreDraining("This core shuts down; connect to another one.")
        first = await anext(requests, None)
        if first is None or not first.messages or not first.messages[0].HasField("hello"):
            raise WorkerProtocol("The first message of a worker is Hello.")
        session = await self._workers.connect(tenant_of(context), first.messages[0].hello)
        del first.messages[0]
        reader = asyncio.create_task(self._read(session, first, requests))
        try:
            async for response in session.responses():
                yield response
            if session.replaced:
                raise WorkerReplaced("A newer stream of this worker took over.")
            if reader.done() and not reader.cancelled() and (error := reader.exception()) is not None:
                raise error
        finally:
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await reader
            await asyncio.shield(self._workers.disconnect(session))

    async def _read(
        self, session: WorkerSession, first: ConnectRequest, requests: AsyncIterator[ConnectRequest]
    ) -> None:
        """Take what the worker says, as long as the journal keeps up; then end the stream."""
        try:
            self._workers.receive(session, first)
            async for request in requests:
                self._workers.receive(session, request)
                await self._journal.room()
        finally:
            session.close()
