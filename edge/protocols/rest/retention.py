"""/v1/retention: the policy of `?agent_id=`, or without it that of all agents that have none of their own."""

from __future__ import annotations

from aiohttp import web

from edge import query
from edge.config import EdgeSettings
from edge.core import CoreClient
from edge.json_body import fill, take
from edge.openapi.operation import operation
from edge.protocols.rest import shapes
from penstock.flat_json import flat
from penstock.v1.retention_service_pb2 import (
    DeleteRetentionRequest,
    ListRetentionRequest,
    RetentionPolicy,
    SetRetentionRequest,
)

NAMES = ("keep_events", "keep_messages", "keep_runs")


def routes(core: CoreClient, settings: EdgeSettings) -> list[web.RouteDef]:
    """Return the routes of retention."""
    retention = Retention(core, settings)
    return [
        web.get("/v1/retention", retention.list),
        web.put("/v1/retention", retention.set),
        web.delete("/v1/retention", retention.delete),
    ]


class Retention:
    """/v1/retention"""

    def __init__(self, core: CoreClient, settings: EdgeSettings) -> None:
        self._core = core
        self._settings = settings

    @operation("List the policies.", query=shapes.PAGE, answer=RetentionPolicy, page_of="policies")
    async def list(self, request: web.Request) -> web.Response:
        query.only(request, *shapes.PAGE)
        size, token = shapes.page(request)
        asked = ListRetentionRequest(page_size=size, page_token=token)
        answer = await self._core.call(self._core.retention.ListRetention, asked)
        return shapes.page_of("policies", answer.policies, answer.next_page_token)

    @operation(
        "Set the policy of an agent, or of all.",
        query=("agent_id",),
        body=(RetentionPolicy, NAMES),
        answer=RetentionPolicy,
    )
    async def set(self, request: web.Request) -> web.Response:
        query.only(request, "agent_id")
        policy = RetentionPolicy(agent_id=request.query.get("agent_id", ""))
        fill(policy, take(await shapes.members(request, self._settings), *NAMES), "")
        answer = await self._core.call(self._core.retention.SetRetention, SetRetentionRequest(policy=policy))
        return shapes.json(flat(answer.policy))

    @operation("Remove a policy.", query=("agent_id",), status=204)
    async def delete(self, request: web.Request) -> web.Response:
        query.only(request, "agent_id")
        asked = DeleteRetentionRequest(agent_id=request.query.get("agent_id", ""))
        await self._core.call(self._core.retention.DeleteRetention, asked)
        return web.Response(status=204)
