"""AG-UI events as SSE frames: one JSON object behind `data: `, and two line feeds.

The client splits on these alone, so CRLF and `id:` lines have no place here. It throws on a null in a field that it
knows, so what is None is left out.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

PIECE = msgspec.Raw(b"<>")
"""Marks where the piece stands in the template of a delta. Ids, which stand before it, have no such characters."""

to_json = msgspec.json.Encoder().encode


def frame(kind: str, fields: Mapping[str, object]) -> bytes:
    """Return one event."""
    return b"data: " + to_json({"type": kind, **given(fields)}) + b"\n\n"


def template(kind: str, fields: Mapping[str, object]) -> tuple[bytes, bytes]:
    """Return what stands before and behind the piece of a delta, which is nearly all that a stream consists of."""
    before, _, behind = frame(kind, fields).partition(bytes(PIECE))
    return before, behind


def given(fields: Mapping[str, object]) -> dict[str, object]:
    """Return the fields that have a value."""
    return {name: value for name, value in fields.items() if value is not None}
