"""`penstock schedules`: list, create, pause, resume and delete schedules."""

from __future__ import annotations

import click

from penstock.cli.client import core_flags, json_flag, talk
from penstock.cli.run import given_input
from penstock.cli.tables import local_time, show_table
from penstock.client import Client
from penstock.flat_json import dumps, flat
from penstock.v1.run_pb2 import RunOptions
from penstock.v1.schedule_pb2 import Schedule


@click.group
def schedules() -> None:
    """List, create, pause, resume and delete schedules: runs by the clock."""


@schedules.command("list")
@click.option("--agent", default="", metavar="AGENT", help="Only schedules of this agent.")
@json_flag
@core_flags
def list_schedules(agent: str, *, as_json: bool, **given: object) -> None:
    """List schedules, newest first."""

    async def conversation(client: Client) -> int:
        found = [schedule async for schedule in client.schedules(agent_id=agent)]
        if as_json:
            _write_json(*found)
        else:
            columns = ("SCHEDULE", "AGENT", "CRON", "TIME ZONE", "NEXT", "LAST", "LAST RUN", "NAME")
            show_table(columns, [_row(schedule) for schedule in found], when_empty="There are no schedules.")
        return 0

    talk(given, conversation)


@schedules.command
@click.argument("cron")
@click.argument("agent")
@click.argument("text", required=False)
@click.option("--input", "json_input", metavar="JSON", help="Give the agent a JSON value instead of a text.")
@click.option("--time-zone", default="", metavar="ZONE", help="IANA name, like Europe/Berlin; UTC without it.")
@click.option("--name", default="", metavar="TEXT", help="A line for people.")
@click.option("--thread", default="", metavar="THREAD", help="The thread of its runs; without it each has its own.")
@click.option("--webhook", default="", metavar="URL", help="Who is told when one of its runs has ended.")
@json_flag
@core_flags
def create(
    cron: str,
    agent: str,
    text: str | None,
    json_input: str | None,
    time_zone: str,
    name: str,
    thread: str,
    webhook: str,
    *,
    as_json: bool,
    **given: object,
) -> None:
    """Call AGENT with TEXT whenever CRON says so: minute, hour, day of month, month, day of week.

    For example: penstock schedules create "0 9 * * MON-FRI" echo "good morning" --time-zone Europe/Berlin
    """
    value = given_input(text, json_input)
    options = RunOptions(webhook_url=webhook) if webhook else None

    async def conversation(client: Client) -> int:
        created = await client.create_schedule(
            cron, agent, value, time_zone=time_zone, name=name, thread_id=thread, options=options
        )
        _tell(created, as_json=as_json)
        return 0

    talk(given, conversation)


@schedules.command
@click.argument("schedule_id", metavar="SCHEDULE")
@json_flag
@core_flags
def pause(schedule_id: str, *, as_json: bool, **given: object) -> None:
    """Stop a schedule: it makes no runs until it is resumed."""

    async def conversation(client: Client) -> int:
        _tell(await client.pause_schedule(schedule_id), as_json=as_json)
        return 0

    talk(given, conversation)


@schedules.command
@click.argument("schedule_id", metavar="SCHEDULE")
@json_flag
@core_flags
def resume(schedule_id: str, *, as_json: bool, **given: object) -> None:
    """Continue a schedule from now on."""

    async def conversation(client: Client) -> int:
        _tell(await client.resume_schedule(schedule_id), as_json=as_json)
        return 0

    talk(given, conversation)


@schedules.command
@click.argument("schedule_ids", nargs=-1, required=True, metavar="SCHEDULE...")
@core_flags
def delete(schedule_ids: tuple[str, ...], **given: object) -> None:
    """Delete schedules; their runs stay."""

    async def conversation(client: Client) -> int:
        for schedule_id in schedule_ids:
            await client.delete_schedule(schedule_id)
            click.echo(f"{schedule_id} is deleted")
        return 0

    talk(given, conversation)


def _write_json(*found: Schedule) -> None:
    for schedule in found:
        click.echo(dumps(flat(schedule)))


def _tell(schedule: Schedule, *, as_json: bool) -> None:
    if as_json:
        _write_json(schedule)
    else:
        click.echo(f"{schedule.id} is {_next(schedule)}")


def _next(schedule: Schedule) -> str:
    if schedule.paused:
        return "paused"
    return f"due at {local_time(schedule.next_time)}" if schedule.HasField("next_time") else "over"


def _row(schedule: Schedule) -> tuple[str, ...]:
    return (
        schedule.id,
        schedule.agent_id,
        schedule.cron,
        schedule.time_zone or "UTC",
        _next(schedule).removeprefix("due at "),
        local_time(schedule.last_time) if schedule.HasField("last_time") else "",
        schedule.last_run_id or schedule.last_refusal,
        schedule.name,
    )
