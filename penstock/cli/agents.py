"""`penstock agents`."""

from __future__ import annotations

import click

from penstock.cli.client import core_flags, json_flag, talk
from penstock.cli.tables import show_table
from penstock.client import Client
from penstock.flat_json import dumps, flat


@click.command
@json_flag
@core_flags
def agents(*, as_json: bool, **given: object) -> None:
    """List the agents that workers have declared."""

    async def conversation(client: Client) -> int:
        found = [agent async for agent in client.agents()]
        if as_json:
            for agent in found:
                click.echo(dumps(flat(agent)))
            return 0
        rows = [(agent.id, "yes" if agent.online else "no", agent.version, agent.description) for agent in found]
        show_table(
            ("AGENT", "ONLINE", "VERSION", "DESCRIPTION"), rows, when_empty="No worker has declared an agent yet."
        )
        return 0

    talk(given, conversation)
