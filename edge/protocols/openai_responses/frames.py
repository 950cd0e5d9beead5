"""The frames of one stream: named, numbered from 0 without gap, and left out up to the client's cursor.

Owns numbers and bytes. It refuses to know what a frame says.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

Template = tuple[bytes, bytes, bytes]
"""What stands before a frame's number, between the number and the piece, and behind."""

_to_json = msgspec.json.Encoder().encode
_NUMBER, _PIECE = msgspec.Raw(b"<#>"), msgspec.Raw(b"<>")  # neither ids nor our own keys have them


class Frames:
    """Counts the frames of a stream and writes those behind the cursor."""

    __slots__ = ("_after", "count")

    def __init__(self, *, after: int) -> None:
        self.count = 0
        """So many frames there were: the number of the next one."""
        self._after = after

    def frame(self, kind: str, fields: Mapping[str, object]) -> bytes:
        """Return the next frame."""
        number = self.count
        self.count += 1
        return frame(kind, fields, number=number) if number > self._after else b""

    def piece(self, template: Template, text: str) -> bytes:
        """Return the next frame, made of a template: nearly all frames are."""
        number = self.count
        self.count += 1
        if number <= self._after:
            return b""
        return b"%b%d%b%b%b" % (template[0], number, template[1], _to_json(text), template[2])


def frame(kind: str, fields: Mapping[str, object], *, number: int) -> bytes:
    """Return a frame with this number."""
    data = _to_json({"type": kind, "sequence_number": number, **fields})
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


def template(kind: str, fields: Mapping[str, object], *, behind: Mapping[str, object] | None = None) -> Template:
    """Return the template of a frame whose `delta` is a piece of text."""
    data = _to_json({"type": kind, "sequence_number": _NUMBER, **fields, "delta": _PIECE, **(behind or {})})
    head, _, rest = data.partition(bytes(_NUMBER))
    middle, _, tail = rest.partition(bytes(_PIECE))
    return b"event: %b\ndata: %b" % (kind.encode(), head), middle, tail + b"\n\n"
