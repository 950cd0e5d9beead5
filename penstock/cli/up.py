"""`penstock up`: one core, one worker and one edge on this machine, supervised.

Owns the command lines of the three and what a person or a test is told once they serve. How they are kept running is
`supervisor.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from core_service.config import CoreSettings
from edge.config import EdgeSettings
from penstock.cli import announcement, flags
from penstock.cli.apps import DEMO
from penstock.cli.listeners import listeners, reachable, require_free, warn_when_exposed
from penstock.cli.relay import Relay
from penstock.cli.supervisor import Program, Ready, Supervisor
from penstock.cli.variables import warn_of_unknown
from penstock.settings import Settings
from penstock.worker import WorkerSettings

CORE_FLAGS = ("grpc_host", "grpc_port", "data", "database_url", "lease", "metrics_port")
EDGE_FLAGS = ("host", "port")
LOG_FLAGS = ("log_level", "log_json")

MARGIN = 10.0
"""Seconds beyond the time that a process gives itself to stop before it is killed."""

DEFAULTS: Mapping[type[Settings], Mapping[str, object]] = {
    # One machine: a lost worker is noticed sooner, no load balancer needs time to look away, and somebody waits for
    # Ctrl-C to have its effect.
    CoreSettings: {"lease": 10.0},
    EdgeSettings: {"settle": 0.0, "drain": 0.0, "request_grace": 5.0},
    WorkerSettings: {},
}
"""What `up` chooses when nobody set it, by flag, environment or file."""


@dataclass(frozen=True)
class Processes:
    """The three processes as they are to be started."""

    app: str
    core: CoreSettings
    worker: WorkerSettings
    edge: EdgeSettings
    given: Mapping[str, object]

    def programs(self) -> list[Program]:
        """In the order of their start; they are stopped in the reverse order, each with the time it may take."""
        core, worker, edge = self.core, self.worker, self.edge
        worker_stop = worker.run_grace + worker.handler_grace + MARGIN
        edge_stop = edge.settle + edge.drain + edge.request_grace + MARGIN
        after_core = ("core",)
        return [
            Program("core", self.core_command, (), core.log_level, core.drain_timeout + MARGIN),
            Program("worker", self.worker_command, after_core, worker.log_level, worker_stop),
            Program("edge", self.edge_command, after_core, edge.log_level, edge_stop),
        ]

    def core_command(self, ready: Mapping[str, Ready]) -> list[str]:
        """On a restart it takes the port that the others know."""
        port = {"grpc_port": _port(ready["core"].address)} if "core" in ready else {}
        return self._command("core", self.core, port)

    def worker_command(self, ready: Mapping[str, Ready]) -> list[str]:
        """It connects to the core that is ready."""
        return [*self._command("worker", self.worker, {"core": reachable(ready["core"].address)}), "--", self.app]

    def edge_command(self, ready: Mapping[str, Ready]) -> list[str]:
        """It connects to the core that is ready; on a restart it takes the port that clients know."""
        port = {"port": _port(ready["edge"].address)} if "edge" in ready else {}
        return self._command("edge", self.edge, {"core": reachable(ready["core"].address), **port})

    def _command(self, process: str, settings: Settings, chosen: Mapping[str, object]) -> list[str]:
        given = {name: value for name, value in self.given.items() if name in type(settings).model_fields}
        defaults = {
            name: value for name, value in DEFAULTS[type(settings)].items() if name not in settings.model_fields_set
        }
        # The supervisor reads the log, `ready` above all, and shows of it what was asked for.
        log = {"log_json": True, "log_level": "debug" if settings.log_level == "debug" else "info"}
        arguments = flags.command_line(defaults | given | dict(chosen) | log)
        return [sys.executable, "-m", "penstock.cli", process, "--supervised", *arguments]


@click.command
@click.argument("app", default=DEMO)
@flags.of(EdgeSettings, only=EDGE_FLAGS)
@flags.of(CoreSettings, only=CORE_FLAGS, defaults=DEFAULTS[CoreSettings])
@flags.of(Settings, only=LOG_FLAGS)
@click.option(
    "--ready-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write addresses and process ids as JSON to this file whenever all are ready; for tests and scripts.",
)
def up(app: str, ready_file: Path | None, **given: object) -> None:
    """Start core, worker and edge on this machine, and keep them running.

    APP is module:app, path/to/file.py:app or path/to/file.py. Without it: the demo agents. Settings without a flag
    here are read from the environment and penstock.toml. Ctrl-C stops everything, a second one at once.
    """
    if ready_file is not None and not ready_file.parent.is_dir():
        raise click.BadParameter(f"there is no folder {ready_file.parent}", param_hint="--ready-file")
    warn_of_unknown()
    processes = Processes(
        app,
        flags.load(CoreSettings, given),
        flags.load(WorkerSettings, given),
        flags.load(EdgeSettings, given),
        given,
    )
    wanted = [*listeners(processes.core), *listeners(processes.edge)]
    warn_when_exposed(wanted)
    require_free(wanted)
    as_json = flags.load(Settings, given).log_json
    try:
        raise SystemExit(asyncio.run(_supervise(processes, ready_file, as_json=as_json)))
    finally:
        if ready_file is not None:
            ready_file.unlink(missing_ok=True)


async def _supervise(processes: Processes, ready_file: Path | None, *, as_json: bool) -> int:
    programs = processes.programs()
    relay = Relay(sys.stderr, [program.name for program in programs], as_json=as_json)
    greeted = as_json

    def on_ready(ready: Mapping[str, Ready]) -> None:
        nonlocal greeted
        if ready_file is not None:
            announcement.write_ready_file(ready_file, ready)
        relay.say("info", "ready", url=announcement.base_url(ready))
        if not greeted:
            with contextlib.suppress(BrokenPipeError):  # nobody reads it; that stops nothing
                click.echo(announcement.banner(ready, processes.core))
        greeted = True

    return await Supervisor(programs, relay, on_ready=on_ready).run()


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])
