"""The flags of `penstock run` that say how the run is to be run: what people set of `RunOptions`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import click

from penstock.cli.durations import FOREVER, DurationType
from penstock.flat_json import enum_names
from penstock.v1.run_pb2 import BusyPolicy, DisconnectPolicy, RetryPolicy, RunOptions

Command = TypeVar("Command", bound=Callable[..., Any])

_BUSY = {name: BusyPolicy.ValueType(number) for number, name in enum_names(BusyPolicy.DESCRIPTOR).items() if number}
_RETRY = {name: RetryPolicy.ValueType(number) for number, name in enum_names(RetryPolicy.DESCRIPTOR).items() if number}

_FLAGS = (
    click.option("--when-busy", type=click.Choice(list(_BUSY)), help="What to do when the thread has an active run."),
    click.option("--timeout", "run_timeout", type=DurationType(), help="End it after so much running time, like 90s."),
    click.option("--queue-timeout", type=DurationType(), help="End it if no worker takes it for so long."),
    click.option("--delay", type=DurationType(), help="Start it so much later."),
    click.option("--priority", type=click.IntRange(-100, 100), default=0, help="Higher ones start first."),
    click.option("--retry", type=click.Choice(list(_RETRY)), help="When a failed attempt is tried again."),
    click.option("--max-attempts", type=click.IntRange(0), default=0, help="Failures after which it ends."),
    click.option("--max-steps", type=click.IntRange(0), default=0, help="Steps of its loop after which it ends."),
    click.option("--token-budget", type=click.IntRange(0), default=0, help="Tokens after which it ends."),
    click.option("--watched-only", is_flag=True, help="Cancel it once nobody watches it any more."),
)


def option_flags(command: Command) -> Command:
    """Add the flags to a command; `take_options` reads them from its arguments."""
    for flag in reversed(_FLAGS):
        command = flag(command)
    return command


def take_options(given: dict[str, Any]) -> RunOptions:
    """Take the flags out of a command's arguments; a usage error ends the command."""
    options = RunOptions(
        busy_policy=_BUSY.get(given.pop("when_busy"), BusyPolicy.BUSY_POLICY_UNSPECIFIED),
        retry_policy=_RETRY.get(given.pop("retry"), RetryPolicy.RETRY_POLICY_UNSPECIFIED),
        **{name: given.pop(name) for name in ("priority", "max_attempts", "max_steps", "token_budget")},
    )
    for name in ("run_timeout", "queue_timeout"):
        duration: timedelta | None = given.pop(name)
        if duration:  # forever is what a run without the option has
            getattr(options, name).FromTimedelta(duration)
    delay: timedelta | None = given.pop("delay")
    if delay is not None:
        if not delay:
            raise click.BadParameter(f"{FOREVER!r} would never start it.", param_hint="--delay")
        options.start_time.FromDatetime(datetime.now(UTC) + delay)
    if given.pop("watched_only"):
        options.on_disconnect = DisconnectPolicy.DISCONNECT_POLICY_CANCEL
    return options
