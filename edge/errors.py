"""How a refusal looks in HTTP: the one table from gRPC code and reason to a status, and the RFC 9457 body.

Every failed call of the core carries one ErrorInfo; its reason is API and goes to the client unchanged. A failed *run*
is not here: that is an event in its log. Protocols with an error format of their own build it from a `Refusal`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

import grpc
import msgspec
from aiohttp import web
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

STATUS_BY_REASON: Mapping[str, int] = {
    "CURSOR_AHEAD": 416,  # the cursor lies outside of what the log holds
    "EVENTS_EXPIRED": 410,  # it was there, and is gone for good
    "QUEUE_FULL": 429,
    "RATE_LIMITED": 429,
    "STATE_CHANGED": 412,  # If-Match
    "STORE_FULL": 503,
}
"""Where the reason says more than the code."""

STATUS_BY_CODE: Mapping[grpc.StatusCode, int] = {
    grpc.StatusCode.CANCELLED: 503,  # not asked for by us: the core went away in the middle of the call
    grpc.StatusCode.UNKNOWN: 500,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DATA_LOSS: 500,
}

_TRANSPORT: Mapping[grpc.StatusCode, tuple[str, str]] = {
    grpc.StatusCode.UNAVAILABLE: ("CORE_UNAVAILABLE", "The core cannot be reached now; try again."),
    grpc.StatusCode.CANCELLED: ("CORE_UNAVAILABLE", "The core went away during the call; try again."),
    grpc.StatusCode.DEADLINE_EXCEEDED: ("CORE_TIMEOUT", "The core did not answer in time; try again."),
    grpc.StatusCode.UNIMPLEMENTED: ("NOT_SERVED", "This core does not serve that call."),
}
"""Failures that gRPC itself reports. Its own words name addresses and internals, which are not for strangers."""

DECIDED = frozenset({"NO_WORKER", "STORE_FULL"})
"""Reasons that come with UNAVAILABLE and yet are an answer: the caller is to hear them now, and not after repeats."""

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_RETRY_AFTER_SECONDS = "1"
_INTERNAL = ("INTERNAL", "Something went wrong on the server.")


@dataclass(frozen=True, slots=True)
class Reason:
    """What an ErrorInfo says: the reason, which is API, and its metadata."""

    name: str
    metadata: Mapping[str, str]


class Refusal(Exception):
    """A request that is not carried out: by the core (see `refusal_of`), or already by the edge."""

    def __init__(self, status: int, reason: str, message: str, **metadata: str) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status."""
        self.reason = reason
        """Upper snake case; API."""
        self.message = message
        """For people."""
        self.metadata: Mapping[str, str] = metadata
        """As in ErrorInfo: `field`, `oldest_seq` and the like."""


def refusal_of(error: grpc.aio.AioRpcError) -> Refusal:
    """Translate a failed call."""
    reason = reason_of(error)
    if reason is None:
        return transport_refusal(error.code())
    return refuse(error.code().value[0], reason.name, error.details() or "", reason.metadata)


def refuse(code: int, reason: str, message: str, metadata: Mapping[str, str]) -> Refusal:
    """Translate a refusal of the core, given by its google.rpc.Code and the fields of its ErrorInfo."""
    known = _CODES.get(code, grpc.StatusCode.UNKNOWN)
    status = STATUS_BY_REASON.get(reason) or STATUS_BY_CODE.get(known, 500)
    refusal = Refusal(status, reason or known.name, message)
    refusal.metadata = dict(metadata)
    return refusal


def reason_of(error: grpc.aio.AioRpcError) -> Reason | None:
    """Return the reason of a failed call; None when the failure is gRPC's own and not a refusal of the core."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            return _first_reason(value)
    return None


def _first_reason(details: bytes) -> Reason | None:
    info = ErrorInfo()
    try:
        found = any(detail.Unpack(info) for detail in Status.FromString(details).details)
    except DecodeError:
        return None
    return Reason(info.reason, dict(info.metadata)) if found else None


def transport_refusal(code: grpc.StatusCode) -> Refusal:
    """Return what a caller is told of a failure that is gRPC's own."""
    reason, message = _TRANSPORT.get(code, _INTERNAL)
    return Refusal(STATUS_BY_CODE.get(code, 500), reason, message)


def problem(refusal: Refusal, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return the RFC 9457 answer: the standard members, the reason, and the metadata as further members."""
    body: dict[str, object] = {
        "type": "about:blank",
        "title": HTTPStatus(refusal.status).phrase,
        "status": refusal.status,
        "detail": refusal.message,
        "reason": refusal.reason,
    }
    return web.Response(
        status=refusal.status,
        body=msgspec.json.encode(body | {key: value for key, value in members_of(refusal).items() if key not in body}),
        content_type="application/problem+json",
        headers={**retry_after(refusal.status), **(headers or {})},
    )


def members_of(refusal: Refusal) -> dict[str, object]:
    """Return the metadata as members of a body, seqs as numbers."""
    return {
        key: int(value) if key.endswith("_seq") and value.isdecimal() else value
        for key, value in refusal.metadata.items()
    }


def retry_after(status: int) -> dict[str, str]:
    """Return the Retry-After header where asking again may help."""
    return {"Retry-After": _RETRY_AFTER_SECONDS} if status in (429, 503) else {}
