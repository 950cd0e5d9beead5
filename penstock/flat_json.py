"""Messages of the contract as flat snake-case JSON (CONTRACT.md 2.8): what REST, SSE, webhooks and `--json` show.

Owns the rules: enums by short name, `x_json` inline as `x`, parts flat, empty fields left out. They are compiled once
per message type from its descriptor, so a field added to the contract shows up without a line here.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import cache, lru_cache
from typing import Any

import msgspec
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message as ProtoMessage
from google.protobuf.timestamp_pb2 import Timestamp

from penstock.v1.message_pb2 import Part

Convert = Callable[[Any], object]  # protobuf's reflection is untyped: this is the JSON rim

dumps = msgspec.json.Encoder().encode

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - without a zone, so that none is written


def flat(message: ProtoMessage) -> dict[str, object]:
    """Return a message as an object that `dumps` can write."""
    shape = _shape(message.DESCRIPTOR)
    result = {}
    for field, value in message.ListFields():
        key, convert = shape[field.number]
        result[key] = convert(value)
    return result


def flat_part(part: Part) -> dict[str, object]:
    """Return a part with its content unfolded: `kind` says which fields to expect."""
    kind = part.WhichOneof("content")
    content = {} if kind is None else flat(getattr(part, kind))
    around = flat(part)
    head = {"ordinal": around.pop("ordinal", None), "kind": kind}
    around.pop(kind or "", None)
    return {key: value for key, value in {**head, **content, **around}.items() if value is not None}


def instant(stamp: Timestamp) -> str:
    """Return an instant as protobuf writes it in JSON: RFC 3339, UTC, with 0, 3, 6 or 9 digits of a fraction.

    By hand, since every event but a delta has one: `ToJsonString` takes three times as long.
    """
    nanos = stamp.nanos
    if not nanos:
        return f"{_second(stamp.seconds)}Z"
    if nanos % 1_000:
        return f"{_second(stamp.seconds)}.{nanos:09d}Z"
    if nanos % 1_000_000:
        return f"{_second(stamp.seconds)}.{nanos // 1_000:06d}Z"
    return f"{_second(stamp.seconds)}.{nanos // 1_000_000:03d}Z"


@lru_cache(maxsize=256)
def _second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()


def inline(json_text: str) -> msgspec.Raw:
    """Return JSON text for use inside of an object: on one line, as the core stores it and SSE needs it."""
    raw = json_text.encode()
    return msgspec.Raw(msgspec.json.format(raw, indent=-1) if b"\n" in raw or b"\r" in raw else raw)


@cache
def enum_names(enum: EnumDescriptor) -> Mapping[int, str]:
    """Return the short names of an enum: without prefix, lower case."""
    prefix = _prefix(enum)
    return {value.number: value.name.removeprefix(prefix).lower() for value in enum.values}


def _prefix(enum: EnumDescriptor) -> str:
    """`RunState` → `RUN_STATE_`: what buf's rules put before each value."""
    return enum.values_by_number[0].name.removesuffix("UNSPECIFIED")


@cache
def _shape(descriptor: Descriptor) -> Mapping[int, tuple[str, Convert]]:
    return {field.number: (key_of(field), _converter(field)) for field in descriptor.fields}


def key_of(field: FieldDescriptor) -> str:
    """Return the field's name in JSON."""
    return field.name.removesuffix("_json")


def is_map(field: FieldDescriptor) -> bool:
    """True for map fields, which reflection shows as repeated entries."""
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _converter(field: FieldDescriptor) -> Convert:
    if is_map(field):
        return dict
    convert = _single(field)
    if field.is_repeated:
        return lambda values: [convert(value) for value in values]
    return convert


def _single(field: FieldDescriptor) -> Convert:
    if field.enum_type is not None:
        names = enum_names(field.enum_type)
        return lambda number: names.get(number, str(number))
    if field.message_type is not None:
        return _OF_MESSAGE.get(field.message_type.full_name, flat)
    if field.name.endswith("_json"):
        return inline
    if field.type == FieldDescriptor.TYPE_BYTES:
        return lambda data: base64.b64encode(data).decode()
    return _as_it_is


def _as_it_is(value: object) -> object:
    return value


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9


_OF_MESSAGE: Mapping[str, Convert] = {
    Timestamp.DESCRIPTOR.full_name: instant,
    Duration.DESCRIPTOR.full_name: _seconds,
    Part.DESCRIPTOR.full_name: flat_part,
}
