from __future__ import annotations

import io
import json

import pytest

from penstock.cli.relay import Record, Relay, parse

RECORD = {
    "event": "ready",
    "address": "127.0.0.1:1",
    "process": "core",
    "level": "info",
    "timestamp": "2026-01-02T03:04:05.678901Z",
}


def shown(record: Record, *, as_json: bool = False, level: str = "debug") -> str:
    screen = io.StringIO()
    Relay(screen, ["core", "worker"], as_json=as_json).record("core", record, level=level)
    return screen.getvalue()


def test_a_log_line_is_shown_behind_the_name_of_its_process() -> None:
    line = shown(RECORD)

    assert line.startswith("core   | ")
    assert line.endswith("05.678 [info     ] ready address=127.0.0.1:1\n")


def test_every_line_of_a_traceback_has_the_name_of_its_process() -> None:
    lines = shown({**RECORD, "event": "failed", "exception": "Traceback:\n  1 / 0"}).splitlines()

    assert lines[1:] == ["core   | Traceback:", "core   |   1 / 0"]


def test_other_output_is_shown_as_it_came() -> None:
    screen = io.StringIO()
    Relay(screen, ["core", "worker"]).text("worker", '{"printed": "by an agent"}')

    assert screen.getvalue() == 'worker | {"printed": "by an agent"}\n'


def test_as_json_every_line_is_json() -> None:
    screen = io.StringIO()
    relay = Relay(screen, ["core"], as_json=True)
    relay.record("core", RECORD)
    relay.text("core", "printed")
    relay.say("warning", "core was killed")

    record, text, own = [json.loads(line) for line in screen.getvalue().splitlines()]
    assert record == RECORD
    assert (text["process"], text["event"], text["text"]) == ("core", "output", "printed")
    assert (own["process"], own["level"], own["event"]) == ("up", "warning", "core was killed")


@pytest.mark.parametrize(("level", "is_shown"), [("info", True), ("warning", False)])
def test_lines_below_the_level_are_left_out(level: str, is_shown: bool) -> None:  # noqa: FBT001
    assert bool(shown(RECORD, level=level)) is is_shown


def test_a_stream_that_nobody_reads_any_more_stops_nothing() -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    Relay(Closed(), ["core"]).say("info", "unheard")


@pytest.mark.parametrize("line", ["", "plain", "{", "[1]", '{"event": "without level"}', '{"level": "info"}'])
def test_what_is_no_log_line_is_told_apart(line: str) -> None:
    assert parse(line) is None
