"""The one table from refusals to gRPC, and the one place that translates.

Servicers contain no `try`: `guarded_*` wraps each of their methods when it is registered. A refusal becomes its code
and exactly one google.rpc.ErrorInfo; anything else becomes INTERNAL, with the details in the log and not in the
answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any, NoReturn

import grpc
import structlog
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from core_service.domain import errors
from core_service.domain.errors import Refusal
from penstock.v1.run_service_pb2 import WatchError

Context = grpc.aio.ServicerContext[Any, Any]
Behaviour = Callable[[Any, Context], Any]
Note = Callable[[str], None]
"""Told the name of the code with which a call ended."""

log = structlog.get_logger(__name__)

DOMAIN = "penstock"
REQUEST_ID_KEY = "x-request-id"

CODES: dict[type[Refusal], code_pb2.Code.ValueType] = {
    errors.InvalidArgument: code_pb2.INVALID_ARGUMENT,
    errors.InvalidPageToken: code_pb2.INVALID_ARGUMENT,
    errors.AgentNotFound: code_pb2.NOT_FOUND,
    errors.ThreadNotFound: code_pb2.NOT_FOUND,
    errors.RunNotFound: code_pb2.NOT_FOUND,
    errors.InputNotFound: code_pb2.NOT_FOUND,
    errors.MessageNotFound: code_pb2.NOT_FOUND,
    errors.ScheduleNotFound: code_pb2.NOT_FOUND,
    errors.RetentionNotFound: code_pb2.NOT_FOUND,
    errors.ThreadExists: code_pb2.ALREADY_EXISTS,
    errors.IdempotencyMismatch: code_pb2.ALREADY_EXISTS,
    errors.ThreadBusy: code_pb2.FAILED_PRECONDITION,
    errors.ThreadWaiting: code_pb2.FAILED_PRECONDITION,
    errors.StateChanged: code_pb2.FAILED_PRECONDITION,
    errors.RunHasEnded: code_pb2.FAILED_PRECONDITION,
    errors.RunActive: code_pb2.FAILED_PRECONDITION,
    errors.InputAnswered: code_pb2.FAILED_PRECONDITION,
    errors.InvalidAnswer: code_pb2.INVALID_ARGUMENT,
    errors.DepthExceeded: code_pb2.FAILED_PRECONDITION,
    errors.OutputGap: code_pb2.FAILED_PRECONDITION,
    errors.NoWorker: code_pb2.UNAVAILABLE,
    errors.CoreDraining: code_pb2.UNAVAILABLE,
    errors.StoreUnavailable: code_pb2.UNAVAILABLE,
    errors.StoreFull: code_pb2.RESOURCE_EXHAUSTED,
    errors.QueueFull: code_pb2.RESOURCE_EXHAUSTED,
    errors.EventsExpired: code_pb2.OUT_OF_RANGE,
    errors.CursorAhead: code_pb2.OUT_OF_RANGE,
    errors.LogDamaged: code_pb2.DATA_LOSS,
    errors.NotServed: code_pb2.UNIMPLEMENTED,
    errors.WebhooksDisabled: code_pb2.UNIMPLEMENTED,
    errors.WorkerReplaced: code_pb2.ABORTED,
    errors.WorkerProtocol: code_pb2.INVALID_ARGUMENT,
}


MAX_MESSAGE_CHARACTERS = 300
"""Of a refusal: it quotes its caller, and a client refuses an answer whose trailers are larger than 8 KiB."""

MAX_METADATA_CHARACTERS = 1_000
"""Of one value: the ids of twenty questions."""

FAILURE = "The server failed; its log says why."
"""All that a caller is told of a fault of ours."""


def status_of(refusal: Refusal) -> status_pb2.Status:
    """Return a refusal as google.rpc.Status with its ErrorInfo."""
    info = error_details_pb2.ErrorInfo(reason=refusal.reason, domain=DOMAIN, metadata=_metadata(refusal))
    detail = any_pb2.Any()
    detail.Pack(info)
    return status_pb2.Status(code=CODES[type(refusal)], message=_message(refusal), details=[detail])


def watch_error(error: Exception, method: str) -> WatchError:
    """Return what an exception means to one watch of a stream that goes on for the others."""
    if not isinstance(error, Refusal):
        log.error("call failed", method=method, exc_info=error)
        return WatchError(code=code_pb2.INTERNAL, message=FAILURE)
    code, metadata = CODES[type(error)], _metadata(error)
    return WatchError(code=code, reason=error.reason, message=_message(error), metadata=metadata)


def _message(refusal: Refusal) -> str:
    return refusal.message[:MAX_MESSAGE_CHARACTERS]


def _metadata(refusal: Refusal) -> Mapping[str, str]:
    return {key: value[:MAX_METADATA_CHARACTERS] for key, value in refusal.metadata.items()}


def bind_request_id(metadata: Iterable[tuple[str, str | bytes]]) -> None:
    """Put the caller's request id into all log lines of this task, which has a context of its own."""
    for key, value in metadata:
        if key == REQUEST_ID_KEY:
            structlog.contextvars.bind_contextvars(request_id=str(value)[:128])


async def abort(context: Context, error: Exception, method: str) -> NoReturn:
    """End a call with what an exception means to its caller."""
    if isinstance(error, Refusal):
        await context.abort_with_status(rpc_status.to_status(status_of(error)))
    log.error("call failed", method=method, exc_info=error)
    await context.abort(grpc.StatusCode.INTERNAL, FAILURE)


def guarded_call(method: str, behaviour: Callable[[Any, Context], Awaitable[Any]], note: Note) -> Behaviour:
    """Wrap a method that returns one message."""

    async def call(request: Any, context: Context) -> Any:
        bind_request_id(context.invocation_metadata() or ())
        try:
            response = await behaviour(request, context)
        except asyncio.CancelledError:
            note("CANCELLED")
            raise
        except Exception as fault:  # noqa: BLE001 — `abort` logs what is not a refusal
            error = _as_refusal(fault)
            note(code_name(error))
            await abort(context, error, method)
        note("OK")
        return response

    return call


def guarded_stream(method: str, behaviour: Callable[[Any, Context], AsyncIterator[Any]], note: Note) -> Behaviour:
    """Wrap a method that returns a stream."""

    async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
        bind_request_id(context.invocation_metadata() or ())
        try:
            async for response in behaviour(request, context):
                yield response
        except (asyncio.CancelledError, GeneratorExit):
            note("CANCELLED")
            raise
        except Exception as fault:  # noqa: BLE001 — `abort` logs what is not a refusal
            error = _as_refusal(fault)
            note(code_name(error))
            await abort(context, error, method)
        note("OK")

    return stream


def _as_refusal(error: Exception) -> Exception:
    """A message of a stream that cannot be decoded is its sender's fault; gRPC itself refuses those of other calls."""
    if isinstance(error, DecodeError):
        return errors.InvalidArgument(f"A message of the stream could not be read: {error}")
    return error


def code_name(error: Exception) -> str:
    """Return the name of the code with which an exception ends a call."""
    return code_pb2.Code.Name(CODES[type(error)]) if isinstance(error, Refusal) else "INTERNAL"
