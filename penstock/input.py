"""What a caller gives an agent, as messages of the contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from penstock.json_text import mend, to_json
from penstock.v1.message_pb2 import DataPart, Message, Part, Role, TextPart


def to_messages(given: object) -> list[Message]:
    """A string becomes a message of the user; messages stay what they are; any other JSON value becomes a data part."""
    if isinstance(given, Message):
        return [given]
    if isinstance(given, Sequence) and given and all(isinstance(item, Message) for item in given):
        return list(given)
    if isinstance(given, str):
        return [user_message(given)] if given else []
    return [Message(role=Role.ROLE_USER, parts=[Part(data=DataPart(value_json=to_json(given)))])]


def user_message(text: str, *, metadata: Mapping[str, object] | None = None) -> Message:
    """A message of the user with one text part."""
    return Message(
        role=Role.ROLE_USER,
        parts=[Part(text=TextPart(text=mend(text)))],
        metadata_json=to_json(metadata) if metadata else "",
    )
