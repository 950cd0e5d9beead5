"""The edge's client of the core: one channel, typed stubs, and calls that survive a restart of the core.

Owns deadlines, repeats and metadata of calls, and hands out watches of the shared stream (`edge/watches.py`). It does
not know HTTP: a failed call is an AioRpcError, translated by `edge/errors.py`.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

import grpc
from google.protobuf.message import Message
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from edge import caller
from edge.errors import DECIDED, reason_of
from edge.thread_watch import Enter, ThreadCall, ThreadWatch
from edge.watch import NewRun, Watch, WatchBatch
from edge.watches import Watches, WatchLimits
from penstock.grpc_options import CHANNEL_OPTIONS
from penstock.v1.agent_service_pb2_grpc import AgentServiceStub
from penstock.v1.retention_service_pb2_grpc import RetentionServiceStub
from penstock.v1.run_service_pb2 import CreateRunRequest
from penstock.v1.run_service_pb2_grpc import RunServiceStub
from penstock.v1.schedule_service_pb2_grpc import ScheduleServiceStub
from penstock.v1.system_service_pb2_grpc import SystemServiceStub
from penstock.v1.thread_service_pb2 import WatchThreadRequest
from penstock.v1.thread_service_pb2_grpc import ThreadServiceStub

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)

REPEATED = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED})
"""Failures that say nothing about the outcome. A CANCELLED that reaches this table was not asked for by us."""

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
HEALTH_METHOD, HEALTH_TIMEOUT = "/grpc.health.v1.Health/Check", 1.0


@dataclass(frozen=True, slots=True)
class CallLimits:
    """How long calls take and are repeated; see the settings of the same names."""

    call_timeout: float = 10.0
    repeat_for: float = 15.0


class CoreClient:
    """A connection to the core, or to the load balancer before the cores. An async context manager."""

    def __init__(self, address: str, *, calls: CallLimits | None = None, watches: WatchLimits | None = None) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._calls = calls or CallLimits()
        self._watch_limits = watches or WatchLimits()
        self._check_health = self._channel.unary_unary(
            HEALTH_METHOD,
            request_serializer=HealthCheckRequest.SerializeToString,
            response_deserializer=HealthCheckResponse.FromString,
        )
        self._stack = AsyncExitStack()
        self.agents = AgentServiceStub(self._channel)
        self.threads = ThreadServiceStub(self._channel)
        self.runs = RunServiceStub(self._channel)
        self.schedules = ScheduleServiceStub(self._channel)
        self.retention = RetentionServiceStub(self._channel)
        self.system = SystemServiceStub(self._channel)
        self.watches = Watches(lambda: self.runs.WatchMany(), self._watch_limits)

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._channel)
        await self._stack.enter_async_context(self.watches)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        *,
        timeout: float | None = None,
    ) -> Response:
        """Make one unary call, whatever happens to the core meanwhile.

        An empty `request_id` of the request is filled in, in place; so the call is harmless to repeat, as reads
        are, and it is repeated while the outcome is unknown. `timeout` is the caller's own deadline in seconds,
        repeats included; without it an attempt and all attempts may take what the settings say. Raises AioRpcError.
        """
        _fill_request_id(request)
        clock = asyncio.get_running_loop().time
        until = clock() + (self._calls.repeat_for if timeout is None else timeout)
        pause = FIRST_PAUSE
        while True:
            allowed = self._calls.call_timeout if timeout is None else max(until - clock(), 0.001)
            try:
                return await _attempt(method, request, allowed)
            except grpc.aio.AioRpcError as error:
                wait = pause * random.uniform(0.5, 1.0)
                if not _is_undecided(error) or clock() + wait >= until:
                    raise
            await asyncio.sleep(wait)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def watch(self, run_id: str, *, after: int) -> AsyncIterator[WatchBatch]:
        """Yield the run's events after a seq, batch by batch, until it has ended. Raises Refusal."""
        with self.open_watch(run_id, after=after) as watch:
            async for batch in watch:
                yield batch

    def open_watch(self, run_id: str, *, after: int) -> Watch:
        """Return the same as an object, for those who must know what is ready and drop what waits."""
        return self.watches.open(run_id, after=after)

    def open_thread_watch(self, thread_id: str, *, after: str, enter: Enter) -> ThreadWatch:
        """Return a watch of a thread's runs behind a cursor. `enter` is told of each run before its events come."""
        metadata = caller.current.get().metadata()

        def dial(cursor: str) -> ThreadCall:
            return self.threads.WatchThread(WatchThreadRequest(thread_id=thread_id, after=cursor), metadata=metadata)

        return ThreadWatch(dial, thread_id, after=after, enter=enter, limits=self._watch_limits)

    def watch_new_run(self, create: CreateRunRequest) -> Watch:
        """Return a watch that creates its run: one message to the core instead of a call and a watch after it.

        An empty `request_id` is filled in, in place, and the create is repeated, as `call` does it, for as long. The
        run and its refusals come from `Watch.created`. Raises Refusal for what is too large to be sent.
        """
        _fill_request_id(create)
        deadline = asyncio.get_running_loop().time() + self._calls.repeat_for
        return self.watches.open_new(NewRun(create, dict(caller.current.get().metadata()), deadline))

    async def is_serving(self) -> bool:
        """Ask the core's health service, once and briefly."""
        try:
            answer = await self._check_health(HealthCheckRequest(), timeout=HEALTH_TIMEOUT)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.status == HealthCheckResponse.SERVING)


async def _attempt(
    method: grpc.aio.UnaryUnaryMultiCallable[Request, Response], request: Request, timeout: float
) -> Response:
    try:
        return await method(request, timeout=timeout, metadata=caller.current.get().metadata())
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # gRPC gave up the call by itself, as it does when the channel closes under it.
        raise grpc.aio.AioRpcError(grpc.StatusCode.CANCELLED, grpc.aio.Metadata(), grpc.aio.Metadata()) from None


def _is_undecided(error: grpc.aio.AioRpcError) -> bool:
    reason = reason_of(error)
    return error.code() in REPEATED and (reason is None or reason.name not in DECIDED)


def _fill_request_id(request: Message) -> None:
    field = request.DESCRIPTOR.fields_by_name.get("request_id")
    if field is not None and not getattr(request, field.name):
        setattr(request, field.name, secrets.token_hex(16))
