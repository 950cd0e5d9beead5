"""What makes a repeated call of a client one change (ENGINE.md, H2): its request id, and a fingerprint of all else."""

from __future__ import annotations

from typing import TypeAlias

from google.protobuf.message import Message

from core_service.domain.run_requests import check_request_id, digest
from core_service.ports import RequestKey
from penstock.v1.run_service_pb2 import CancelRunsRequest, DeleteRunRequest
from penstock.v1.thread_service_pb2 import (
    CreateThreadRequest,
    DeleteThreadRequest,
    ForkThreadRequest,
    PatchStateRequest,
    SetStateRequest,
)

Repeatable: TypeAlias = (
    CancelRunsRequest
    | CreateThreadRequest
    | DeleteRunRequest
    | DeleteThreadRequest
    | ForkThreadRequest
    | PatchStateRequest
    | SetStateRequest
)


def request_key(operation: str, tenant: str, request: Repeatable) -> RequestKey | None:
    """Return the key of a request; None when it has no id. Refuses with InvalidArgument a malformed id."""
    check_request_id(request.request_id)
    if not request.request_id:
        return None
    bare: Message = type(request)()
    bare.CopyFrom(request)
    bare.ClearField("request_id")
    return RequestKey(operation, request.request_id, digest(bare, tenant=tenant))
