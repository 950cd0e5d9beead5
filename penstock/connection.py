"""One stream to one core, from the dial to its end.

Owns the order of things on the stream and the moments of sending. What the core says goes to the `Executions`, what
there is to say comes from the `Outboxes`. Reconnecting is the worker's business.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

import grpc
import grpc.aio

from penstock import wire
from penstock.executions import Executions
from penstock.grpc_options import CHANNEL_OPTIONS
from penstock.outboxes import Outboxes
from penstock.v1.worker_service_pb2 import (
    DESCRIPTOR,
    ConnectResponse,
    CoreMessage,
    Hello,
    Welcome,
    WorkerMessage,
)

_SERVICE = DESCRIPTOR.services_by_name["WorkerService"]
_METHOD = f"/{_SERVICE.full_name}/{_SERVICE.methods_by_name['Connect'].name}"

# Connections of one process to one address share gRPC's own backoff unless told not to; ours decides alone.
_OPTIONS = (*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1))

GATHER = 0.010
"""Seconds after a send in which outputs are gathered, while the core has outputs of ours to store."""
WELCOME_WITHIN = 30.0
LEAVE_WITHIN = 2.0

_Call = grpc.aio.StreamStreamCall[bytes, ConnectResponse]
_BROKEN = (grpc.aio.AioRpcError, asyncio.InvalidStateError)
"""What grpc raises for a stream that has ended; the second when it is written to afterwards."""


class CannotConnect(Exception):
    """No core answered at this address; the message says why."""


class Connection:
    """An async context manager: entering dials, says `hello` and waits for the welcome, or raises CannotConnect."""

    def __init__(self, address: str, hello: Hello, executions: Executions, outboxes: Outboxes) -> None:
        self.address = address
        self.welcome = Welcome()
        self._hello = wire.message(WorkerMessage(hello=hello))
        self._executions = executions
        self._outboxes = outboxes
        self._sent_at = 0.0
        self._is_leaving = False
        self._has_hung_up = False

    async def __aenter__(self) -> Self:
        self.channel = grpc.aio.insecure_channel(self.address, options=_OPTIONS)
        # Requests are bytes already (wire.py).
        stream = self.channel.stream_stream(
            _METHOD, request_serializer=_as_it_is, response_deserializer=ConnectResponse.FromString
        )
        self._call: _Call = stream()
        try:
            async with asyncio.timeout(WELCOME_WITHIN):
                await self._introduce()
        except BaseException as error:
            await self.channel.close()
            if isinstance(error, (TimeoutError, CannotConnect, *_BROKEN)):
                raise CannotConnect(_describe(error)) from error
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._call.cancel()
        await self.channel.close()

    async def relay(self) -> str:
        """Carry what both sides say until the stream ends. Returns why it ended, for the log."""
        async with asyncio.TaskGroup() as tasks:
            writer = tasks.create_task(self._write())
            try:
                while isinstance(response := await self._call.read(), ConnectResponse):
                    for message in response.messages:
                        self._hear(message)
                return "the core closed the stream"
            except grpc.aio.AioRpcError as error:
                return _describe(error)
            except asyncio.CancelledError:
                if not self._has_hung_up:  # then it is our own cancel of the call that the read raises
                    raise
                return "the core did not close the stream"
            finally:
                writer.cancel()

    def leave(self) -> None:
        """Send what there is, wait a moment until it is stored, and end the stream."""
        self._is_leaving = True
        self._outboxes.stirred.set()
        self._outboxes.urgent.set()

    async def _introduce(self) -> None:
        await self._call.write(self._hello)
        response = await self._call.read()
        if not isinstance(response, ConnectResponse):
            raise CannotConnect("the core closed the stream without a welcome")
        first, *others = response.messages
        if not first.HasField("welcome"):
            raise CannotConnect("the core's first message was no welcome")
        self.welcome = first.welcome
        self._executions.welcome(first.welcome)
        for message in others:
            self._hear(message)

    def _hear(self, message: CoreMessage) -> None:
        match message.WhichOneof("message"):
            case "ack":
                self._executions.ack(message.ack)
            case "assignment":
                self._executions.assign(message.assignment)
            case "cancel_requested":
                self._executions.cancel(message.cancel_requested)
            case "answered":
                self._executions.answer(message.answered)
            case "steered":
                self._executions.steer(message.steered)
            case "revoked":
                self._executions.revoke(message.revoked)
            case "draining":
                self.leave()
            case _:
                pass  # a newer core says more than this SDK knows; it may not depend on being understood

    async def _write(self) -> None:
        try:
            while not self._is_leaving:
                await self._outboxes.stirred.wait()
                await asyncio.sleep(0)  # whoever is about to speak comes along: a short run is one message
                await self._gather()
                await self._flush()
            await self._flush()
            await self._settle()
        except _BROKEN:
            pass  # the reader meets the end of the stream too, and tells of it

    async def _gather(self) -> None:
        """Wait while waiting pays: the core is busy with what it has, and gets the more at a time.

        When it has stored everything, or a handler waits for room, gathering would only delay.
        """
        loop = asyncio.get_running_loop()
        rest = self._sent_at + GATHER - loop.time()
        if rest <= 0 or not self._outboxes.in_flight:
            return
        try:
            async with asyncio.timeout(rest):
                await self._outboxes.urgent.wait()
        except TimeoutError:
            pass

    async def _flush(self) -> None:
        while request := self._outboxes.take():
            await self._call.write(request)
        self._sent_at = asyncio.get_running_loop().time()

    async def _settle(self) -> None:
        try:
            async with asyncio.timeout(LEAVE_WITHIN):
                while self._outboxes.in_flight:
                    self._outboxes.urgent.clear()
                    await self._outboxes.urgent.wait()
        except TimeoutError:
            pass
        await self._call.done_writing()
        await asyncio.sleep(LEAVE_WITHIN)  # ends with the reader, when the core closes its side
        self._has_hung_up = True
        self._call.cancel()


def _as_it_is(request: bytes) -> bytes:
    return request


def _describe(error: BaseException) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error) or f"no welcome within {WELCOME_WITHIN:g} s"
