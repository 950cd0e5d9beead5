"""Messages of the contract as JSON Schema: the rules of `penstock/flat_json.py`, said of types instead of values.

Owns the schemas, made from the descriptors, so that a field added to the contract is described without a line here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from edge.event_json import EVENT_NAMES
from penstock.flat_json import enum_names, is_map, key_of
from penstock.v1.event_pb2 import Event
from penstock.v1.message_pb2 import Part

Schema = dict[str, object]

_INSTANT: Schema = {"type": "string", "format": "date-time"}
_SECONDS: Schema = {"type": "number", "description": "Seconds."}
_WELL_KNOWN: Mapping[str, Schema] = {Timestamp.DESCRIPTOR.full_name: _INSTANT, Duration.DESCRIPTOR.full_name: _SECONDS}
_OF_TYPE: Mapping[int, Schema] = {
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.TYPE_INT64: {"type": "integer", "format": "int64"},
    FieldDescriptor.TYPE_DOUBLE: {"type": "number"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
}


class Schemas:
    """The schemas that a document needs, collected as they are asked for."""

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}

    def ref(self, descriptor: Descriptor) -> Schema:
        """Return a reference to a message's schema."""
        name = descriptor.name
        if name not in self.components:
            self.components[name] = {}  # a message may hold itself
            self.components[name] = self._message(descriptor)
        return {"$ref": f"#/components/schemas/{name}"}

    def some_of(self, descriptor: Descriptor, names: Iterable[str]) -> Schema:
        """Return the schema of an object with some fields of a message, and no others."""
        properties = self._properties(field for field in descriptor.fields if key_of(field) in names)
        return {"type": "object", "properties": properties, "additionalProperties": False}

    def _message(self, descriptor: Descriptor) -> Schema:
        match descriptor.full_name:
            case Part.DESCRIPTOR.full_name:
                return self._variants("kind", descriptor, "content", {})
            case Event.DESCRIPTOR.full_name:
                return self._variants("type", descriptor, "payload", EVENT_NAMES)
            case _:
                return {"type": "object", "properties": self._properties(descriptor.fields)}

    def _variants(self, key: str, descriptor: Descriptor, oneof: str, names: Mapping[str, str]) -> Schema:
        """A message whose variant is unfolded into it; `key` tells which."""
        variants = descriptor.oneofs_by_name[oneof].fields
        around = self._properties(field for field in descriptor.fields if field not in variants)
        if "create_time" in around:
            around["time"] = around.pop("create_time")
        return {
            "oneOf": [
                {
                    "type": "object",
                    "required": [key],
                    "properties": {
                        key: {"const": names.get(field.name, field.name)},
                        **around,
                        **self._properties(_message_of(field).fields),
                    },
                }
                for field in variants
            ]
        }

    def _properties(self, fields: Iterable[FieldDescriptor]) -> dict[str, Schema]:
        return {key_of(field): self._field(field) for field in fields}

    def _field(self, field: FieldDescriptor) -> Schema:
        if is_map(field):
            return {"type": "object", "additionalProperties": {"type": "string"}}
        one = self._single(field)
        return {"type": "array", "items": one} if field.is_repeated else one

    def _single(self, field: FieldDescriptor) -> Schema:
        if field.enum_type is not None:
            return _enum(field.enum_type)
        if field.message_type is not None:
            return _WELL_KNOWN.get(field.message_type.full_name) or self.ref(field.message_type)
        return {} if field.name.endswith("_json") else _OF_TYPE[field.type]  # {}: any JSON


def _enum(enum: EnumDescriptor) -> Schema:
    return {"type": "string", "enum": [name for number, name in enum_names(enum).items() if number]}


def _message_of(field: FieldDescriptor) -> Descriptor:
    assert field.message_type is not None
    return field.message_type
