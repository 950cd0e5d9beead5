"""The async client for services that speak gRPC to a core.

Owns what makes a core's restart invisible: request ids, so that a repeated call changes nothing twice, and watches that
go on behind the last event they saw. What it takes and returns are messages of the contract; what fails raises one of
`penstock.errors`. The calls of each service are a class of their own; `Client` is all of them on one connection.

    async with Client("127.0.0.1:50051") as client:
        async for event in client.stream("echo", "hi"):
            print(event.part_delta.text, end="")
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from penstock.client.agents import AgentCalls
from penstock.client.caller import Caller
from penstock.client.inputs import InputCalls
from penstock.client.retention import RetentionCalls
from penstock.client.runs import RunCalls
from penstock.client.schedules import ScheduleCalls
from penstock.client.threads import ThreadCalls
from penstock.v1.agent_service_pb2_grpc import AgentServiceStub
from penstock.v1.retention_service_pb2_grpc import RetentionServiceStub
from penstock.v1.run_service_pb2_grpc import RunServiceStub
from penstock.v1.schedule_service_pb2_grpc import ScheduleServiceStub
from penstock.v1.thread_service_pb2_grpc import ThreadServiceStub


class Client(RunCalls, InputCalls, ThreadCalls, AgentCalls, ScheduleCalls, RetentionCalls):
    """A connection to a core, or to a load balancer before several. An async context manager."""

    def __init__(self, address: str = "127.0.0.1:50051", *, timeout: float = 30.0, patience: float = 60.0) -> None:
        """`timeout` is that of one call, in seconds; without a core, calls and watches are repeated for `patience`."""
        self.address = address
        self._timeout = timeout
        self._patience = patience

    async def __aenter__(self) -> Self:
        self._caller = Caller(self.address, timeout=self._timeout, patience=self._patience)
        self._agents = AgentServiceStub(self._caller.channel)
        self._threads = ThreadServiceStub(self._caller.channel)
        self._runs = RunServiceStub(self._caller.channel)
        self._schedules = ScheduleServiceStub(self._caller.channel)
        self._retention = RetentionServiceStub(self._caller.channel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._caller.close()
