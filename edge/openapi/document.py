"""The OpenAPI document of the routes that are served: their paths, and what their handlers say of themselves.

Owns the shape of the document. There is no second list of routes: what is not among them is not described.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from aiohttp import web
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from edge.openapi.operation import Operation, operation_of
from edge.openapi.schemas import Schema, Schemas
from penstock.v1.event_pb2 import Event

_PARAMETER = re.compile(r"{(\w+)(?::[^}]*)?}")
_WITH_BODY = ("POST", "PUT", "PATCH")
_JSON, _SSE, _PROBLEM = "application/json", "text/event-stream", "application/problem+json"

_PROBLEM_SCHEMA: Schema = {
    "type": "object",
    "description": "RFC 9457, with the reason, which is API, and what the core added.",
    "required": ["type", "title", "status", "detail", "reason"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "reason": {"type": "string"},
    },
}

Served = tuple[str, web.RouteDef]
"""A route, and the protocol that it is of."""


def document(served: Iterable[Served], version: str) -> Schema:
    """Return the document."""
    schemas = Schemas()
    schemas.components["Problem"] = _PROBLEM_SCHEMA
    paths: dict[str, dict[str, object]] = {}
    for tag, route in served:
        path = _PARAMETER.sub(r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(schemas, tag, path, route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Penstock", "version": version, "description": "Durable, resumable runs of agents."},
        "paths": paths,
        "components": {"schemas": schemas.components},
    }


def _operation(schemas: Schemas, tag: str, path: str, route: web.RouteDef) -> Schema:
    said = operation_of(route.handler)
    described: Schema = {
        "tags": [tag],
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{path}").strip("_"),
        "parameters": [*_in_path(path), *_in_query(said)],
        "responses": _responses(schemas, said),
    }
    if said.summary:
        described["summary"] = said.summary
    if route.method in _WITH_BODY:
        described["requestBody"] = {"content": {_JSON: {"schema": _body(schemas, said)}}}
    return described


def _in_path(path: str) -> list[Schema]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(path)
    ]


def _in_query(said: Operation) -> list[Schema]:
    return [{"name": name, "in": "query", "schema": {"type": "string"}} for name in said.query]


def _body(schemas: Schemas, said: Operation) -> Schema:
    if said.body is None:
        return {}
    message, names = said.body
    fields = schemas.some_of(_descriptor(message), names)
    properties = fields["properties"]
    assert isinstance(properties, dict)
    if "input" in names:
        properties["input"] = {"description": "Text, a list of messages, or any JSON."}
    return fields


def _responses(schemas: Schemas, said: Operation) -> Schema:
    problem = {_PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    responses: dict[str, Schema] = {str(said.status): {"description": "Done."}}
    if said.answer is not None:
        _content(responses, said.status)[_JSON] = {"schema": _answer(schemas, said.answer, said.page_of)}
    if said.streams:
        _content(responses, 200)[_SSE] = {"schema": schemas.ref(Event.DESCRIPTOR)}
    return {**responses, "default": {"description": "Refused.", "content": problem}}


def _content(responses: dict[str, Schema], status: int) -> Schema:
    content = responses.setdefault(str(status), {"description": "Done."}).setdefault("content", {})
    assert isinstance(content, dict)
    return content


def _answer(schemas: Schemas, answer: type[Message], page_of: str) -> Schema:
    one = schemas.ref(_descriptor(answer))
    if not page_of:
        return one
    page = {page_of: {"type": "array", "items": one}, "next_page_token": {"type": "string"}}
    return {"type": "object", "required": [*page], "properties": page}


def _descriptor(message: type[Message]) -> Descriptor:
    descriptor = message.DESCRIPTOR
    assert isinstance(descriptor, Descriptor)  # upb's own is registered as one
    return descriptor
