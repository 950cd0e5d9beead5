"""Registers a servicer by its service descriptor.

Instead of the generated `add_…_to_server`, for one reason: a streaming method may yield bytes that are a serialised
message already, so that stored events are sent as they are and never encoded again. RPCs that a servicer does not have
are answered with UNIMPLEMENTED.
"""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from core_service.engine.metrics import Metrics
from core_service.rpc.errors import Note, guarded_call, guarded_stream


def add_service(server: grpc.aio.Server, service: ServiceDescriptor, servicer: object, metrics: Metrics) -> None:
    """Serve `service` by the methods of `servicer` that have the names of its RPCs."""
    handlers = {
        method.name: _handler(method, getattr(servicer, method.name), metrics)
        for method in service.methods
        if hasattr(servicer, method.name)
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))


def _handler(method: MethodDescriptor, behaviour: Any, metrics: Metrics) -> grpc.RpcMethodHandler[Any, Any]:
    name = f"/{method.containing_service.full_name}/{method.name}"
    note = call_counter(name, metrics)
    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[method.client_streaming, method.server_streaming]
    guarded = guarded_stream if method.server_streaming else guarded_call
    return make(
        guarded(name, behaviour, note),
        request_deserializer=GetMessageClass(method.input_type).FromString,
        response_serializer=_serialize,
    )


def _serialize(response: Message | bytes) -> bytes:
    return response if isinstance(response, bytes) else response.SerializeToString()


def call_counter(method: str, metrics: Metrics) -> Note:
    """Return what counts the calls of a method."""
    return lambda code: metrics.calls.labels(method, code).inc()
