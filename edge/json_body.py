"""Request bodies: JSON that was checked before it was parsed, and messages of the contract read from it.

Owns the limits of JSON and the strict reading of the shapes that `flat_json` writes: an unknown field or a wrong type
is a refusal that names the field. JSON inside of JSON is never decoded, so numbers come through as they were written.
Of a key that is given twice, the last one counts.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Container, Mapping
from datetime import datetime
from functools import cache
from typing import Any, TypeVar

import msgspec
from aiohttp import web
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message as ProtoMessage
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from edge.errors import Refusal
from penstock.flat_json import enum_names, is_map, key_of
from penstock.v1.message_pb2 import Part

T = TypeVar("T")
Reader = Callable[[msgspec.Raw, str], Any]  # raw JSON and its path → what protobuf takes

Members = Mapping[str, msgspec.Raw]

INT32 = range(-(2**31), 2**31)
MAX_SECONDS = 10 * 365 * 86_400

_AROUND_CONTENT = ("ordinal", "completion", "provider")
"""The fields of a Part beside its content."""

_BRACKETS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{]|[\]}]', re.DOTALL)


def refused(path: str, message: str) -> Refusal:
    """Return the refusal of one field of a body."""
    return Refusal(400, "INVALID_ARGUMENT", message, field=path)


async def read_json(request: web.Request, *, max_depth: int) -> msgspec.Raw:
    """Return the body as JSON of good syntax, bounded size (the application's) and depth. Raises Refusal."""
    if request.content_type != "application/json" and not request.content_type.endswith("+json"):
        raise Refusal(415, "UNSUPPORTED_MEDIA_TYPE", "Send JSON, with `Content-Type: application/json`.")
    return checked_json(await _read_body(request, request.client_max_size), max_depth=max_depth)


async def _read_body(request: web.Request, max_bytes: int) -> bytes:
    """Read the body without keeping it: `request.read()` would, as long as the answer streams."""
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > max_bytes:
            raise Refusal(413, "BODY_TOO_LARGE", f"The body is larger than {max_bytes} bytes.")
    return bytes(body)


def checked_json(body: bytes, *, max_depth: int) -> msgspec.Raw:
    """Return the text as JSON that any reader below may decode."""
    if is_deeper(body, max_depth):
        raise Refusal(400, "JSON_TOO_DEEP", f"The JSON is nested deeper than {max_depth} levels.")
    try:
        body.decode()
        return msgspec.json.decode(body, type=msgspec.Raw)
    except UnicodeDecodeError:
        raise Refusal(400, "INVALID_JSON", "The body is not UTF-8.") from None
    except msgspec.DecodeError as error:
        raise Refusal(400, "INVALID_JSON", f"The body is not JSON: {error}.") from None


def is_deeper(body: bytes, limit: int) -> bool:
    """Tell whether brackets nest deeper than `limit`, without parsing: a parser would recurse."""
    if body.count(b"[") + body.count(b"{") <= limit:
        return False
    depth = 0
    for token in _BRACKETS.finditer(body):
        character = body[token.start()]
        if character in b"[{":
            depth += 1
            if depth > limit:
                return True
        elif character in b"]}":
            depth -= 1
    return False


def read(raw: msgspec.Raw, path: str, kind: type[T], name: str) -> T:
    """Decode one value. `name` says what it must be, for people."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError:
        raise refused(path, f"{path or 'The body'} must be {name}.") from None
    except msgspec.DecodeError:  # a lone surrogate: good syntax, and no text
        raise Refusal(400, "INVALID_JSON", f"{path} holds text that is not Unicode.", field=path) from None


def read_members(raw: msgspec.Raw, path: str) -> dict[str, msgspec.Raw]:
    """Return the members of an object; those that are null count as absent."""
    members = read(raw, path, dict[str, msgspec.Raw], "an object")
    return {key: value for key, value in members.items() if bytes(value) != b"null"}


def compact(raw: msgspec.Raw, _path: str = "") -> str:
    """Return JSON text without white space, its numbers untouched."""
    return msgspec.json.format(bytes(raw), indent=-1).decode()


def fill(message: ProtoMessage, members: Members, path: str) -> None:
    """Set the fields of a message from the members of an object. Raises Refusal for what does not belong there."""
    shape = _shape(message.DESCRIPTOR)
    for key, raw in members.items():
        place = f"{path}.{key}" if path else key
        if key not in shape:
            raise refused(place, f"There is no field {place}.")
        field, read_value = shape[key]
        value = read_value(raw, place)
        if isinstance(value, ProtoMessage):
            getattr(message, field.name).CopyFrom(value)
        elif isinstance(value, list):
            getattr(message, field.name).extend(value)
        elif isinstance(value, dict):
            getattr(message, field.name).update(value)
        else:
            setattr(message, field.name, value)


def read_part(raw: msgspec.Raw, path: str) -> Part:
    """Read a flat part; `type` is taken for `kind`, as many clients write it."""
    members = read_members(raw, path)
    kind = read(members.pop("kind", members.pop("type", msgspec.Raw(b'"text"'))), f"{path}.kind", str, "text")
    content = Part.DESCRIPTOR.oneofs_by_name["content"].fields
    if kind not in {field.name for field in content}:
        known = ", ".join(field.name for field in content)
        raise refused(f"{path}.kind", f"{path}.kind must be one of {known}.")
    part = Part()
    around, inner = _split(members, _AROUND_CONTENT)
    fill(part, around, path)
    content_message = getattr(part, kind)
    content_message.SetInParent()
    fill(content_message, inner, path)
    return part


def _split(members: Members, names: Container[str]) -> tuple[Members, Members]:
    named = {key: raw for key, raw in members.items() if key in names}
    return named, {key: raw for key, raw in members.items() if key not in names}


def take(members: Members, *names: str) -> Members:
    """Return the named members. Raises Refusal when there are others."""
    taken, rest = _split(members, names)
    for key in rest:
        raise refused(key, f"There is no field {key}; there are {', '.join(names)}.")
    return taken


@cache
def _shape(descriptor: Descriptor) -> Mapping[str, tuple[FieldDescriptor, Reader]]:
    return {key_of(field): (field, _reader(field)) for field in descriptor.fields}


def _reader(field: FieldDescriptor) -> Reader:
    if is_map(field):
        return lambda raw, path: read(raw, path, dict[str, str], "an object of strings")
    read_one = _single(field)
    if not field.is_repeated:
        return read_one

    def read_all(raw: msgspec.Raw, path: str) -> list[Any]:
        items = read(raw, path, list[msgspec.Raw], "a list")
        return [read_one(item, f"{path}[{index}]") for index, item in enumerate(items)]

    return read_all


def _single(field: FieldDescriptor) -> Reader:
    if field.enum_type is not None:
        numbers = {name: number for number, name in enum_names(field.enum_type).items() if number}
        return lambda raw, path: _read_enum(raw, path, numbers)
    if field.message_type is not None:
        known = _OF_MESSAGE.get(field.message_type.full_name)
        message_class = GetMessageClass(field.message_type)
        return known or (lambda raw, path: _read_message(raw, path, message_class))
    return compact if field.name.endswith("_json") else _OF_TYPE[field.type]


def _read_message(raw: msgspec.Raw, path: str, message_class: type[ProtoMessage]) -> ProtoMessage:
    message = message_class()
    fill(message, read_members(raw, path), path)
    return message


def _read_enum(raw: msgspec.Raw, path: str, numbers: Mapping[str, int]) -> int:
    name = read(raw, path, str, "a string")
    if name not in numbers:
        raise refused(path, f"{path} must be one of {', '.join(numbers)}.")
    return numbers[name]


def _read_int32(raw: msgspec.Raw, path: str) -> int:
    number = read(raw, path, int, "a whole number")
    if number not in INT32:
        raise refused(path, f"{path} must be between {INT32.start} and {INT32.stop - 1}.")
    return number


def _read_bytes(raw: msgspec.Raw, path: str) -> bytes:
    try:
        return base64.b64decode(read(raw, path, str, "a base64 string"), validate=True)
    except (binascii.Error, ValueError):
        raise refused(path, f"{path} must be a base64 string.") from None


def _read_timestamp(raw: msgspec.Raw, path: str) -> Timestamp:
    instant = read(raw, path, datetime, "an RFC 3339 time")
    if instant.tzinfo is None:
        raise refused(path, f"{path} must name its time zone: end it with Z.")
    stamp = Timestamp()
    stamp.FromDatetime(instant)
    return stamp


def _read_duration(raw: msgspec.Raw, path: str) -> Duration:
    seconds = read(raw, path, float, "a number of seconds")
    if not 0 <= seconds <= MAX_SECONDS:
        raise refused(path, f"{path} must be between 0 and {MAX_SECONDS} seconds.")
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration


_OF_TYPE: Mapping[int, Reader] = {
    FieldDescriptor.TYPE_STRING: lambda raw, path: read(raw, path, str, "a string"),
    FieldDescriptor.TYPE_BOOL: lambda raw, path: read(raw, path, bool, "true or false"),
    FieldDescriptor.TYPE_INT32: _read_int32,
    FieldDescriptor.TYPE_DOUBLE: lambda raw, path: read(raw, path, float, "a number"),
    FieldDescriptor.TYPE_BYTES: _read_bytes,
}

_OF_MESSAGE: Mapping[str, Reader] = {
    Timestamp.DESCRIPTOR.full_name: _read_timestamp,
    Duration.DESCRIPTOR.full_name: _read_duration,
    Part.DESCRIPTOR.full_name: read_part,
}
