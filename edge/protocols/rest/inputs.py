"""/v1/inputs, and what is said to a run while it is under way: answers and messages."""

from __future__ import annotations

import msgspec
from aiohttp import web

from edge import query
from edge.config import EdgeSettings
from edge.core import CoreClient
from edge.json_body import fill
from edge.protocols.rest import shapes
from edge.run_requests import read_answers, read_steer
from penstock.flat_json import dumps, flat
from penstock.v1.run_service_pb2 import ListInputsRequest

FILTERS = ("state", "run_id", "agent_id", "thread_id")


def routes(core: CoreClient, settings: EdgeSettings) -> list[web.RouteDef]:
    """Return the routes of questions, answers and steering."""
    inputs = Inputs(core, settings)
    return [
        web.get("/v1/inputs", inputs.list),
        web.post("/v1/runs/{run_id}/inputs", inputs.answer),
        web.post("/v1/runs/{run_id}/messages", inputs.steer),
    ]


class Inputs:
    """The handlers."""

    def __init__(self, core: CoreClient, settings: EdgeSettings) -> None:
        self._core = core
        self._settings = settings

    async def list(self, request: web.Request) -> web.Response:
        query.only(request, *shapes.PAGE, *FILTERS)
        size, token = shapes.page(request)
        asked = ListInputsRequest(page_size=size, page_token=token)
        given = {name: request.query[name] for name in FILTERS if name in request.query}
        fill(asked, {name: msgspec.Raw(dumps(value)) for name, value in given.items()}, "")
        answer = await self._core.call(self._core.runs.ListInputs, asked)
        return shapes.page_of("inputs", answer.inputs, answer.next_page_token)

    async def answer(self, request: web.Request) -> web.Response:
        query.only(request)
        key, run_id = query.idempotency_key(request), request.match_info["run_id"]
        submit = read_answers(await shapes.members(request, self._settings), key, run_id)
        return shapes.json(flat((await self._core.call(self._core.runs.SubmitInput, submit)).run))

    async def steer(self, request: web.Request) -> web.Response:
        query.only(request)
        key, run_id = query.idempotency_key(request), request.match_info["run_id"]
        steer = read_steer(await shapes.members(request, self._settings), key, run_id)
        answer = await self._core.call(self._core.runs.SteerRun, steer)
        return shapes.json({"run": flat(answer.run), "message": flat(answer.message)}, status=202)
