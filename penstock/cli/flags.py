"""Command-line flags made from a settings class: name, type, help text.

It checks no value: that is the settings' own work, so that a flag, a variable and a line in `penstock.toml` are
judged by the same rule and in the same words.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from penstock.settings import Settings, SettingsError, flag_name, variable_name

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
Loaded = TypeVar("Loaded", bound=Settings)


def of(
    settings: type[Settings], *, only: Collection[str] | None = None, defaults: Mapping[str, object] | None = None
) -> Callable[[Decorated], Decorated]:
    """Decorates a command with a flag for each field, or for those named in `only`.

    `defaults` are what the help text tells where the command itself chooses another default than the settings.
    """

    def decorate(command: Decorated) -> Decorated:
        fields = settings.model_fields
        for name in reversed(list(fields) if only is None else list(only)):
            default = as_text((defaults or {}).get(name, default_of(fields[name])))
            command = _option(name, fields[name], default)(command)
        return command

    return decorate


def load(settings: type[Loaded], given: Mapping[str, object]) -> Loaded:
    """The settings with the flags that were given; a bad value ends the command with a usage error."""
    fields = settings.model_fields
    try:
        return settings.load(**{name: value for name, value in given.items() if name in fields and value != ()})
    except SettingsError as bad:
        raise click.UsageError(str(bad)) from bad


def command_line(given: Mapping[str, object]) -> list[str]:
    """The arguments that give these flags again, for a child process. What was not given is left out."""
    arguments: list[str] = []
    for name, value in given.items():
        flag = flag_name(name)
        if isinstance(value, bool):
            arguments.append(flag if value else f"--no-{flag.removeprefix('--')}")
        elif isinstance(value, tuple):
            arguments += [f"{flag}={item}" for item in value]
        elif value is not None:
            arguments.append(f"{flag}={value}")
    return arguments


def kind(field: FieldInfo) -> str:
    """What a value looks like, for help texts: `TEXT`, `INTEGER`, `debug|info` …"""
    plain = _plain_type(field.annotation)
    if get_origin(plain) is Literal:
        return "|".join(str(choice) for choice in get_args(plain))
    if get_origin(plain) in (tuple, list):
        return "TEXT, repeatable"
    return {bool: "BOOLEAN", int: "INTEGER", float: "NUMBER", Path: "PATH"}.get(plain, "TEXT")


def default_of(field: FieldInfo) -> object:
    """The default of a field."""
    default: object = field.get_default(call_default_factory=True, validated_data={})
    return default


def as_text(value: object) -> str:
    """A value as one would write it in a flag; empty for one that says nothing."""
    if value in (None, "", ()):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _option(name: str, field: FieldInfo, default: str) -> Callable[[Decorated], Decorated]:
    flag, looks = flag_name(name), kind(field)
    text = f"{field.description} [{variable_name(name)}{default and f'; default: {default}'}]"
    if looks == "BOOLEAN":
        return click.option(f"{flag}/--no-{flag.removeprefix('--')}", name, default=None, help=text)
    repeatable = looks.endswith("repeatable")
    metavar = looks.split(",")[0] if repeatable else looks
    return click.option(flag, name, default=None, metavar=metavar, multiple=repeatable, help=text)


def _plain_type(annotation: Any) -> Any:  # a type as the programmer wrote it
    """`int | None` is an int that may be left out."""
    if get_origin(annotation) in (Union, types.UnionType):
        return next(choice for choice in get_args(annotation) if choice is not type(None))
    return annotation
