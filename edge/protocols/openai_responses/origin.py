"""What a response shows of its request and no field of the run holds: kept as the origin of the run or of its leg.

Owns the form of `origin_json`. Tools, options and labels are read from the run itself; instructions are a message of
its input. A run that another protocol created has an origin of another form, and counts as one with all defaults.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from penstock.v1.message_pb2 import Message, Part, Role, TextPart

_MARK = '{"instructions":true}'
"""Metadata of the message that the instructions become, by which it is told from the input."""


class Origin(Struct, tag_field="protocol", tag="openai_responses", omit_defaults=True, frozen=True):
    """A request, as far as its response shows it again."""

    previous_response_id: str | None = None
    conversation: str | None = None
    """The conversation's id, when the request named one."""
    background: bool = False
    store: bool = True
    encrypted: bool = False
    """Reasoning is to come with what its provider wants back."""
    metadata: dict[str, str] | None = None
    """Labels of a later leg; those of the first are the run's."""

    def to_json(self) -> str:
        """Return the text for the core."""
        return msgspec.json.encode(self).decode()


def read_origin(origin_json: str) -> Origin:
    """Return the origin of a run or a leg."""
    try:
        return msgspec.json.decode(origin_json, type=Origin)
    except msgspec.MsgspecError:
        return Origin()


def instructions_message(text: str) -> Message:
    """Return what instructions become."""
    return Message(role=Role.ROLE_SYSTEM, parts=[Part(text=TextPart(text=text))], metadata_json=_MARK)


def is_instructions(message: Message) -> bool:
    """Tell instructions from the input."""
    return message.role == Role.ROLE_SYSTEM and message.metadata_json == _MARK
