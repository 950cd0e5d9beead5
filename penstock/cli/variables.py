"""Variables that look like settings and are none.

A misspelt line in `penstock.toml` is refused; a misspelt variable would just not count. It is no error, since whoever
shares this environment may have variables of that prefix for a purpose of their own; but it is said.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Iterable

import click

from penstock.cli.settings import PROCESSES
from penstock.settings import CONFIG_VARIABLE, ENV_PREFIX, variable_name


def warn_of_unknown() -> None:
    """Says loudly on standard error which variables have no effect."""
    for name in sorted(unknown(os.environ)):
        click.secho(f"WARNING: {name} is no setting and changes nothing.{_guess(name)}", fg="red", bold=True, err=True)


def unknown(names: Iterable[str]) -> set[str]:
    """Those that begin as a setting does, and are none. As in the settings themselves, case does not matter."""
    known = _known()
    return {name for name in names if name.upper().startswith(ENV_PREFIX) and name.upper() not in known}


def _guess(name: str) -> str:
    # Without the prefix: by it alone any two of these names are alike.
    rest = {known.removeprefix(ENV_PREFIX): known for known in _known()}
    nearest = difflib.get_close_matches(name.upper().removeprefix(ENV_PREFIX), rest, n=1)
    return f" Did you mean {rest[nearest[0]]}?" if nearest else ""


def _known() -> Collection[str]:
    fields = (name for settings, _ in PROCESSES for name in settings.model_fields)
    return {CONFIG_VARIABLE, *map(variable_name, fields)}
