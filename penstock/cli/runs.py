"""`penstock runs`: list, show, watch, steer, cancel and delete runs."""

from __future__ import annotations

import click

from penstock.cli.client import core_flags, json_flag, talk
from penstock.cli.follow import Follower, chosen_view, exit_code
from penstock.cli.messages import show_messages
from penstock.cli.tables import local_time, plain, show_table
from penstock.client import Client
from penstock.flat_json import dumps, enum_names, flat
from penstock.v1.run_pb2 import EndReason, Run, RunState

_STATE_NAMES = enum_names(RunState.DESCRIPTOR)
_REASON_NAMES = enum_names(EndReason.DESCRIPTOR)
STATES = {_STATE_NAMES[state]: state for state in RunState.values() if state != RunState.RUN_STATE_UNSPECIFIED}
ACTIVE = ("queued", "running", "waiting")


@click.group
def runs() -> None:
    """List, show, watch, steer, cancel and delete runs."""


@runs.command("list")
@click.option("--agent", default="", metavar="AGENT", help="Only runs of this agent.")
@click.option("--thread", default="", metavar="THREAD", help="Only runs of this thread.")
@click.option(
    "--state", "states", type=click.Choice(list(STATES)), multiple=True, help="Only runs in this state; repeatable."
)
@click.option("--limit", default=20, show_default=True, help="At most so many.")
@json_flag
@core_flags
def list_runs(agent: str, thread: str, states: tuple[str, ...], limit: int, *, as_json: bool, **given: object) -> None:
    """List runs, newest first."""

    async def conversation(client: Client) -> int:
        chosen = [STATES[state] for state in states]
        found: list[Run] = []
        async for run in client.list(agent_id=agent, thread_id=thread, states=chosen):
            if len(found) == limit:
                break
            found.append(run)
        if as_json:
            _write_json(*found)
        else:
            columns = ("RUN", "AGENT", "STATE", "REASON", "CREATED", "SECONDS", "THREAD")
            show_table(columns, [_row(run) for run in found], when_empty="There are no such runs.")
        return 0

    talk(given, conversation)


@runs.command
@click.argument("run_id", metavar="RUN")
@json_flag
@core_flags
def show(run_id: str, *, as_json: bool, **given: object) -> None:
    """Tell all about a run, and what was said in it so far."""

    async def conversation(client: Client) -> int:
        run, messages = await client.snapshot(run_id)
        if as_json:
            click.echo(dumps(flat(run) | {"messages": [flat(message) for message in messages]}))
        else:
            rows = [(name, plain(value)) for name, value in flat(run).items() if value != {}]
            show_table(("FIELD", "VALUE"), rows, when_empty="")
            show_messages(messages)
        return 0

    talk(given, conversation)


@runs.command
@click.argument("run_id", metavar="RUN")
@click.option("--after", default=0, metavar="SEQ", help="Begin behind this event.")
@json_flag
@core_flags
def watch(run_id: str, after: int, *, as_json: bool, **given: object) -> None:
    """Print a run: what it said so far, then what follows. Ctrl-C stops watching, not the run.

    The exit code is 0 when the run succeeded, 1 when it failed, 130 when it was cancelled or on Ctrl-C.
    """

    async def conversation(client: Client) -> int:
        follower = Follower(chosen_view(as_json=as_json), after=after)
        await follower.show(client.watch(run_id, after=after))
        return exit_code(follower.end or await client.get(run_id))  # nothing follows the last event

    talk(given, conversation)


@runs.command
@click.argument("run_ids", nargs=-1, metavar="[RUN...]")
@click.option("--agent", default="", metavar="AGENT", help="All active runs of this agent.")
@click.option("--thread", default="", metavar="THREAD", help="All active runs of this thread.")
@click.option("--state", "states", type=click.Choice(ACTIVE), multiple=True, help="All runs in this state; repeatable.")
@click.option("--all", "every_one", is_flag=True, help="Really all active runs.")
@json_flag
@core_flags
def cancel(
    run_ids: tuple[str, ...],
    agent: str,
    thread: str,
    states: tuple[str, ...],
    *,
    every_one: bool,
    as_json: bool,
    **given: object,
) -> None:
    """Ask runs to stop: those named, or all that match. Each has a grace time; one that has ended stays as it is."""
    by_what_they_share = bool(agent or thread or states or every_one)
    if bool(run_ids) == by_what_they_share:
        raise click.UsageError("Name runs, or choose them by --agent, --thread, --state or --all.")

    async def conversation(client: Client) -> int:
        chosen = run_ids or await client.cancel_all(
            agent_id=agent, thread_id=thread, states=[STATES[state] for state in states], every_one=every_one
        )
        for run_id in chosen:
            run = await (client.cancel(run_id) if run_ids else client.get(run_id))
            if as_json:
                _write_json(run)
            else:
                click.echo(f"{run.id} is {_STATE_NAMES.get(run.state, 'unknown')}{_wish(run)}")
        return 0

    talk(given, conversation)


@runs.command
@click.argument("run_ids", nargs=-1, required=True, metavar="RUN...")
@click.option("--cancel", "cancels", is_flag=True, help="Cancel active ones first, and wait for their ends.")
@core_flags
def delete(run_ids: tuple[str, ...], *, cancels: bool, **given: object) -> None:
    """Delete runs with their logs, for good. What was said in them stays in their threads."""

    async def conversation(client: Client) -> int:
        for run_id in run_ids:
            await client.delete(run_id, cancel=cancels)
            click.echo(f"{run_id} is deleted")
        return 0

    talk(given, conversation)


@runs.command
@click.argument("run_id", metavar="RUN")
@click.argument("text")
@json_flag
@core_flags
def steer(run_id: str, text: str, *, as_json: bool, **given: object) -> None:
    """Hand a message to a run that is under way. What it does not read before its end becomes a run of its own."""

    async def conversation(client: Client) -> int:
        message = await client.steer(run_id, text)
        click.echo(dumps(flat(message)) if as_json else f"{message.id} is in the inbox of {run_id}")
        return 0

    talk(given, conversation)


def _write_json(*found: Run) -> None:
    for run in found:
        click.echo(dumps(flat(run)))


def _wish(run: Run) -> str:
    is_over = run.HasField("end_time")
    return ", and was asked to stop" if run.cancel_requested and not is_over else ""


def _row(run: Run) -> tuple[str, ...]:
    state = _STATE_NAMES.get(run.state, "unknown")
    reason = _REASON_NAMES.get(run.reason, "unknown") if run.reason else ""
    return run.id, run.agent_id, state, reason, local_time(run.create_time), _seconds(run), run.thread_id


def _seconds(run: Run) -> str:
    """From its start to its end; empty before."""
    if not (run.HasField("start_time") and run.HasField("end_time")):
        return ""
    return f"{(run.end_time.ToNanoseconds() - run.start_time.ToNanoseconds()) / 1e9:.1f}"
