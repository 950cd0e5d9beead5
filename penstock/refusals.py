"""What a failed call means: one table from gRPC codes to the SDK's exceptions, and which failures pass."""

from __future__ import annotations

import grpc
import grpc.aio
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from penstock import errors

_DETAILS = "grpc-status-details-bin"

_CLASSES: dict[grpc.StatusCode, type[errors.PenstockError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequest,
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.ALREADY_EXISTS: errors.Conflict,
    grpc.StatusCode.FAILED_PRECONDITION: errors.NotPossible,
    grpc.StatusCode.OUT_OF_RANGE: errors.OutOfRange,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.Exhausted,
    grpc.StatusCode.PERMISSION_DENIED: errors.Denied,
    grpc.StatusCode.UNAUTHENTICATED: errors.Denied,
    grpc.StatusCode.UNIMPLEMENTED: errors.NotServed,
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
    grpc.StatusCode.CANCELLED: errors.Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.TimedOut,
}


def refusal(error: grpc.aio.AioRpcError) -> errors.PenstockError:
    """The exception for a failed call."""
    kind = _CLASSES.get(error.code(), errors.PenstockError)
    info = _error_info(error)
    return kind(error.details() or error.code().name, reason=info.reason, metadata=info.metadata)


def is_passing(error: grpc.aio.AioRpcError) -> bool:
    """Whether the same call may succeed in a moment: the core restarts, drains or waits for its store.

    CANCELLED counts: a server says it when it stops in the middle, and our own cancel is no AioRpcError. NO_WORKER does
    not: the core answers it to those who do not want to wait.
    """
    if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return False
    reason: str = _error_info(error).reason
    return reason != "NO_WORKER"


def _error_info(error: grpc.aio.AioRpcError) -> ErrorInfo:
    info = ErrorInfo()
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS and isinstance(value, bytes):
            for detail in Status.FromString(value).details:
                if detail.Unpack(info):
                    return info
    return info
