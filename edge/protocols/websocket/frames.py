"""What goes over a socket: requests in; results, errors and events out, each one text message with one JSON object.

Owns the shapes, and the few bytes that RFC 6455, section 5.2 puts before a message of a server; so a batch of events is
one write. It knows no connection.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

import msgspec

from edge.errors import Refusal, members_of
from edge.event_json import RunObjects
from edge.json_body import Members, checked_json, read, read_members, refused
from penstock.flat_json import dumps
from penstock.v1.event_pb2 import Event

PING = b"\x89\x00"
"""A ping without payload."""

MAX_ID = 128
_KEY = re.compile(r"[!-~]{1,128}")

_TEXT, _SHORT, _MEDIUM = 0x81, 126, 1 << 16
"""Final frame with opcode text; lengths below these stand in 7 and in 16 bits."""


@dataclass(slots=True)
class Request:
    """One message of a client, as far as it could be read."""

    id: str | int | None = None
    """The client's own; its answer repeats it."""
    type: str = ""
    key: str = ""
    """Makes a repeat harmless; empty when there is none."""

    def parse(self, data: str, *, max_bytes: int, max_depth: int) -> Members:
        """Read a message and return the rest of it. What was read before a refusal stays: the answer repeats the id."""
        body = data.encode()
        if len(body) > max_bytes:
            raise Refusal(413, "BODY_TOO_LARGE", f"The message is larger than {max_bytes} bytes.")
        members = read_members(checked_json(body, max_depth=max_depth), "")
        if "id" in members:
            self.id = _read_id(members.pop("id"))
        self.type = read(members.pop("type", msgspec.Raw(b'""')), "type", str, "a string")
        self.key = _read_key(members.pop("idempotency_key", msgspec.Raw(b'""')))
        return members


def _read_id(raw: msgspec.Raw) -> str | int:
    is_text = bytes(raw).startswith(b'"')
    given = read(raw, "id", str, "text") if is_text else read(raw, "id", int, "a string or a whole number")
    if len(str(given)) > MAX_ID:
        raise refused("id", f"id must have at most {MAX_ID} characters.")
    return given


def _read_key(raw: msgspec.Raw) -> str:
    key = read(raw, "idempotency_key", str, "a string")
    if key and not _KEY.fullmatch(key):
        message = "idempotency_key must be 1 to 128 printable ASCII characters without spaces."
        raise Refusal(400, "INVALID_IDEMPOTENCY_KEY", message, field="idempotency_key")
    return key


class SocketEncoder:
    """One message per event of one run. It needs no memory, so it may begin anywhere."""

    __slots__ = ("_objects", "ended")

    def __init__(self, run_id: str) -> None:
        self.ended = False
        self._objects = RunObjects(run_id)

    def feed(self, event: Event) -> bytes:
        """Return the event's message; nothing for a payload that only a newer core knows."""
        if event.HasField("run_ended"):
            self.ended = True
        data = self._objects.of(event)
        return text(data) if data else b""


def result(request: Request, members: dict[str, object]) -> bytes:
    """Return the message that answers a request."""
    return text(dumps({"type": "result", **_about(request), **members}))


def error(refusal: Refusal, request: Request | None = None, **place: object) -> bytes:
    """Return the message that refuses a request, or that ends a watch."""
    about = {} if request is None else _about(request)
    said = {"status": refusal.status, "reason": refusal.reason, "message": refusal.message}
    return text(dumps(members_of(refusal) | {"type": "error", **about, **place, **said}))


def rewatch(run_id: str, after: int) -> bytes:
    """Return the message that tells a slow client to watch a run again."""
    return text(dumps({"type": "rewatch", "run_id": run_id, "after": after}))


def text(payload: bytes) -> bytes:
    """Return a whole text message as it goes over the wire."""
    size = len(payload)
    if size < _SHORT:
        return struct.pack("!BB", _TEXT, size) + payload
    if size < _MEDIUM:
        return struct.pack("!BBH", _TEXT, _SHORT, size) + payload
    return struct.pack("!BBQ", _TEXT, 127, size) + payload


def _about(request: Request) -> dict[str, object]:
    about = {"id": request.id, "of": request.type}
    return {key: value for key, value in about.items() if value not in (None, "")}
