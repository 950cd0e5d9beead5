"""The run service that a client calls, played by the test: real gRPC, with answers and failures by script."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Never, TypeAlias

import grpc
import grpc.aio
from google.protobuf import any_pb2
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status.rpc_status import to_status

from penstock.grpc_options import SERVER_OPTIONS
from penstock.v1.event_pb2 import Event
from penstock.v1.message_pb2 import Message
from penstock.v1.run_pb2 import Input, Run, RunState
from penstock.v1.run_service_pb2 import (
    CancelRunRequest,
    CancelRunResponse,
    CancelRunsRequest,
    CancelRunsResponse,
    CreateRunRequest,
    CreateRunResponse,
    DeleteRunRequest,
    DeleteRunResponse,
    GetRunRequest,
    GetRunResponse,
    ListInputsRequest,
    ListInputsResponse,
    ListRunsRequest,
    ListRunsResponse,
    SteerRunRequest,
    SteerRunResponse,
    StreamRunRequest,
    SubmitInputRequest,
    SubmitInputResponse,
    WaitRunRequest,
    WaitRunResponse,
    WatchRunRequest,
    WatchRunResponse,
)
from penstock.v1.run_service_pb2_grpc import RunServiceServicer, add_RunServiceServicer_to_server

Context: TypeAlias = grpc.aio.ServicerContext[object, object]


@dataclass(frozen=True)
class Refusal:
    """How a call fails."""

    code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE
    reason: str = "CORE_DRAINING"
    metadata: dict[str, str] = field(default_factory=dict)


class ScriptedRuns(RunServiceServicer):
    """Each call meets the next refusal, as long as there are any; each stream then plays the next play.

    The generated servicer is typed for blocking and asynchronous servers at once; this is the latter.
    """

    def __init__(self) -> None:
        self.address = ""
        self.refusals: list[Refusal] = []
        self.plays: list[Sequence[Event | Refusal | asyncio.Event]] = []
        """An asyncio.Event holds a play up until it is set."""
        self.ids: list[str] = []
        """Of the runs that are created; then `run_1`."""
        self.runs: list[Run] = []
        self.requests: list[object] = []

    async def CreateRun(self, request: CreateRunRequest, context: Context) -> CreateRunResponse:
        await self._meet(request, context)
        return CreateRunResponse(run=Run(id=self.ids.pop(0) if self.ids else "run_1", agent_id=request.agent_id))

    async def GetRun(self, request: GetRunRequest, context: Context) -> GetRunResponse:
        await self._meet(request, context)
        return GetRunResponse(run=Run(id=request.run_id))

    async def CancelRun(self, request: CancelRunRequest, context: Context) -> CancelRunResponse:
        await self._meet(request, context)
        return CancelRunResponse(run=Run(id=request.run_id, cancel_requested=True))

    async def WaitRun(self, request: WaitRunRequest, context: Context) -> WaitRunResponse:
        await self._meet(request, context)
        return WaitRunResponse(run=self.runs.pop(0))

    async def ListRuns(self, request: ListRunsRequest, context: Context) -> ListRunsResponse:
        await self._meet(request, context)
        start = int(request.page_token or 0)
        following = str(start + 2) if start + 2 < len(self.runs) else ""
        return ListRunsResponse(runs=self.runs[start : start + 2], next_page_token=following)

    async def CancelRuns(self, request: CancelRunsRequest, context: Context) -> CancelRunsResponse:
        await self._meet(request, context)
        ids = [self.runs.pop(0).id for _ in self.runs[:2]]
        return CancelRunsResponse(run_ids=ids, more=bool(self.runs))

    async def DeleteRun(self, request: DeleteRunRequest, context: Context) -> DeleteRunResponse:
        await self._meet(request, context)
        return DeleteRunResponse()

    async def ListInputs(self, request: ListInputsRequest, context: Context) -> ListInputsResponse:
        await self._meet(request, context)
        return ListInputsResponse(inputs=[Input(run_id=run.id) for run in self.runs])

    async def SubmitInput(self, request: SubmitInputRequest, context: Context) -> SubmitInputResponse:
        await self._meet(request, context)
        return SubmitInputResponse(run=Run(id=request.run_id, leg=1))

    async def SteerRun(self, request: SteerRunRequest, context: Context) -> SteerRunResponse:
        await self._meet(request, context)
        stored = Message()
        stored.CopyFrom(request.message)
        stored.id = "msg_1"
        return SteerRunResponse(run=Run(id=request.run_id), message=stored)

    async def StreamRun(self, request: StreamRunRequest, context: Context) -> AsyncIterator[WatchRunResponse]:
        await self._meet(request, context)
        async for batch in self._play(context, "run_1", 0):
            yield batch

    async def WatchRun(self, request: WatchRunRequest, context: Context) -> AsyncIterator[WatchRunResponse]:
        await self._meet(request, context)
        async for batch in self._play(context, request.run_id, request.after_seq):
            yield batch

    async def _play(self, context: Context, run_id: str, after: int) -> AsyncIterator[WatchRunResponse]:
        yield WatchRunResponse(run_id=run_id)
        for said in self.plays.pop(0):
            if isinstance(said, Refusal):
                await refuse(said, context)
            elif isinstance(said, asyncio.Event):
                await said.wait()
            elif said.seq > after:
                yield WatchRunResponse(run_id=run_id, events=[said])

    async def _meet(self, request: object, context: Context) -> None:
        self.requests.append(request)
        if self.refusals:
            await refuse(self.refusals.pop(0), context)


async def refuse(refusal: Refusal, context: Context) -> Never:
    """Fail a call as a core does: with one ErrorInfo."""
    detail = any_pb2.Any()
    detail.Pack(ErrorInfo(reason=refusal.reason, domain="penstock", metadata=refusal.metadata))
    status = Status(code=refusal.code.value[0], message=f"refused: {refusal.reason}", details=[detail])
    await context.abort_with_status(to_status(status))


@asynccontextmanager
async def scripted_runs() -> AsyncIterator[ScriptedRuns]:
    """Serve a scripted run service."""
    runs = ScriptedRuns()
    server = grpc.aio.server(options=SERVER_OPTIONS)
    add_RunServiceServicer_to_server(runs, server)
    runs.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield runs
    finally:
        await server.stop(None)


def succeeded(run_id: str) -> Run:
    """A run that ended well."""
    return Run(id=run_id, state=RunState.RUN_STATE_SUCCEEDED)
