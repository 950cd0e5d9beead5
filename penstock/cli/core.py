"""`penstock core`."""

from __future__ import annotations

import click

from core_service import app
from core_service.config import CoreSettings
from penstock.cli import flags
from penstock.cli.process import begin, supervised_flag


@click.command
@flags.of(CoreSettings)
@supervised_flag
def core(*, supervised: bool, **given: object) -> None:
    """Run a core: it keeps agents, threads, runs and their log, and hands runs to workers."""
    settings = flags.load(CoreSettings, given)
    begin("core", settings, supervised=supervised)
    app.main(settings)
