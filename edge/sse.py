"""The one writer of event streams: events of a run or a thread, made frames by an encoder, to one HTTP client.

Owns batching, cursors and how a stream ends. It does not know what frames look like inside: the encoder is a pure fold,
and this module alone touches the response. A slow client slows only itself: what it does not read stays in the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress

import structlog
from aiohttp import web

from edge.core import CoreClient
from edge.encoders import Encoder
from edge.errors import Refusal
from edge.lifeline import watch_of_client
from edge.metrics import METRICS, STARTED
from edge.streams import PING, STREAMS, OpenStream, StreamClosing, Streams
from edge.watch import Batches
from penstock.v1.event_pb2 import Event
from penstock.v1.run_pb2 import Run
from penstock.v1.run_service_pb2 import CreateRunRequest, WatchRunResponse

log = structlog.get_logger(__name__)

MAX_EVENTS = 512
"""Encoded at a time: decoded events take far more memory than their bytes, and a client may stop reading any time."""
SMALL_BYTES = 13 * MAX_EVENTS
"""So many bytes hold at most MAX_EVENTS events: the smallest delta is 13 bytes long, with its tag and length."""
FIRST_ANSWER_SECONDS = 1.0
"""How long the response waits for the core, so that a refusal can still be a status code."""

HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class EventStreamResponse(web.StreamResponse):
    """A response whose headers leave with the first frames, in one packet."""

    _send_headers_immediately = False  # aiohttp's own switch; without it everything works, one system call later


async def stream_run(
    request: web.Request,
    core: CoreClient,
    run_id: str,
    encoder: Encoder,
    *,
    after: int = 0,
    from_start: bool,
    headers: Mapping[str, str] | None = None,
    is_resumable: bool = False,
    comment: bytes = PING,
) -> web.StreamResponse:
    """Answer with the frames of a run's events after a seq, until the encoder or the run has ended.

    `from_start`: the encoder must see all events; those up to `after` are folded and not sent. `is_resumable`: frames
    carry their seq as id, so a client may be sent elsewhere at any time. `comment` is what a silent client gets; none
    where the answer is no event stream. Raises Refusal as long as nothing was sent.
    """
    watch = core.open_watch(run_id, after=0 if from_start else after)
    return await stream(
        request,
        watch,
        encoder,
        after=after,
        from_start=from_start,
        headers=headers,
        is_resumable=is_resumable,
        comment=comment,
    )


async def stream_new_run(
    request: web.Request,
    core: CoreClient,
    create: CreateRunRequest,
    encoder: Encoder,
    *,
    headers: Callable[[Run], Mapping[str, str]],
    is_resumable: bool = False,
    ends_with_client: bool = False,
) -> web.StreamResponse:
    """Create a run and answer with its frames as `stream_run` does, without a call of the core before the watch.

    `headers`: what the response says of the run. `ends_with_client`: see `edge/lifeline.py`.
    """
    async with watch_of_client(core, create, ends_with_client=ends_with_client) as (run, watch):
        said = headers(run)
        del create, run  # an idle stream holds nothing
        return await stream(request, watch, encoder, headers=said, is_resumable=is_resumable)


async def stream(
    request: web.Request,
    watch: Batches,
    encoder: Encoder,
    *,
    after: int = 0,
    from_start: bool = False,
    headers: Mapping[str, str] | None = None,
    is_resumable: bool = False,
    comment: bytes = PING,
) -> web.StreamResponse:
    """Answer with the frames of a watch of which nothing was taken yet, as `stream_run` does. Closes the watch."""
    response = EventStreamResponse(headers={**HEADERS, **(headers or {})})
    if request.method == "HEAD":
        await response.prepare(request)
        return response
    streams = request.app[STREAMS]
    with watch:
        has_news = await first_answer(watch)
        writer = await response.prepare(request)
        assert writer is not None  # only a finished response has none
        opened = OpenStream(request, writer, watch, is_resumable=is_resumable, comment=comment)
        with streams.opened(opened):
            relay = Relay(request, streams, opened, watch, encoder, after)
            await relay.run(has_news=has_news, catches_up=from_start and after > 0)
    return response


async def first_answer(watch: Batches) -> bool:
    """Wait for the core's first word on a watch, but not for long; tell whether it came. Raises its refusal."""
    with suppress(TimeoutError):
        async with asyncio.timeout(FIRST_ANSWER_SECONDS):
            await watch.ready()
            return True
    return False


class Relay:
    """Moves events from their watch through the encoder to the client."""

    __slots__ = ("_after", "_encoder", "_first_event", "_has_begun", "_hint", "_stream", "_streams", "_watch")

    def __init__(
        self,
        request: web.Request,
        streams: Streams,
        stream: OpenStream,
        watch: Batches,
        encoder: Encoder,
        after: int,
    ) -> None:
        self._streams = streams
        self._stream = stream
        self._watch = watch
        self._encoder = encoder
        self._after = after
        self._hint = b"retry: %d\n\n" % round(streams.retry * 1000) if stream.is_resumable else b""
        self._has_begun = False
        self._first_event = _first_event_observer(request)

    async def run(self, *, has_news: bool, catches_up: bool) -> None:
        """Relay until the end, whichever it is. A stream that breaks off ends without a terminal frame."""
        try:
            if catches_up or not has_news:
                await self._begin()
            if catches_up:
                await self._catch_up()
            if not self._encoder.ended:
                await self._relay()
        except StreamClosing:
            await self._send(self._hint, events=0)
        except Refusal as refusal:
            log.warning("stream broke off", watch=self._watch.name, reason=refusal.reason)

    async def _catch_up(self) -> None:
        """Fold up to the cursor, few streams at a time: nothing is sent, so no client can hold the slot."""
        frames = b""
        async with self._streams.catch_ups:
            async for batch in self._watch:
                for piece in cut(batch.events):
                    frames += encode(self._encoder, _decode(piece), self._after)
                    await asyncio.sleep(0)
                if batch.last_seq >= self._after or batch.caught_up:
                    break
        if frames:
            await self._send(frames, events=0)

    async def _relay(self) -> None:
        async for batch in self._watch:
            await self._pass_on(batch.events)
            del batch  # an idle stream holds nothing
            if self._encoder.ended:
                return

    async def _pass_on(self, data: bytes) -> None:
        for piece in cut(data):
            events = _decode(piece)
            frames = encode(self._encoder, events, self._after)
            count = len(events)
            del events  # a slow client must not hold them
            if frames:
                await self._send(frames, events=count)
            if self._encoder.ended:
                return
            if self._stream.is_closing:
                raise StreamClosing
            if count == MAX_EVENTS:
                await asyncio.sleep(0)  # a replay leaves room for others
        await self._begin()

    async def _begin(self) -> None:
        """Show the client the headers, if nothing else did."""
        if not self._has_begun:
            await self._send(b"" if self._hint else self._stream.comment, events=0)

    async def _send(self, frames: bytes, *, events: int) -> None:
        if not self._has_begun:
            self._has_begun = True
            frames = self._hint + frames
        if events and self._first_event is not None:
            self._first_event()
            self._first_event = None
        self._streams.events += events
        self._streams.bytes += len(frames)
        await self._stream.write(frames)


def cut(data: bytes) -> Iterator[bytes]:
    """Cut serialised events (a WatchRunResponse with only field 1) into pieces of at most MAX_EVENTS.

    It walks tags and lengths without decoding: 0.1 µs per event, and only where there may be more than MAX_EVENTS.
    """
    start = end = count = 0
    size = len(data)
    while size - start > SMALL_BYTES:
        while count < MAX_EVENTS and end < size:
            end = _behind_record(data, end)
            count += 1
        yield data[start:end]
        start, count = end, 0
    if start < size:
        yield data[start:] if start else data


def _behind_record(data: bytes, offset: int) -> int:
    length = shift = 0
    while True:
        offset += 1  # from the tag, or the length byte before
        byte = data[offset]
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            return offset + 1 + length
        shift += 7


def encode(encoder: Encoder, events: Sequence[Event], after: int) -> bytes:
    """Fold events and return the frames of those behind the cursor. Stops where the encoder's stream is over."""
    feed, frames = encoder.feed, []
    for event in events:
        frame = feed(event)
        if frame and event.seq > after:
            frames.append(frame)
        if encoder.ended:
            break
    return b"".join(frames)


def _decode(piece: bytes) -> Sequence[Event]:
    return WatchRunResponse.FromString(piece).events


def _first_event_observer(request: web.Request) -> Callable[[], None] | None:
    """What is to be called at the first event of a run that this request created."""
    started = request.get(STARTED)
    if started is None or request.method != "POST":
        return None
    clock = asyncio.get_running_loop().time
    histogram = request.app[METRICS].first_event
    return lambda: histogram.observe(clock() - started)
