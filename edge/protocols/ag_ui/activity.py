"""Parts that AG-UI has no message for: data of the application, files and sources become activity messages.

Owns their ids and types. An activity stands in the client's history and is never sent back to the server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from google.protobuf.json_format import MessageToDict

from penstock.v1.message_pb2 import DataPart, Message, Part

FILE = "penstock:file"
SOURCE = "penstock:source"


@dataclass(frozen=True, slots=True)
class Activity:
    """An activity message, apart from who speaks."""

    id: str
    kind: str
    """The `activityType`: the name that the application gave its data, or one of ours."""
    content: Mapping[str, object]


def activity_of(part: Part, message: Message) -> Activity | None:
    """Return the activity that a part is shown as; None for parts that have an event of their own."""
    part_id = f"{message.id}.{part.ordinal}"
    match part.WhichOneof("content"):
        case "data":
            return Activity(_data_id(part.data, message) or part_id, part.data.name, _value(part.data.value_json))
        case "file":
            return Activity(part_id, FILE, MessageToDict(part.file))
        case "source":
            return Activity(part_id, SOURCE, MessageToDict(part.source))
        case _:
            return None


def _data_id(data: DataPart, message: Message) -> str:
    """Data of the same name and key replaces what the run said before."""
    return f"{message.run_id}.{data.name}.{data.key}" if data.key else ""


def _value(value_json: str) -> Mapping[str, object]:
    """Return the value as the object that the protocol demands."""
    if value_json.startswith("{"):
        return msgspec.json.decode(value_json, type=dict[str, msgspec.Raw])
    return {"value": msgspec.Raw(value_json.encode() or b"null")}
