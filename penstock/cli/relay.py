"""Shows the output of several children as one log: who said it, then what.

Children write their log as JSON lines; those are rendered here, or passed on as they are. Everything else (a print
in an agent, a traceback at import) is shown as it came. Nothing is decided here.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TextIO

import click

from penstock.logs import console_renderer

SUPERVISOR = "up"
COLOURS = ("cyan", "magenta", "yellow", "green", "blue")

Record = Mapping[str, object]
"""One line of a child's log."""


def parse(line: str) -> Record | None:
    """The log line as an object; None when it is something else."""
    if not line.startswith("{"):
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and "event" in record and "level" in record else None


class Relay:
    """Writes to one stream. That nobody reads it any more, as after `| head`, stops nothing."""

    def __init__(self, stream: TextIO, names: Sequence[str], *, as_json: bool = False) -> None:
        colours = stream.isatty()
        self._stream = stream
        self._as_json = as_json
        self._render = console_renderer(colours=colours)
        self._prefixes = dict(_prefixes([*names, SUPERVISOR], colours=colours))

    def record(self, name: str, record: Record, *, level: str = "debug") -> None:
        """Shows a line of the log of `name` when it is at least as severe as `level`."""
        levels = logging.getLevelNamesMapping()
        if levels.get(str(record["level"]).upper(), logging.INFO) < levels[level.upper()]:
            return
        if self._as_json:
            self._write(json.dumps(record, ensure_ascii=False))
        else:
            self._write_prefixed(name, self._for_people(record))

    def text(self, name: str, line: str) -> None:
        """Shows something that `name` wrote beside its log."""
        if self._as_json:
            self._write(json.dumps(_record(name, "info", "output", text=line), ensure_ascii=False))
        else:
            self._write_prefixed(name, line)

    def say(self, level: str, event: str, **fields: object) -> None:
        """Shows a line of the supervisor's own."""
        self.record(SUPERVISOR, _record(SUPERVISOR, level, event, **fields))

    def _for_people(self, record: Record) -> str:
        # The prefix tells the process, and who looks at a terminal knows the day.
        shown = {key: value for key, value in record.items() if key != "process"}
        shown["timestamp"] = _local_time(str(record.get("timestamp", "")))
        return str(self._render(None, "", shown))

    def _write_prefixed(self, name: str, text: str) -> None:
        self._write("\n".join(self._prefixes[name] + line for line in text.split("\n")))

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._stream.write(text + "\n")
            self._stream.flush()


def _prefixes(names: Sequence[str], *, colours: bool) -> Iterator[tuple[str, str]]:
    width = max(map(len, names))
    for number, name in enumerate(names):
        prefix = f"{name:<{width}} | "
        yield name, click.style(prefix, fg=COLOURS[number % len(COLOURS)]) if colours else prefix


def _record(process: str, level: str, event: str, **fields: object) -> Record:
    timestamp = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return {"event": event, **fields, "process": process, "level": level, "timestamp": timestamp}


def _local_time(timestamp: str) -> str:
    try:
        return datetime.fromisoformat(timestamp).astimezone().strftime("%H:%M:%S.%f")[:-3]
    except ValueError:
        return timestamp
