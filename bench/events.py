"""A run's SSE stream, counted and checked as it comes, without parsing its events.

Per block of whole frames two things are taken: how many ids it has, and the last of them. They agree only when nothing
is missing and nothing came twice. What cancels out in that, and wrong content, `verification.py` finds on a sample.
"""

from __future__ import annotations

FIRST_ID = b"id: "
NEXT_ID = b"\nid: "
FRAME_END = b"\n\n"
RUN_ENDED = b"\nevent: run.ended\n"
SUCCEEDED = b'"state":"succeeded"'


class WrongStream(Exception):
    """A stream that is not what the log guarantees: an event missing, repeated, or no good end."""


class EventCounter:
    """Feed it the body of one stream that starts at seq 1."""

    __slots__ = ("_rest", "ended", "last_seq")

    def __init__(self) -> None:
        self.last_seq = 0
        self.ended = False
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """Return the whole frames that these bytes complete. Raises WrongStream."""
        if self._rest:
            data, self._rest = self._rest + data, b""
        end = data.rfind(FRAME_END) + len(FRAME_END)
        if end < len(FRAME_END):
            self._rest = data
            return b""
        if end < len(data):
            data, self._rest = data[:end], data[end:]
        count = data.count(NEXT_ID) + data.startswith(FIRST_ID)
        if count:
            self._take(data, count)
        return data

    def _take(self, frames: bytes, count: int) -> None:
        if self.ended:
            raise WrongStream(f"{count} events after run.ended, which had seq {self.last_seq}")
        last = frames.rfind(NEXT_ID) + 1  # 0 when the only id is the first
        last_seq = int(frames[last + len(FIRST_ID) : frames.index(b"\n", last)])
        if last_seq != self.last_seq + count:
            raise WrongStream(f"{count} events behind seq {self.last_seq} end at seq {last_seq}")
        self.last_seq = last_seq
        if frames.find(RUN_ENDED, last) >= 0:
            self.ended = True
            if frames.find(SUCCEEDED, last) < 0:
                raise WrongStream(f"the run did not succeed: {frames[last:].decode(errors='replace').strip()}")
