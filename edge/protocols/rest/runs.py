"""/v1/runs"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec
from aiohttp import web

from edge import query
from edge.config import EdgeSettings
from edge.core import CoreClient
from edge.event_json import NativeEncoder, event_object
from edge.json_body import Members, fill, refused, take
from edge.openapi.operation import operation
from edge.protocols.rest import shapes
from edge.run_requests import CANCEL, CREATE, read_cancel, read_create
from edge.run_states import ENDED
from edge.sse import stream_new_run, stream_run
from penstock.flat_json import dumps, flat
from penstock.v1.run_pb2 import Run, RunState
from penstock.v1.run_service_pb2 import (
    CancelRunRequest,
    CancelRunsRequest,
    CancelRunsResponse,
    CreateRunRequest,
    DeleteRunRequest,
    GetRunRequest,
    ListEventsRequest,
    ListEventsResponse,
    ListRunsRequest,
    RunView,
    WaitRunRequest,
)

FILTERS = ("thread_id", "agent_id", "state", "created_since", "created_before")
CANCEL_MANY = ("thread_id", "agent_id", "states", "created_before", "metadata", "all", "reason")

LONGEST_WAIT = 600.0
ONE_WAIT = 20.0
"""Seconds that a waiting request asks the core for at a time: a restart of the core costs no more than one."""


def routes(core: CoreClient, settings: EdgeSettings) -> list[web.RouteDef]:
    """Return the routes of runs."""
    runs = Runs(core, settings)
    return [
        web.post("/v1/runs", runs.create),
        web.get("/v1/runs", runs.list),
        web.post("/v1/runs/cancel", runs.cancel_many),
        web.get("/v1/runs/{run_id}", runs.get),
        web.delete("/v1/runs/{run_id}", runs.delete),
        web.post("/v1/runs/{run_id}/cancel", runs.cancel),
        web.get("/v1/runs/{run_id}/events", runs.events),
    ]


class Runs:
    """/v1/runs"""

    def __init__(self, core: CoreClient, settings: EdgeSettings) -> None:
        self._core = core
        self._settings = settings

    @operation("Create a run.", query=("wait",), body=(CreateRunRequest, CREATE), answer=Run, status=202, streams=True)
    async def create(self, request: web.Request) -> web.StreamResponse:
        query.only(request, "wait")
        if query.wants_stream(request):
            return await self._stream_new(request)
        seconds = query.seconds(request, "wait", most=LONGEST_WAIT)
        create = await self._read_create(request)
        answer = await self._core.call(self._core.runs.CreateRun, create)
        if seconds:
            return await self._wait(answer.run, seconds)
        steered = {"X-Run-Steered": "true"} if answer.steered else {}
        return shapes.json(flat(answer.run), status=202, headers=self._created_headers(answer.run) | steered)

    @operation("List runs, the newest first.", query=(*shapes.PAGE, *FILTERS), answer=Run, page_of="runs")
    async def list(self, request: web.Request) -> web.Response:
        query.only(request, *shapes.PAGE, *FILTERS, prefix="metadata.")
        size, token = shapes.page(request)
        asked = ListRunsRequest(page_size=size, page_token=token)
        fill(asked, _filters(request), "")
        answer = await self._core.call(self._core.runs.ListRuns, asked)
        return shapes.page_of("runs", answer.runs, answer.next_page_token)

    @operation("Get a run.", query=("view",), answer=Run)
    async def get(self, request: web.Request) -> web.Response:
        query.only(request, "view")
        view = request.query.get("view", "basic")
        if view not in ("basic", "full"):
            raise refused("view", "view must be basic or full.")
        asked = GetRunRequest(
            run_id=request.match_info["run_id"],
            view=RunView.RUN_VIEW_FULL if view == "full" else RunView.RUN_VIEW_BASIC,
        )
        answer = await self._core.call(self._core.runs.GetRun, asked)
        messages = {"messages": [flat(message) for message in answer.messages]} if view == "full" else {}
        return shapes.json(flat(answer.run) | messages)

    @operation("Ask for the end of a run.", body=(CancelRunRequest, CANCEL), answer=Run, status=202)
    async def cancel(self, request: web.Request) -> web.Response:
        query.only(request)
        key, run_id = query.idempotency_key(request), request.match_info["run_id"]
        members = await shapes.members(request, self._settings) if request.can_read_body else {}
        cancel = read_cancel(members, key, run_id)
        run = (await self._core.call(self._core.runs.CancelRun, cancel)).run
        return shapes.json(flat(run), status=200 if run.state in ENDED else 202)

    @operation(
        "Ask for the end of many runs.", body=(CancelRunsRequest, CANCEL_MANY), answer=CancelRunsResponse, status=202
    )
    async def cancel_many(self, request: web.Request) -> web.Response:
        query.only(request)
        cancel = CancelRunsRequest(request_id=query.idempotency_key(request))
        fill(cancel, take(await shapes.members(request, self._settings), *CANCEL_MANY), "")
        answer = await self._core.call(self._core.runs.CancelRuns, cancel)
        asked = {"run_ids": list(answer.run_ids), "more": answer.more}
        return shapes.json(asked, status=202 if asked["run_ids"] else 200)

    @operation("Delete a run.", query=("cancel",), status=204)
    async def delete(self, request: web.Request) -> web.Response:
        query.only(request, "cancel")
        delete = DeleteRunRequest(
            request_id=query.idempotency_key(request),
            run_id=request.match_info["run_id"],
            cancel=query.flag(request, "cancel"),
        )
        timeout = shapes.DELETE_SECONDS if delete.cancel else None
        await self._core.call(self._core.runs.DeleteRun, delete, timeout=timeout)
        return web.Response(status=204)

    @operation("Read the events of a run.", query=("after", "page_size"), answer=ListEventsResponse, streams=True)
    async def events(self, request: web.Request) -> web.StreamResponse:
        query.only(request, "after", "page_size")
        run_id, after = request.match_info["run_id"], query.cursor(request)
        if query.wants_stream(request):
            return await self._stream_events(request, run_id, after)
        asked = ListEventsRequest(run_id=run_id, after_seq=after, page_size=query.integer(request, "page_size"))
        page = await self._core.call(self._core.runs.ListEvents, asked)
        events = b",".join([event_object(event) for event in page.events])
        return shapes.answer(b'{"events":[%b],"head_seq":%d}' % (events, page.head_seq))

    async def _read_create(self, request: web.Request) -> CreateRunRequest:
        return read_create(await shapes.members(request, self._settings), query.idempotency_key(request))

    async def _stream_new(self, request: web.Request) -> web.StreamResponse:
        return await stream_new_run(
            request,
            self._core,
            await self._read_create(request),
            NativeEncoder(),
            headers=self._created_headers,
            is_resumable=True,
        )

    async def _stream_events(self, request: web.Request, run_id: str, after: int) -> web.StreamResponse:
        # The shared watch stream does not carry the caller's credentials: this call asks whether it may see the run.
        run = (await self._core.call(self._core.runs.GetRun, GetRunRequest(run_id=run_id))).run
        headers = {"X-Run-Id": run_id}
        if run.state in ENDED and after == run.last_seq:
            return web.Response(status=204, headers=headers)  # which stops an EventSource
        del run
        return await self._stream(request, run_id, after, headers)

    async def _stream(
        self, request: web.Request, run_id: str, after: int, headers: Mapping[str, str]
    ) -> web.StreamResponse:
        return await stream_run(
            request,
            self._core,
            run_id,
            NativeEncoder(),
            after=after,
            from_start=False,
            headers=headers,
            is_resumable=True,
        )

    async def _wait(self, run: Run, seconds: float) -> web.Response:
        """Answer once the run has ended or waits for somebody, at the latest after `seconds`."""
        clock = asyncio.get_running_loop().time
        until = clock() + seconds
        while True:
            share = min(max(until - clock(), 0), ONE_WAIT)
            asked = WaitRunRequest(run_id=run.id, view=RunView.RUN_VIEW_FULL)
            asked.timeout.FromNanoseconds(round(share * 1e9))
            patience = share + self._settings.repeat_for
            answer = await self._core.call(self._core.runs.WaitRun, asked, timeout=patience)
            if answer.run.state in ENDED:
                messages = [flat(message) for message in answer.messages]
                return shapes.json(flat(answer.run) | {"messages": messages}, headers=self._created_headers(run))
            if answer.run.state == RunState.RUN_STATE_WAITING or clock() >= until:
                return shapes.json(flat(answer.run), status=202, headers=self._created_headers(run))

    def _created_headers(self, run: Run) -> dict[str, str]:
        return {"Location": shapes.location(self._settings, "runs", run.id), "X-Run-Id": run.id}


def _filters(request: web.Request) -> Members:
    """The query of a list of runs, as members of ListRunsRequest."""
    values: dict[str, object] = {"metadata": {}}
    labels = {}
    for name, value in request.query.items():
        if name.startswith("metadata."):
            labels[name.removeprefix("metadata.")] = value
        elif name == "state":
            values["states"] = value.split(",")
        elif name not in shapes.PAGE:
            values[name] = value
    return {key: msgspec.Raw(dumps(value)) for key, value in (values | {"metadata": labels}).items()}
