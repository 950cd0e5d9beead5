"""Whether this edge lives, is ready, and what it sees of the core.

Owns the three questions of orchestrators and people. Liveness asks nobody; readiness asks the core's health service and
fails first when the edge shuts down.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import grpc
import msgspec
from aiohttp import web

from edge.core import CoreClient
from edge.streams import STREAMS
from penstock.flat_json import flat
from penstock.v1.system_service_pb2 import GetStatusRequest

STATUS_TIMEOUT = 1.0


@dataclass(slots=True)
class Readiness:
    """What the edge says about itself. Only a shutdown changes it."""

    is_leaving: bool = False


class Health:
    """The handlers of /livez, /readyz and /health."""

    def __init__(self, core: CoreClient, readiness: Readiness) -> None:
        self._core = core
        self._readiness = readiness

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/livez", self.livez),
            web.get("/readyz", self.readyz),
            web.get("/health", self.health),
        ]

    async def livez(self, _request: web.Request) -> web.Response:
        """The event loop turns: that is all."""
        return _answer(200, {"status": "alive"})

    async def readyz(self, _request: web.Request) -> web.Response:
        """200 when requests may be sent here, else 503 with why not."""
        if self._readiness.is_leaving:
            return _answer(503, {"status": "leaving"})
        if not await self._core.is_serving():
            return _answer(503, {"status": "core not serving"})
        return _answer(200, {"status": "ready"})

    async def health(self, request: web.Request) -> web.Response:
        """The same for people, with what the core says about itself. Always 200 while the edge can answer."""
        is_serving, status = await asyncio.gather(self._core.is_serving(), self._status())
        summary = {
            "status": "ok" if is_serving and not self._readiness.is_leaving else "degraded",
            "leaving": self._readiness.is_leaving,
            "open_streams": len(request.app[STREAMS]),
            "watch_attached": self._core.watches.is_attached,
            "core": {"serving": is_serving, **status},
        }
        return _answer(200, summary)

    async def _status(self) -> dict[str, object]:
        try:
            return flat(await self._core.system.GetStatus(GetStatusRequest(), timeout=STATUS_TIMEOUT))
        except grpc.aio.AioRpcError as error:
            return {"error": error.code().name}


def _answer(status: int, body: Mapping[str, object]) -> web.Response:
    return web.Response(
        status=status,
        body=msgspec.json.encode(body),
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
