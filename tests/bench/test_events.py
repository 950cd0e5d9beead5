"""Taking a stream apart, counting it, and seeing what is wrong with it."""

from __future__ import annotations

import pytest

from bench.chunked import ChunkedBody
from bench.events import EventCounter, WrongStream
from bench.verification import verify
from tests.bench.sse_server import blocks, chunked, delta, end, run_of

COMMENTS = [b": ping\n\n", b"retry: 1000\n\n"]


def count(frames: list[bytes], *, per_chunk: int = 100) -> EventCounter:
    counter = EventCounter()
    for block in blocks(frames, per_chunk):
        counter.feed(block)
    return counter


def test_a_chunked_body_cut_anywhere_gives_its_payload() -> None:
    pieces = [b"first\r\n", b"", b"x" * 300, b"\r\n0\r\n\r\n"]
    payload, wire = b"".join(pieces), chunked(filter(None, pieces))
    for cut in range(len(wire) + 1):
        body = ChunkedBody()
        assert body.feed(wire[:cut]) + body.feed(wire[cut:]) == payload
        assert body.ended


def test_a_chunked_body_byte_by_byte_gives_its_payload() -> None:
    body = ChunkedBody()
    wire = b"5;name=value\r\nabcde\r\nA\r\n0123456789\r\n0\r\n\r\n"
    assert b"".join(body.feed(bytes([byte])) for byte in wire) == b"abcde0123456789"
    assert body.ended


def test_a_chunk_size_that_is_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        ChunkedBody().feed(b"five\r\nabcde\r\n")


def test_events_are_counted_wherever_the_stream_is_cut() -> None:
    frames = [COMMENTS[1], delta(1), COMMENTS[0], delta(2, "id: 7"), delta(3, r"\nid: 8\n\n"), end(4)]
    stream = b"".join(frames)
    for cut in range(len(stream) + 1):
        counter = EventCounter()
        assert counter.feed(stream[:cut]) + counter.feed(stream[cut:]) == stream
        assert (counter.last_seq, counter.ended) == (4, True)


@pytest.mark.parametrize("per_chunk", [1, 2, 7, 1000])
def test_events_are_counted_however_they_are_coalesced(per_chunk: int) -> None:
    counter = count(run_of(999), per_chunk=per_chunk)
    assert (counter.last_seq, counter.ended) == (1000, True)


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([delta(2)], "1 events behind seq 0 end at seq 2"),
        ([delta(1), delta(3)], "2 events behind seq 0 end at seq 3"),
        ([delta(1), delta(2), delta(2)], "3 events behind seq 0 end at seq 2"),
        ([delta(1), end(2, "failed")], "the run did not succeed: id: 2"),
    ],
)
def test_a_missing_or_repeated_event_or_a_bad_end_is_seen(frames: list[bytes], reason: str) -> None:
    with pytest.raises(WrongStream, match=f"^{reason}"):
        count(frames)
    with pytest.raises(WrongStream):
        count(frames, per_chunk=1)


def test_an_event_behind_the_end_is_seen() -> None:
    counter = count(run_of(1))
    with pytest.raises(WrongStream, match=r"^1 events after run\.ended, which had seq 2$"):
        counter.feed(delta(3))


def test_a_whole_stream_is_verified() -> None:
    assert verify(b"".join([*COMMENTS, *run_of(5)]), deltas=5) == 6


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([delta(1), delta(3), delta(2), end(4)], "ids: expected"),
        ([end(1), delta(2), end(3)], "run.ended at seq: expected"),
        ([delta(1), end(2, "failed")], "its state: expected 'succeeded'"),
        ([delta(1), delta(2), end(3)], "deltas: expected 1, found 2"),
        ([delta(1).replace(b"id: 1", b"id: 2"), end(2)], "seq: expected b'1', found b'2'"),
        ([delta(1).replace(b"event: part.delta", b"event: custom"), end(2)], "type: expected"),
    ],
)
def test_what_counting_cannot_see_is_found_on_a_sample(frames: list[bytes], reason: str) -> None:
    with pytest.raises(WrongStream, match=f"^{reason}"):
        verify(b"".join(frames), deltas=1)
