"""The body of an HTTP/1.1 response in chunks (RFC 9112, section 7.1), taken apart as it comes."""

from __future__ import annotations

LINE_END = b"\r\n"


class ChunkedBody:
    """Feed it what the socket gives; it gives what the chunks carry. Trailers are not read."""

    __slots__ = ("_behind", "_left", "_rest", "ended")

    def __init__(self) -> None:
        self.ended = False
        self._left = 0  # of the chunk that is being read
        self._behind = 0  # length of the line end that closes the chunk before
        self._rest = b""  # part of a size line

    def feed(self, data: bytes) -> bytes:
        """Return the payload in these bytes. Raises ValueError when a size is not hexadecimal."""
        if self._rest:
            data, self._rest = self._rest + data, b""
        pieces = []
        at = 0
        while not self.ended:
            if self._left:
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if self._left:
                    break
            behind = self._read_size(data, at)
            if behind == 0:
                self._rest = data[at:]
                break
            at = behind
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read_size(self, data: bytes, at: int) -> int:
        """Read a size line; return where it ends, or 0 when it is not complete."""
        start = at + self._behind
        end = data.find(LINE_END, start)
        if end < 0:
            return 0
        self._left = int(data[start:end].partition(b";")[0], 16)
        self._behind = len(LINE_END)
        self.ended = self._left == 0
        return end + len(LINE_END)
