"""The services that a client calls, played by the test: real gRPC, answers and failures by script."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status.rpc_status import to_status

from penstock.grpc_options import SERVER_OPTIONS
from penstock.v1.event_pb2 import Event
from penstock.v1.run_pb2 import Run, RunState
from penstock.v1.run_service_pb2 import (
    CancelRunRequest,
    CancelRunResponse,
    CreateRunRequest,
    CreateRunResponse,
    GetRunRequest,
    GetRunResponse,
    ListRunsRequest,
    ListRunsResponse,
    StreamRunRequest,
    WaitRunRequest,
    WaitRunResponse,
    WatchRunRequest,
    WatchRunResponse,
)
from penstock.v1.run_service_pb2_grpc import RunServiceServicer, add_RunServiceServicer_to_server

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")


@dataclass(frozen=True)
class Refuse:
    """A call that fails."""

    code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE
    reason: str = "CORE_DRAINING"
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass
class ScriptedRuns(RunServiceServicer):
    """Every call first meets the refusals that are left; streams send the plays one by one."""

    refusals: list[Refuse] = field(default_factory=list)
    plays: list[Sequence[Event | Refuse]] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    requests: list[object] = field(default_factory=list)
    address: str = ""

    async def CreateRun(self, request: CreateRunRequest, context: object) -> CreateRunResponse:  # type: ignore[override]
        await self._meet(request, context)
        return CreateRunResponse(run=Run(id="run_1", agent_id=request.agent_id))

    async def GetRun(self, request: GetRunRequest, context: object) -> GetRunResponse:  # type: ignore[override]
        await self._meet(request, context)
        return GetRunResponse(run=Run(id=request.run_id))

    async def CancelRun(self, request: CancelRunRequest, context: object) -> CancelRunResponse:  # type: ignore[override]
        await self._meet(request, context)
        return CancelRunResponse(run=Run(id=request.run_id, cancel_requested=True))

    async def WaitRun(self, request: WaitRunRequest, context: object) -> WaitRunResponse:  # type: ignore[override]
        await self._meet(request, context)
        return WaitRunResponse(run=Run(id=request.run_id, state=RunState.RUN_STATE_SUCCEEDED))

    async def ListRuns(self, request: ListRunsRequest, context: object) -> ListRunsResponse:  # type: ignore[override]
        await self._meet(request, context)
        start = int(request.page_token or 0)
        following = str(start + 2) if start + 2 < len(self.runs) else ""
        return ListRunsResponse(runs=self.runs[start : start + 2], next_page_token=following)

    async def StreamRun(  # type: ignore[override]
        self, request: StreamRunRequest, context: object
    ) -> AsyncIterator[WatchRunResponse]:
        await self._meet(_copy(request), context)
        async for batch in self._play(context, 0):
            yield batch

    async def WatchRun(  # type: ignore[override]
        self, request: WatchRunRequest, context: object
    ) -> AsyncIterator[WatchRunResponse]:
        await self._meet(_copy(request), context)
        async for batch in self._play(context, request.after_seq):
            yield batch

    async def _play(self, context: object, after: int) -> AsyncIterator[WatchRunResponse]:
        yield WatchRunResponse(run_id="run_1")
        for said in self.plays.pop(0):
            if isinstance(said, Refuse):
                await _refuse(said, context)
            elif said.seq > after:
                yield WatchRunResponse(run_id="run_1", events=[said])

    async def _meet(self, request: object, context: object) -> None:
        self.requests.append(request)
        if self.refusals:
            await _refuse(self.refusals.pop(0), context)


def _copy(request: RequestT) -> RequestT:
    return request


async def _refuse(refusal: Refuse, context: object) -> None:
    assert isinstance(context, grpc.aio.ServicerContext)
