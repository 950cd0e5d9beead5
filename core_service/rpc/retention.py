"""Serves RetentionService."""

from __future__ import annotations

from core_service.engine.retention import Retention
from core_service.rpc.caller import tenant_of
from core_service.rpc.errors import Context
from penstock.v1.retention_service_pb2 import (
    DeleteRetentionRequest,
    DeleteRetentionResponse,
    ListRetentionRequest,
    ListRetentionResponse,
    SetRetentionRequest,
    SetRetentionResponse,
)


class RetentionServicer:
    """RetentionService over the engine."""

    def __init__(self, retention: Retention) -> None:
        self._retention = retention

    async def SetRetention(self, request: SetRetentionRequest, context: Context) -> SetRetentionResponse:
        return SetRetentionResponse(policy=await self._retention.set(tenant_of(context), request.policy))

    async def ListRetention(self, request: ListRetentionRequest, context: Context) -> ListRetentionResponse:
        policies, token = await self._retention.page(tenant_of(context), request)
        return ListRetentionResponse(policies=policies, next_page_token=token)

    async def DeleteRetention(self, request: DeleteRetentionRequest, context: Context) -> DeleteRetentionResponse:
        await self._retention.delete(tenant_of(context), request.agent_id)
        return DeleteRetentionResponse()
