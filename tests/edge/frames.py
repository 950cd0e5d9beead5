"""Reads Server-Sent Events as strictly as the native protocol writes them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import aiohttp

_FRAME = re.compile(r"id: ((?:\d+-)?\d+)\nevent: ([a-z.]+)\ndata: ([^\r\n]+)")
ACCEPT = {"Accept": "text/event-stream"}


@dataclass(frozen=True, slots=True)
class Frame:
    id: str
    """The seq; of a thread's stream the cursor, which ends in it."""
    seq: int
    event: str
    data: Any


class FrameReader:
    """Splits what arrives; anything that is neither a frame, a comment nor a retry hint is an error."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.comments = 0
        self.retries: list[int] = []
        self._rest = ""

    def feed(self, data: bytes) -> None:
        *blocks, self._rest = (self._rest + data.decode()).split("\n\n")
        for block in blocks:
            self._block(block)

    def _block(self, block: str) -> None:
        if block.startswith(":"):
            self.comments += 1
        elif block.startswith("retry: "):
            self.retries.append(int(block.removeprefix("retry: ")))
        else:
            match = _FRAME.fullmatch(block)
            assert match, block
            frame_id, event, data = match.groups()
            self.frames.append(Frame(frame_id, int(frame_id.rpartition("-")[2]), event, json.loads(data)))

    @property
    def seqs(self) -> list[int]:
        return [frame.seq for frame in self.frames]

    @property
    def ids(self) -> list[str]:
        return [frame.id for frame in self.frames]

    @property
    def is_at_border(self) -> bool:
        return not self._rest


async def read(response: aiohttp.ClientResponse, *, until: int | str | None = None) -> FrameReader:
    """Read to the end of the stream, or until the frame with this seq, or this id, is there."""
    reader = FrameReader()
    await read_on(response, reader, until=until)
    return reader


async def read_on(response: aiohttp.ClientResponse, reader: FrameReader, *, until: int | str | None = None) -> None:
    while not _is_there(reader, until):
        chunk = await response.content.readany()
        if not chunk:
            assert until is None, f"the stream ended after {reader.seqs[-1:]}"
            break
        reader.feed(chunk)


def _is_there(reader: FrameReader, until: int | str | None) -> bool:
    if until is None or not reader.frames:
        return False
    return until in reader.ids if isinstance(until, str) else reader.frames[-1].seq >= until
