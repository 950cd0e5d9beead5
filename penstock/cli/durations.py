"""Durations as people write them: `90d`, `12h`, `forever`."""

from __future__ import annotations

import re
from datetime import timedelta

import click

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
FOREVER = "forever"

_FORM = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)([smhdw])")


class DurationType(click.ParamType[timedelta]):
    """A number with a unit, or `forever`, which is no time at all."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Read one."""
        if isinstance(value, timedelta):
            return value
        if value == FOREVER:
            return timedelta(0)
        match = _FORM.fullmatch(str(value))
        if match is None:
            units = ", ".join(f"{unit} ({name})" for unit, name in UNITS.items())
            self.fail(f"{value!r} is no duration: give a number with one of {units}, or {FOREVER}.", param, ctx)
        found = timedelta(**{UNITS[match[2]]: float(match[1])})
        if not found:
            self.fail(f"{value!r} is no time at all; say {FOREVER} if that is meant.", param, ctx)
        return found


def shown(duration: timedelta) -> str:
    """A duration in the largest unit that takes it whole."""
    if not duration:
        return FOREVER
    for unit, name in reversed(UNITS.items()):
        count, rest = divmod(duration, timedelta(**{name: 1}))
        if not rest:
            return f"{count}{unit}"
    return f"{duration.total_seconds():g}s"
