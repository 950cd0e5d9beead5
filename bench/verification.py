"""The full check of a stream that was kept whole: every frame parsed, every id, every delta."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import msgspec

from bench.events import FRAME_END, WrongStream


class _Data(msgspec.Struct):
    """What is looked at of an event."""

    type: str
    seq: int
    text: str = ""
    state: str = ""


_decode = msgspec.json.Decoder(_Data).decode


def verify(frames: bytes, *, deltas: int) -> int:
    """Check a whole stream from seq 1, and return its number of events. Raises WrongStream.

    A text of more than 64 Ki characters goes on in a new part, and the delta at the border is cut in two.
    """
    events = list(_events(frames))
    _expect("ids", [event.seq for event in events], list(range(1, len(events) + 1)))
    ends = [event.seq for event in events if event.type == "run.ended"]
    _expect("run.ended at seq", ends, [len(events)])
    _expect("its state", events[-1].state, "succeeded")
    types = Counter(event.type for event in events)
    if not deltas <= types["part.delta"] < deltas + max(types["part.started"], 1):
        raise WrongStream(f"deltas: expected {deltas}, found {types['part.delta']}")
    return len(events)


def _events(frames: bytes) -> Iterator[_Data]:
    for frame in frames.split(FRAME_END):
        fields = dict(_field(line) for line in frame.split(b"\n") if b": " in line and not line.startswith(b":"))
        if b"data" not in fields:
            continue  # a comment, a retry hint
        event = _decode(fields[b"data"])
        _expect("type", fields[b"event"], event.type.encode())
        _expect("seq", fields[b"id"], str(event.seq).encode())
        yield event


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b": ")
    return name, value


def _expect(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise WrongStream(f"{what}: expected {_short(expected)}, found {_short(found)}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:100]} … {text[-100:]}"
