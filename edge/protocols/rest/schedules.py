"""/v1/schedules"""

from __future__ import annotations

from aiohttp import web

from edge import query
from edge.config import EdgeSettings
from edge.core import CoreClient
from edge.json_body import fill, refused, take
from edge.openapi.operation import operation
from edge.protocols.rest import shapes
from edge.run_input import read_input
from penstock.flat_json import flat
from penstock.v1.schedule_pb2 import Schedule
from penstock.v1.schedule_service_pb2 import (
    CreateScheduleRequest,
    DeleteScheduleRequest,
    GetScheduleRequest,
    ListSchedulesRequest,
    PauseScheduleRequest,
)

NAMES = ("cron", "time_zone", "name", "agent_id", "thread_id", "input", "options", "metadata")


def routes(core: CoreClient, settings: EdgeSettings) -> list[web.RouteDef]:
    """Return the routes of schedules."""
    schedules = Schedules(core, settings)
    return [
        web.post("/v1/schedules", schedules.create),
        web.get("/v1/schedules", schedules.list),
        web.get("/v1/schedules/{schedule_id}", schedules.get),
        web.delete("/v1/schedules/{schedule_id}", schedules.delete),
        web.post("/v1/schedules/{schedule_id}/pause", schedules.pause),
        web.post("/v1/schedules/{schedule_id}/resume", schedules.resume),
    ]


class Schedules:
    """/v1/schedules"""

    def __init__(self, core: CoreClient, settings: EdgeSettings) -> None:
        self._core = core
        self._settings = settings

    @operation("Create a schedule.", body=(Schedule, NAMES), answer=Schedule, status=201)
    async def create(self, request: web.Request) -> web.Response:
        query.only(request)
        members = dict(take(await shapes.members(request, self._settings), *NAMES))
        raw_input = members.pop("input", None)
        create = CreateScheduleRequest(request_id=query.idempotency_key(request))
        fill(create.schedule, members, "")
        for name in ("agent_id", "cron"):
            if not getattr(create.schedule, name):
                raise refused(name, f"{name} is missing.")
        if raw_input is not None:
            create.schedule.input.extend(read_input(raw_input))
        schedule = (await self._core.call(self._core.schedules.CreateSchedule, create)).schedule
        return shapes.json(flat(schedule), status=201, headers={"Location": f"/v1/schedules/{schedule.id}"})

    @operation("List the schedules.", query=(*shapes.PAGE, "agent_id"), answer=Schedule, page_of="schedules")
    async def list(self, request: web.Request) -> web.Response:
        query.only(request, *shapes.PAGE, "agent_id")
        size, token = shapes.page(request)
        asked = ListSchedulesRequest(page_size=size, page_token=token, agent_id=request.query.get("agent_id", ""))
        answer = await self._core.call(self._core.schedules.ListSchedules, asked)
        return shapes.page_of("schedules", answer.schedules, answer.next_page_token)

    @operation("Get a schedule.", answer=Schedule)
    async def get(self, request: web.Request) -> web.Response:
        query.only(request)
        asked = GetScheduleRequest(schedule_id=request.match_info["schedule_id"])
        return shapes.json(flat((await self._core.call(self._core.schedules.GetSchedule, asked)).schedule))

    @operation("Delete a schedule. Its runs stay.", status=204)
    async def delete(self, request: web.Request) -> web.Response:
        query.only(request)
        asked = DeleteScheduleRequest(schedule_id=request.match_info["schedule_id"])
        await self._core.call(self._core.schedules.DeleteSchedule, asked)
        return web.Response(status=204)

    @operation("Stop a schedule.", answer=Schedule)
    async def pause(self, request: web.Request) -> web.Response:
        return await self._pause(request, paused=True)

    @operation("Let a schedule go on.", answer=Schedule)
    async def resume(self, request: web.Request) -> web.Response:
        return await self._pause(request, paused=False)

    async def _pause(self, request: web.Request, *, paused: bool) -> web.Response:
        query.only(request)
        asked = PauseScheduleRequest(schedule_id=request.match_info["schedule_id"], paused=paused)
        return shapes.json(flat((await self._core.call(self._core.schedules.PauseSchedule, asked)).schedule))
