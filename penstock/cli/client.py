"""What the commands that talk to a core have in common: where it is, how refusals are told, what Ctrl-C means."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

import click

from penstock import logs
from penstock.cli import flags
from penstock.cli.settings import ClientSettings
from penstock.cli.variables import warn_of_unknown
from penstock.client import Client
from penstock.errors import PenstockError, Unavailable

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

INTERRUPTED = 130
"""The exit code of a command that Ctrl-C ended, as shells count: 128 + SIGINT."""


def core_flags(command: Decorated) -> Decorated:
    """Adds the flags of the client settings: above all where the core is."""
    return flags.of(ClientSettings)(command)


def json_flag(command: Decorated) -> Decorated:
    """Adds the flag for output that programs read."""
    return click.option("--json", "as_json", is_flag=True, help="Write JSON lines, in the form of the REST API.")(
        command
    )


def talk(given: Mapping[str, object], conversation: Callable[[Client], Coroutine[None, None, int]]) -> None:
    """Runs a conversation with the core, and ends the command with the exit code that it returns."""
    warn_of_unknown()
    settings = flags.load(ClientSettings, given)
    logs.configure("client", level=settings.log_level, json=settings.log_json)

    async def converse() -> int:
        async with Client(settings.core, patience=settings.patience) as client:
            return await conversation(client)

    try:
        code = asyncio.run(converse())
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Unavailable as gone:
        raise click.ClickException(_unavailable(gone, settings.core)) from gone
    except PenstockError as refused:
        raise click.ClickException(_with_reason(refused)) from refused
    raise SystemExit(code)


def _unavailable(gone: Unavailable, core: str) -> str:
    if gone.reason:  # a core answered
        return _with_reason(gone)
    return f"No core answers at {core}. Start one with `penstock up`, or name another with --core or PENSTOCK_CORE."


def _with_reason(refused: PenstockError) -> str:
    return f"{refused.message.rstrip('.')} ({refused.reason})." if refused.reason else refused.message
