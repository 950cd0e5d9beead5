"""Stored events as bytes: what a segment is, and how to cut one without decoding it.

A segment is a serialised `WatchRunResponse` that has only field 1, its events. So a record is the tag 0x0A, a varint
length and the event; segments joined are one valid message; and a reader cuts by walking lengths (CONTRACT.md 3.3).
"""

from __future__ import annotations

from collections.abc import Iterator

from penstock.v1.event_pb2 import Event

TAG = 0x0A
"""Field 1, length-delimited."""


def varint(number: int) -> bytes:
    """Return `number` (not negative) as a protobuf varint."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def record(event: bytes) -> bytes:
    """Return one serialised event as a record of a segment."""
    return b"\x0a" + varint(len(event)) + event


def next_record(data: bytes, offset: int) -> int:
    """Return the offset behind the record that starts at `offset`. Raises ValueError on anything else than a record."""
    if data[offset] != TAG:
        raise ValueError(f"no record at offset {offset}")
    length = shift = 0
    while True:
        offset += 1
        byte = data[offset]
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            return offset + 1 + length
        shift += 7


def skip(data: bytes, count: int) -> int:
    """Return the offset behind the first `count` records."""
    offset = 0
    for _ in range(count):
        offset = next_record(data, offset)
    return offset


def retagged(data: bytes, field: int) -> bytes:
    """Return a segment as another message has it whose events are field `field`: the records under another tag."""
    records = bytearray(data)
    tag, offset = field << 3 | TAG & 0x07, 0
    while offset < len(data):
        behind = next_record(data, offset)
        records[offset] = tag
        offset = behind
    return bytes(records)


def cuts(data: bytes, *, max_bytes: int, max_records: int | None = None) -> Iterator[tuple[int, bytes]]:
    """Cut a segment at record borders; yield the number of records and the bytes of each piece.

    A record that is larger than `max_bytes` is a piece of its own.
    """
    start = end = count = 0
    while end < len(data):
        behind = next_record(data, end)
        if count and (behind - start > max_bytes or count == max_records):
            yield count, data[start:end]
            start, count = end, 0
        end, count = behind, count + 1
    if count:
        yield count, data[start:]


def events(data: bytes) -> list[Event]:
    """Decode a segment."""
    found, offset = [], 0
    while offset < len(data):
        behind = next_record(data, offset)
        start = offset + 1
        while data[start] & 0x80:
            start += 1
        found.append(Event.FromString(data[start + 1 : behind]))
        offset = behind
    return found
