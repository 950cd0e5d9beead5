"""`penstock retention`: show, set and delete policies of how long things are kept."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import click
from google.protobuf.duration_pb2 import Duration

from penstock.cli.client import core_flags, json_flag, talk
from penstock.cli.durations import DurationType
from penstock.cli.durations import shown as shown_duration
from penstock.cli.tables import show_table
from penstock.client import Client
from penstock.flat_json import dumps, flat
from penstock.v1.retention_service_pb2 import RetentionPolicy

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

ALL = "(all agents)"


def agent_option(command: Decorated) -> Decorated:
    """Adds the option that says whose policy is meant."""
    text = "Whose policy; without it, that of all agents that have none."
    return click.option("--agent", default="", metavar="AGENT", help=text)(command)


@click.group
def retention() -> None:
    """Show, set and delete policies: how long things are kept after the end of a run."""


@retention.command
@json_flag
@core_flags
def show(*, as_json: bool, **given: object) -> None:
    """Show all policies, that of all agents first. What none of them says, the server's settings say."""

    async def conversation(client: Client) -> int:
        found = [policy async for policy in client.retention()]
        if as_json:
            for policy in found:
                click.echo(dumps(flat(policy)))
        else:
            columns = ("AGENT", "EVENTS", "MESSAGES", "RUNS")
            show_table(columns, [_row(policy) for policy in found], when_empty="There are no policies.")
        return 0

    talk(given, conversation)


@retention.command("set")
@agent_option
@click.option("--events", type=DurationType(), help="How long events are kept, like 30d; after that no replay.")
@click.option("--messages", type=DurationType(), help="How long messages stay in their threads.")
@click.option("--runs", type=DurationType(), help="How long runs are kept, with all that is left of them.")
@json_flag
@core_flags
def set_policy(
    agent: str,
    events: timedelta | None,
    messages: timedelta | None,
    runs: timedelta | None,
    *,
    as_json: bool,
    **given: object,
) -> None:
    """Set or replace a policy. Durations are like 90d, 12h or forever.

    What is not given is left to the policy of all agents, and there to the server's settings.
    """
    if events is None and messages is None and runs is None:
        raise click.UsageError("Give at least one of --events, --messages and --runs.")

    async def conversation(client: Client) -> int:
        policy = await client.set_retention(agent, events=events, messages=messages, runs=runs)
        if as_json:
            click.echo(dumps(flat(policy)))
        else:
            show_table(("AGENT", "EVENTS", "MESSAGES", "RUNS"), [_row(policy)], when_empty="")
        return 0

    talk(given, conversation)


@retention.command
@agent_option
@core_flags
def delete(agent: str, **given: object) -> None:
    """Delete a policy."""

    async def conversation(client: Client) -> int:
        await client.delete_retention(agent)
        click.echo(f"The policy of {agent or 'all agents'} is deleted")
        return 0

    talk(given, conversation)


def _row(policy: RetentionPolicy) -> tuple[str, ...]:
    def kept(field: str, duration: Duration) -> str:
        return shown_duration(duration.ToTimedelta()) if policy.HasField(field) else ""  # type: ignore[arg-type]

    return (
        policy.agent_id or ALL,
        kept("keep_events", policy.keep_events),
        kept("keep_messages", policy.keep_messages),
        kept("keep_runs", policy.keep_runs),
    )
