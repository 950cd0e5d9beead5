"""The `penstock` command: which commands there are, and nothing of what they do.

A command's module is imported when the command is used, so that a client command loads no database library, and that
gRPC is told before how to poll: it listens only while it is imported.
"""

from __future__ import annotations

import importlib
import os

import click

from penstock.grpc_options import EXPERIMENTS

COMMANDS = {
    "up": "penstock.cli.up:up",
    "core": "penstock.cli.core:core",
    "edge": "penstock.cli.edge:edge",
    "worker": "penstock.cli.worker:worker",
    "run": "penstock.cli.run:run",
    "agents": "penstock.cli.agents:agents",
    "runs": "penstock.cli.runs:runs",
    "threads": "penstock.cli.threads:threads",
    "inputs": "penstock.cli.inputs:inputs",
    "schedules": "penstock.cli.schedules:schedules",
    "retention": "penstock.cli.retention:retention",
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        os.environ.setdefault("GRPC_EXPERIMENTS", EXPERIMENTS)
        module, _, name = COMMANDS[cmd_name].partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="penstock", prog_name="penstock")
def main() -> None:
    """Serves agents: every call is a durable, resumable run.

    `penstock up` starts everything on this machine. Each option can also be set in the environment or in
    penstock.toml; docs/configuration.md lists them all.
    """
