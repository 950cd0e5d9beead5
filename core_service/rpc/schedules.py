"""Serves ScheduleService."""

from __future__ import annotations

from core_service.engine.schedules import Schedules
from core_service.rpc.caller import tenant_of
from core_service.rpc.errors import Context
from penstock.v1.schedule_service_pb2 import (
    CreateScheduleRequest,
    CreateScheduleResponse,
    DeleteScheduleRequest,
    DeleteScheduleResponse,
    GetScheduleRequest,
    GetScheduleResponse,
    ListSchedulesRequest,
    ListSchedulesResponse,
    PauseScheduleRequest,
    PauseScheduleResponse,
)


class ScheduleServicer:
    """ScheduleService over the engine."""

    def __init__(self, schedules: Schedules) -> None:
        self._schedules = schedules

    async def CreateSchedule(self, request: CreateScheduleRequest, context: Context) -> CreateScheduleResponse:
        return CreateScheduleResponse(schedule=await self._schedules.create(tenant_of(context), request))

    async def GetSchedule(self, request: GetScheduleRequest, context: Context) -> GetScheduleResponse:
        return GetScheduleResponse(schedule=await self._schedules.get(tenant_of(context), request.schedule_id))

    async def ListSchedules(self, request: ListSchedulesRequest, context: Context) -> ListSchedulesResponse:
        schedules, token = await self._schedules.page(tenant_of(context), request)
        return ListSchedulesResponse(schedules=schedules, next_page_token=token)

    async def PauseSchedule(self, request: PauseScheduleRequest, context: Context) -> PauseScheduleResponse:
        schedule = await self._schedules.pause(tenant_of(context), request.schedule_id, paused=request.paused)
        return PauseScheduleResponse(schedule=schedule)

    async def DeleteSchedule(self, request: DeleteScheduleRequest, context: Context) -> DeleteScheduleResponse:
        await self._schedules.delete(tenant_of(context), request.schedule_id)
        return DeleteScheduleResponse()
