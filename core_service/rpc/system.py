"""Serves SystemService."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from core_service.rpc.errors import Context
from penstock.v1.system_service_pb2 import GetStatusRequest, GetStatusResponse


class SystemServicer:
    """SystemService; what there is to say is put together where everything is known, in `app.py`."""

    def __init__(self, status: Callable[[], Awaitable[GetStatusResponse]]) -> None:
        self._status = status

    async def GetStatus(self, request: GetStatusRequest, context: Context) -> GetStatusResponse:
        return await self._status()
