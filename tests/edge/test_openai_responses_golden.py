"""The golden run as responses: the frames of each leg of each variant, the same at every cut, and as one object."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.protocols.openai_responses import ResponsesEncoder
from edge.protocols.openai_responses.leg import Leg
from edge.protocols.openai_responses.response import response
from penstock.v1.event_pb2 import Event
from tests.golden.golden import VARIANTS

LEGS = sorted(
    (name, leg)
    for name, events in VARIANTS.items()
    for leg in [0] + [event.run_resumed.leg for event in events if event.HasField("run_resumed")]
)
"""Every variant, and in each of them every leg."""


def _expected() -> dict[tuple[str, int], list[str]]:
    """Read the frames that are expected: below `== variant leg` a line for each, as `line` writes it."""
    expected: dict[tuple[str, int], list[str]] = {}
    for section in Path(__file__).with_suffix(".txt").read_text(encoding="utf-8").split("== ")[1:]:
        head, *rows = section.splitlines()
        name, leg = head.split()
        expected[name, int(leg)] = [row for row in rows if row]
    return expected


EXPECTED = _expected()


def stream(events: Sequence[Event], leg: int, *, starting_after: int = -1) -> bytes:
    encoder = ResponsesEncoder(leg=leg, starting_after=starting_after)
    return b"".join([encoder.feed(event) for event in events])


def line(frame: str) -> str:
    """Write a frame as one line: number, event, data. Of a response, what a test of its own does not look at."""
    event, data = frame.split("\n")
    fields: dict[str, Any] = json.loads(data.removeprefix("data: "))
    kind = fields.pop("type")
    assert event == f"event: {kind}"
    if "response" in fields:
        shown = fields["response"]
        fields = {key: shown[key] for key in ("id", "status", "error", "incomplete_details") if shown[key]}
        fields["output"] = [item["id"] for item in shown["output"]]
        fields["total_tokens"] = (shown["usage"] or {}).get("total_tokens")
        return f"{json.loads(data[6:])['sequence_number']} {kind} {compact(fields)}"
    return f"{fields.pop('sequence_number')} {kind} {compact(fields)}"


def compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def data(frames: bytes) -> Iterator[dict[str, Any]]:
    for frame in frames.decode().split("\n\n")[:-1]:
        yield json.loads(frame.partition("data: ")[2])


def test_each_leg_of_each_variant_is_expected() -> None:
    assert sorted(EXPECTED) == LEGS


@pytest.mark.parametrize(("name", "leg"), LEGS)
def test_each_leg_has_the_expected_frames(name: str, leg: int) -> None:
    *frames, end = stream(VARIANTS[name], leg).decode().split("\n\n")

    assert [line(frame) for frame in frames] == EXPECTED[name, leg]
    assert end == ""


@pytest.mark.parametrize(("name", "leg"), LEGS)
def test_the_frames_are_the_same_at_every_cut(name: str, leg: int) -> None:
    events = VARIANTS[name]
    whole = stream(events, leg)

    for cut in range(len(events) + 1):
        head = stream(events[:cut], leg)
        assert head + stream(events, leg, starting_after=head.count(b"\n\n") - 1) == whole


@pytest.mark.parametrize(("name", "leg"), LEGS)
def test_every_number_is_a_cursor(name: str, leg: int) -> None:
    events = VARIANTS[name]
    whole = list(data(stream(events, leg)))

    assert [frame["sequence_number"] for frame in whole] == list(range(len(whole)))
    for number in range(len(whole)):
        assert list(data(stream(events, leg, starting_after=number))) == whole[number + 1 :]


@pytest.mark.parametrize(("name", "leg"), LEGS)
def test_a_look_up_shows_what_the_stream_ended_with(name: str, leg: int) -> None:
    shown = Leg(leg)
    for event in VARIANTS[name]:
        shown.feed(event)

    whole = list(data(stream(VARIANTS[name], leg)))

    assert json.loads(msgspec.json.encode(response(shown))) == whole[-1]["response"]


@pytest.mark.parametrize(("name", "leg"), LEGS)
def test_the_final_output_holds_the_items_that_were_done_and_count(name: str, leg: int) -> None:
    whole = list(data(stream(VARIANTS[name], leg)))
    added = {frame["item"]["id"] for frame in whole if frame["type"] == "response.output_item.added"}
    done = {frame["item"]["id"]: frame["item"] for frame in whole if frame["type"] == "response.output_item.done"}

    assert done.keys() == added
    assert all(done[item["id"]] == item for item in whole[-1]["response"]["output"])
