"""Rows on standard output: a table for people, tab-separated lines for programs that read text."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC

import click
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.table import Table
from rich.text import Text

from penstock.flat_json import dumps

STATE_STYLES = {"running": "cyan", "waiting": "yellow", "succeeded": "green", "failed": "red", "cancelled": "dim"}


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, when_empty: str) -> None:
    """Shows the rows. `when_empty` is said to people instead of an empty table."""
    if not sys.stdout.isatty():
        for row in (columns, *rows):
            click.echo("\t".join(" ".join(cell.split()) for cell in row))
        return
    if not rows:
        click.echo(when_empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=STATE_STYLES.get(cell, "")) for cell in row))
    Console().print(table)


def local_time(time: Timestamp) -> str:
    """An instant as the clock on the wall shows it."""
    return f"{time.ToDatetime(UTC).astimezone():%Y-%m-%d %H:%M:%S}"


def plain(value: object) -> str:
    """A value of `flat` in one cell: text as it is, the rest as JSON."""
    return value if isinstance(value, str) else dumps(value).decode()
