"""The services of operators: one schedule, one policy."""

from __future__ import annotations

from penstock.v1.retention_service_pb2 import (
    DeleteRetentionRequest,
    DeleteRetentionResponse,
    ListRetentionRequest,
    ListRetentionResponse,
    RetentionPolicy,
    SetRetentionRequest,
    SetRetentionResponse,
)
from penstock.v1.retention_service_pb2_grpc import RetentionServiceServicer
from penstock.v1.run_pb2 import RunOptions
from penstock.v1.schedule_pb2 import Schedule
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
from penstock.v1.schedule_service_pb2_grpc import ScheduleServiceServicer
from tests.edge.scripted_calls import SAID, Context, ScriptedCalls

SCHEDULE = Schedule(
    id="sch_1", cron="0 9 * * *", agent_id="echo", input=[SAID], options=RunOptions(priority=3), metadata={"a": "b"}
)
SCHEDULE.next_time.FromSeconds(1_800_000_000)
POLICY = RetentionPolicy(agent_id="echo")
POLICY.keep_events.FromSeconds(86_400)
POLICY.keep_runs.SetInParent()


class Schedules(ScheduleServiceServicer):
    """One schedule."""

    def __init__(self, calls: ScriptedCalls) -> None:
        self._calls = calls

    async def CreateSchedule(self, request: CreateScheduleRequest, context: Context) -> CreateScheduleResponse:
        await self._calls.note("CreateSchedule", request, context)
        return CreateScheduleResponse(schedule=SCHEDULE)

    async def GetSchedule(self, request: GetScheduleRequest, context: Context) -> GetScheduleResponse:
        await self._calls.note("GetSchedule", request, context)
        return GetScheduleResponse(schedule=SCHEDULE)

    async def ListSchedules(self, request: ListSchedulesRequest, context: Context) -> ListSchedulesResponse:
        await self._calls.note("ListSchedules", request, context)
        return ListSchedulesResponse(schedules=[SCHEDULE], next_page_token="more")

    async def PauseSchedule(self, request: PauseScheduleRequest, context: Context) -> PauseScheduleResponse:
        await self._calls.note("PauseSchedule", request, context)
        return PauseScheduleResponse(schedule=Schedule(id=request.schedule_id, paused=request.paused))

    async def DeleteSchedule(self, request: DeleteScheduleRequest, context: Context) -> DeleteScheduleResponse:
        await self._calls.note("DeleteSchedule", request, context)
        return DeleteScheduleResponse()


class Retention(RetentionServiceServicer):
    """One policy."""

    def __init__(self, calls: ScriptedCalls) -> None:
        self._calls = calls

    async def SetRetention(self, request: SetRetentionRequest, context: Context) -> SetRetentionResponse:
        await self._calls.note("SetRetention", request, context)
        return SetRetentionResponse(policy=request.policy)

    async def ListRetention(self, request: ListRetentionRequest, context: Context) -> ListRetentionResponse:
        await self._calls.note("ListRetention", request, context)
        return ListRetentionResponse(policies=[POLICY])

    async def DeleteRetention(self, request: DeleteRetentionRequest, context: Context) -> DeleteRetentionResponse:
        await self._calls.note("DeleteRetention", request, context)
        return DeleteRetentionResponse()
