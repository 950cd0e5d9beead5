"""Serves RunService. The streams are in `watch_run.py` and `watch_many.py`."""

from __future__ import annotations

from collections.abc import AsyncIterator

from core_service.domain.errors import InvalidArgument
from core_service.engine.bulk_cancels import BulkCancels
from core_service.engine.creates import Creates
from core_service.engine.deletions import Deletions
from core_service.engine.inputs import Inputs
from core_service.engine.logs import Logs
from core_service.engine.runs import MAX_WAIT_SECONDS, Runs
from core_service.engine.watch import WatchHub
from core_service.rpc.caller import tenant_of
from core_service.rpc.errors import Context
from core_service.rpc.services import call_counter
from core_service.rpc.watch_many import WatchMany
from core_service.rpc.watch_run import created, watch_run
from penstock.v1.run_pb2 import EndReason
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
    ListEventsRequest,
    ListEventsResponse,
    ListInputsRequest,
    ListInputsResponse,
    ListRunsRequest,
    ListRunsResponse,
    RunView,
    SteerRunRequest,
    SteerRunResponse,
    StreamRunRequest,
    SubmitInputRequest,
    SubmitInputResponse,
    WaitRunRequest,
    WaitRunResponse,
    WatchManyRequest,
    WatchManyResponse,
    WatchRunRequest,
)


class RunServicer:
    """RunService over the engine."""

    def __init__(
        self,
        creates: Creates,
        runs: Runs,
        inputs: Inputs,
        hub: WatchHub,
        logs: Logs,
        bulk_cancels: BulkCancels,
        deletions: Deletions,
    ) -> None:
        self._creates = creates
        self._runs = runs
        self._inputs = inputs
        self._hub = hub
        self._logs = logs
        self._bulk_cancels = bulk_cancels
        self._deletions = deletions
        # However a run is created, it is counted as the call that it might have been.
        self._note_create = call_counter("/penstock.v1.RunService/CreateRun", hub.metrics)

    async def CreateRun(self, request: CreateRunRequest, context: Context) -> CreateRunResponse:
        return await self._creates.create(tenant_of(context), request)

    async def StreamRun(self, request: StreamRunRequest, context: Context) -> AsyncIterator[bytes]:
        tenant = tenant_of(context)
        run = (await self._creates.create(tenant, request.create)).run
        yield created(run)
        async for message in watch_run(self._hub, tenant, run.id, after_seq=0):
            yield message

    async def GetRun(self, request: GetRunRequest, context: Context) -> GetRunResponse:
        if request.view == RunView.RUN_VIEW_FULL:
            run, messages = await self._runs.snapshot(tenant_of(context), request.run_id)
            return GetRunResponse(run=run, messages=messages)
        return GetRunResponse(run=await self._runs.get(tenant_of(context), request.run_id))

    async def ListRuns(self, request: ListRunsRequest, context: Context) -> ListRunsResponse:
        runs, token = await self._runs.page(tenant_of(context), request)
        return ListRunsResponse(runs=runs, next_page_token=token)

    async def WaitRun(self, request: WaitRunRequest, context: Context) -> WaitRunResponse:
        timeout = request.timeout.ToMicroseconds() / 1e6 if request.HasField("timeout") else MAX_WAIT_SECONDS
        if timeout < 0:
            raise InvalidArgument("timeout must not be negative.", field="timeout")
        run = await self._runs.wait(tenant_of(context), request.run_id, timeout)
        if request.view == RunView.RUN_VIEW_FULL:
            run, messages = await self._runs.snapshot(tenant_of(context), request.run_id)
            return WaitRunResponse(run=run, messages=messages)
        return WaitRunResponse(run=run)

    async def CancelRun(self, request: CancelRunRequest, context: Context) -> CancelRunResponse:
        reason = _cancel_reason(request.reason)
        run = await self._runs.cancel(tenant_of(context), request.run_id, reason, request_id=request.request_id)
        return CancelRunResponse(run=run)

    async def CancelRuns(self, request: CancelRunsRequest, context: Context) -> CancelRunsResponse:
        return await self._bulk_cancels.cancel(tenant_of(context), request, _cancel_reason(request.reason))

    async def DeleteRun(self, request: DeleteRunRequest, context: Context) -> DeleteRunResponse:
        await self._deletions.delete_run(tenant_of(context), request)
        return DeleteRunResponse()

    async def SubmitInput(self, request: SubmitInputRequest, context: Context) -> SubmitInputResponse:
        return SubmitInputResponse(run=await self._inputs.submit(tenant_of(context), request))

    async def ListInputs(self, request: ListInputsRequest, context: Context) -> ListInputsResponse:
        inputs, token = await self._inputs.page(tenant_of(context), request)
        return ListInputsResponse(inputs=inputs, next_page_token=token)

    async def SteerRun(self, request: SteerRunRequest, context: Context) -> SteerRunResponse:
        run, message = await self._runs.steer(tenant_of(context), request)
        return SteerRunResponse(run=run, message=message)

    async def WatchRun(self, request: WatchRunRequest, context: Context) -> AsyncIterator[bytes]:
        _check_cursor(request.after_seq)
        async for message in watch_run(self._hub, tenant_of(context), request.run_id, after_seq=request.after_seq):
            yield message

    async def WatchMany(
        self, requests: AsyncIterator[WatchManyRequest], context: Context
    ) -> AsyncIterator[WatchManyResponse]:
        async with WatchMany(self._hub, self._creates, tenant_of(context), self._note_create) as watches:
            async for message in watches.serve(requests):
                yield message

    async def ListEvents(self, request: ListEventsRequest, context: Context) -> ListEventsResponse:
        _check_cursor(request.after_seq)
        if request.page_size < 0:
            raise InvalidArgument("page_size must not be negative.", field="page_size")
        return await self._logs.page(
            tenant_of(context), request.run_id, after_seq=request.after_seq, page_size=request.page_size
        )


def _check_cursor(after_seq: int) -> None:
    if after_seq < 0:
        raise InvalidArgument("after_seq must not be negative.", field="after_seq")


def _cancel_reason(reason: EndReason.ValueType) -> EndReason.ValueType:
    if reason and not EndReason.END_REASON_USER <= reason <= 49:
        raise InvalidArgument("reason must be one of the cancelled group.", field="reason")
    return reason or EndReason.END_REASON_USER
