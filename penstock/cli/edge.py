"""`penstock edge`."""

from __future__ import annotations

import click

from edge import app
from edge.config import EdgeSettings
from penstock.cli import flags
from penstock.cli.process import begin, supervised_flag


@click.command
@flags.of(EdgeSettings)
@supervised_flag
def edge(*, supervised: bool, **given: object) -> None:
    """Run an edge: it speaks HTTP with clients, and gRPC with a core."""
    settings = flags.load(EdgeSettings, given)
    begin("edge", settings, supervised=supervised)
    app.main(settings)
