"""`penstock worker`."""

from __future__ import annotations

import click

from penstock import worker as worker_process
from penstock.cli import flags
from penstock.cli.apps import DEMO, load_app
from penstock.cli.process import begin, supervised_flag


@click.command
@click.argument("app", default=DEMO)
@flags.of(worker_process.WorkerSettings)
@supervised_flag
def worker(app: str, *, supervised: bool, **given: object) -> None:
    """Run a worker: it runs the agents of APP and connects to a core.

    APP is module:app, path/to/file.py:app or path/to/file.py. Without it: the demo agents.
    """
    settings = flags.load(worker_process.WorkerSettings, given)
    begin("worker", settings, supervised=supervised)
    worker_process.main(load_app(app), settings)
