"""The pages about the command line, held against the command line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from penstock.cli import COMMANDS, main
from penstock.cli.configuration import page
from penstock.cli.settings import PROCESSES
from penstock.settings import TABLES

DOCS = Path(__file__).parents[2] / "docs"

GROUPS = ("runs", "inputs", "threads")


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


def test_the_configuration_page_is_what_the_settings_say() -> None:
    written = (DOCS / "configuration.md").read_text(encoding="utf-8")

    assert written == page(), "run `python -m penstock.cli.configuration > docs/configuration.md`"


def test_every_table_of_the_file_has_its_settings_and_every_setting_a_description() -> None:
    assert sorted(settings.table for settings, _ in PROCESSES) == sorted(TABLES)
    assert [
        f"{settings.table}.{name}"
        for settings, _ in PROCESSES
        for name, field in settings.model_fields.items()
        if not field.description
    ] == []


def test_a_name_that_several_processes_have_means_the_same_to_all() -> None:
    uses = Counter(name for settings, _ in PROCESSES for name in settings.model_fields)

    assert {name for name, processes in uses.items() if processes > 1} == {
        "core",  # where the core is
        "log_json",
        "log_level",
    }


def test_the_page_about_commands_names_them_all() -> None:
    text = (DOCS / "cli.md").read_text(encoding="utf-8")

    named = [" ".join(("penstock", *path)) for path, _ in commands(main) if len(path) > 1 or path[0] not in GROUPS]
    assert [name for name in named if name not in text] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    shown = CliRunner().invoke(main, [command, "--help"])

    assert shown.exit_code == 0, shown.output
    assert shown.output.startswith(f"Usage: main {command} ")


def test_every_flag_of_every_command_has_a_help_text() -> None:
    silent = [
        " ".join((*path, parameter.opts[0]))
        for path, command in commands(main)
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.help
    ]
    assert silent == []
