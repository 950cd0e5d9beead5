"""Events as native clients read them: one JSON object, and one SSE frame, per event (CONTRACT.md 2.8).

Streams of several runs tell in each object of which one it is.

Owns the names of events and a straight path for deltas, which are nearly all of them: a bytes template around the
escaped text. It does not know who reads, nor from where on.
"""

from __future__ import annotations

import msgspec

from penstock.flat_json import dumps, enum_names, flat, instant
from penstock.v1.event_pb2 import Event
from penstock.v1.message_pb2 import PartKind

_PAYLOADS = Event.DESCRIPTOR.oneofs_by_name["payload"].fields

EVENT_NAMES = {field.name: field.name.replace("_", ".", 1) for field in _PAYLOADS}
"""`part_delta` → `part.delta`."""

_KINDS = {number: name.encode() for number, name in enum_names(PartKind.DESCRIPTOR).items()}
_UNKNOWN = b"unknown"
_escape = msgspec.json.Encoder().encode

_DELTA_OBJECT = b'{"type":"part.delta","seq":%d,"part":%d,"kind":"%b","text":%b}'
_DELTA_FRAME = b"id: %d\nevent: part.delta\ndata: " + _DELTA_OBJECT + b"\n\n"
_DELTA_OBJECT_OF_RUN = b'{"type":"part.delta","seq":%d,"run_id":%b,"part":%d,"kind":"%b","text":%b}'
_DELTA_OF_RUN = b"id: %b%d\nevent: part.delta\ndata: " + _DELTA_OBJECT_OF_RUN + b"\n\n"


class NativeEncoder:
    """One frame per event. It needs no memory, so it may begin anywhere."""

    __slots__ = ("ended",)

    def __init__(self) -> None:
        self.ended = False

    def feed(self, event: Event) -> bytes:
        """Return the event's frame; nothing for a payload that only a newer core knows."""
        delta = event.part_delta
        if part := delta.part:  # ordinals begin at 1: this asks for the payload's kind, and costs nothing extra
            seq = event.seq
            return _DELTA_FRAME % (seq, seq, part, _KINDS.get(delta.kind, _UNKNOWN), _escape(delta.text))
        payload = event.WhichOneof("payload")
        if payload is None:
            return b""
        self.ended = payload == "run_ended"
        name = EVENT_NAMES[payload]
        return b"id: %d\nevent: %b\ndata: %b\n\n" % (event.seq, name.encode(), _object(event, payload, name))


class ThreadEncoder:
    """One frame per event of the runs of a thread, which come one after the other. Ids are cursors of the thread."""

    __slots__ = ("_escaped_run_id", "_prefix", "_run_id", "ended")

    def __init__(self) -> None:
        self.ended = False
        self.enter("", "")

    def enter(self, run_id: str, cursor_prefix: str) -> None:
        """What is fed from now on is of this run; prefix and seq together are an event's cursor."""
        self._run_id = run_id
        self._escaped_run_id = _escape(run_id)
        self._prefix = cursor_prefix.encode()

    def feed(self, event: Event) -> bytes:
        """Return the event's frame; nothing for a payload that only a newer core knows."""
        delta, seq = event.part_delta, event.seq
        if part := delta.part:
            kind = _KINDS.get(delta.kind, _UNKNOWN)
            return _DELTA_OF_RUN % (self._prefix, seq, seq, self._escaped_run_id, part, kind, _escape(delta.text))
        payload = event.WhichOneof("payload")
        if payload is None:
            return b""
        name = EVENT_NAMES[payload]
        data = _object(event, payload, name, run_id=self._run_id)
        return b"id: %b%d\nevent: %b\ndata: %b\n\n" % (self._prefix, seq, name.encode(), data)


class RunObjects:
    """Events of one run as JSON objects that tell its id, for connections that carry several runs."""

    __slots__ = ("_escaped_run_id", "_run_id")

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._escaped_run_id = _escape(run_id)

    def of(self, event: Event) -> bytes:
        """Return the event as an object; nothing for a payload that only a newer core knows."""
        delta = event.part_delta
        if part := delta.part:
            kind = _KINDS.get(delta.kind, _UNKNOWN)
            return _DELTA_OBJECT_OF_RUN % (event.seq, self._escaped_run_id, part, kind, _escape(delta.text))
        payload = event.WhichOneof("payload")
        return _object(event, payload, EVENT_NAMES[payload], run_id=self._run_id) if payload else b""


def event_object(event: Event) -> bytes:
    """Return the event as one JSON object; an unknown payload as its number and time alone."""
    payload = event.WhichOneof("payload")
    if payload == "part_delta":
        delta = event.part_delta
        kind = _KINDS.get(delta.kind, _UNKNOWN)
        return _DELTA_OBJECT % (event.seq, delta.part, kind, _escape(delta.text))
    return _object(event, payload, EVENT_NAMES.get(payload or "", "unknown"))


def _object(event: Event, payload: str | None, name: str, *, run_id: str = "") -> bytes:
    fields: dict[str, object] = {"type": name, "seq": event.seq}
    if run_id:
        fields["run_id"] = run_id
    if event.HasField("create_time"):
        fields["time"] = instant(event.create_time)
    return dumps(fields | flat(getattr(event, payload))) if payload else dumps(fields)
