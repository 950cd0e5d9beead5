"""What a client may give a run to work on, as messages of the contract (DESIGN.md 3).

Owns the three forms of `input`: a string is one user message, a list of messages is itself, and any other JSON is one
user message with a data part, its text untouched.
"""

from __future__ import annotations

import msgspec

from edge.json_body import compact, fill, read, read_members, read_part, refused
from penstock.v1.message_pb2 import DataPart, Message, Part, Role, TextPart

_PATH = "input"


def read_input(raw: msgspec.Raw) -> list[Message]:
    """Return the new messages. Raises Refusal for a list that is nearly one of messages."""
    text = bytes(raw)
    if text.startswith(b'"'):
        return [_from_user(_text_part(read(raw, _PATH, str, "text")))]
    if text.startswith(b"["):
        items = read(raw, _PATH, list[msgspec.Raw], "a list")
        if any(_has_role(item) for item in items) or not items:
            return [_read_message(item, f"{_PATH}[{index}]") for index, item in enumerate(items)]
    return [_from_user(Part(data=DataPart(value_json=compact(raw))))]


def _from_user(part: Part) -> Message:
    return Message(role=Role.ROLE_USER, parts=[part])


def _text_part(text: str) -> Part:
    return Part(text=TextPart(text=text))


def _has_role(raw: msgspec.Raw) -> bool:
    return bytes(raw).startswith(b"{") and "role" in read_members(raw, _PATH)


def _read_message(raw: msgspec.Raw, path: str) -> Message:
    members = read_members(raw, path)
    if "role" not in members:
        raise refused(f"{path}.role", f"{path}.role is missing: user, assistant, tool or system.")
    content = members.pop("content", None)
    if content is not None and "parts" in members:
        raise refused(f"{path}.content", f"{path} has both content and parts; give one.")
    message = Message()
    fill(message, members, path)
    if content is not None:
        message.parts.extend(_read_content(content, f"{path}.content"))
    return message


def _read_content(raw: msgspec.Raw, path: str) -> list[Part]:
    if bytes(raw).startswith(b'"'):
        return [_text_part(read(raw, path, str, "text"))]
    items = read(raw, path, list[msgspec.Raw], "text or a list of parts")
    return [read_part(item, f"{path}[{index}]") for index, item in enumerate(items)]
