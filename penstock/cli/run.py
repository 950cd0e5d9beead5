"""`penstock run`: calls an agent and shows what it says."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import click

from penstock.cli.client import core_flags, json_flag, talk
from penstock.cli.follow import Follower, chosen_view, exit_code
from penstock.cli.run_options import option_flags, take_options
from penstock.client import Client


@click.command
@click.argument("agent")
@click.argument("text", required=False)
@click.option("--input", "json_input", metavar="JSON", help="Give the agent a JSON value instead of a text.")
@click.option("--thread", default="", metavar="THREAD", help="Go on with this thread, or start it under this id.")
@option_flags
@json_flag
@core_flags
def run(agent: str, text: str | None, json_input: str | None, thread: str, *, as_json: bool, **given: Any) -> None:
    """Call AGENT with TEXT and print its answer as it comes. TEXT - reads standard input.

    Ctrl-C cancels the run, a second one does not wait for its end. The exit code is 0 when the run succeeded, 1 when
    it failed, 130 when it was cancelled.
    """
    value = given_input(text, json_input)
    options = take_options(given)

    async def conversation(client: Client) -> int:
        follower = Follower(chosen_view(as_json=as_json))
        creating = asyncio.create_task(client.create(agent, value, thread_id=thread, options=options))
        try:
            created = await asyncio.shield(creating)
            await follower.show(client.watch(created.id))
        except asyncio.CancelledError:  # that is how asyncio.run tells of a Ctrl-C
            _go_on_after_interrupt()
            created = await creating  # it may be under way, and would run on with nobody to stop it
            await client.cancel(created.id)
            await follower.show(client.watch(created.id, after=follower.seq))
        return exit_code(follower.end or await client.get(created.id))

    talk(given, conversation)


def given_input(text: str | None, json_input: str | None) -> object:
    """What the agent is to be given, of which there must be one; a usage error ends the command."""
    if (text is None) == (json_input is None):
        raise click.UsageError("Give the agent either TEXT or --input JSON.")
    if json_input is not None:
        try:
            return json.loads(json_input)
        except ValueError as invalid:
            raise click.BadParameter(f"no JSON: {invalid}", param_hint="--input") from invalid
    return sys.stdin.read() if text == "-" else text


def _go_on_after_interrupt() -> None:
    task = asyncio.current_task()
    assert task is not None, "called in a task"
    task.uncancel()
