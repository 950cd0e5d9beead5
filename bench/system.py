"""The system under test: a core, a worker and an edge, children of the bench, on free ports of loopback."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.databases import Database
from bench.requests import Edge
from penstock.cli.apps import DEMO
from penstock.cli.flags import command_line

CORE = {"grpc_port": 0, "metrics_port": 0}
WORKER = {"concurrency": 20_000, "run_grace": 0, "handler_grace": 0}
EDGE = {"port": 0, "settle": 0, "drain": 0, "request_grace": 0}
STOP_ORDER = ("edge", "worker", "core")
READY_WITHIN = 20.0
STOP_WITHIN = 3.0
LOOK_AGAIN = 0.02
SHOWN_LINES = 12


class SystemFailed(Exception):
    """A process of the system did not start, or ended by itself."""


@dataclass(frozen=True)
class System:
    """A system that serves."""

    edge: Edge
    core: str
    """host:port of its gRPC server."""
    processes: Mapping[str, psutil.Process]
    """The three, and that of the database when it has one."""


@dataclass(frozen=True)
class _Child:
    name: str
    process: subprocess.Popen[bytes]
    log: Path

    async def address(self) -> str:
        """Where it serves, once it says so."""
        deadline = time.monotonic() + READY_WITHIN
        while time.monotonic() < deadline and self.process.poll() is None:
            for record in _records(self.log):
                if record.get("event") == "ready":
                    return str(record["address"])
            await asyncio.sleep(LOOK_AGAIN)
        code = self.process.poll()
        what = f"was not ready within {READY_WITHIN:g} s" if code is None else f"ended with {code}"
        raise self.failure(what)

    def failure(self, what: str) -> SystemFailed:
        """Say it, with the end of the log."""
        said = self.log.read_text(errors="replace").splitlines()[-SHOWN_LINES:]
        return SystemFailed("\n".join([f"the {self.name} {what}; its log ends:", *said]))


@asynccontextmanager
async def running(
    database: Database, folder: Path, core_settings: Mapping[str, object], *, app: str = DEMO
) -> AsyncIterator[System]:
    """Run a system on the database while the context is open. Each process logs to a file of its own in the folder."""
    children: list[_Child] = []
    try:
        core = _start(children, folder, "core", {**CORE, **database.core_settings, **core_settings})
        core_address = await core.address()
        worker = _start(children, folder, "worker", {**WORKER, "core": core_address}, "--", app)
        edge = _start(children, folder, "edge", {**EDGE, "core": core_address})
        await worker.address()
        edge_address = await edge.address()
        processes = {child.name: psutil.Process(child.process.pid) for child in children}
        yield System(Edge.at(edge_address), core_address, {**processes, **database.processes})
        _require_alive(children)
    finally:
        _stop(children)


def complaints(folder: Path) -> list[str]:
    """Return the warnings and errors in the logs of all systems that run, or ran, in this folder."""
    return [
        f"{log.stem}: {json.dumps(record)}"
        for log in sorted(folder.glob("*.log"))
        for record in _records(log)
        if record.get("level") not in ("debug", "info")
    ]


def _environment() -> dict[str, str]:
    """Ours without `PENSTOCK_*`: the bench measures what it says it does."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}


def _start(children: list[_Child], folder: Path, name: str, settings: Mapping[str, object], *arguments: str) -> _Child:
    flags = command_line({"log_json": True, **settings})
    lives = len(list(folder.glob(f"{name}-*.log")))
    log = folder / f"{name}-{lives + 1}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "penstock.cli", name, "--supervised", *flags, *arguments],
            cwd=folder,
            env=_environment(),
            stdin=subprocess.PIPE,  # its end, even by SIGKILL of the bench, ends the child
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for the bench; it stops its children itself
        )
    children.append(_Child(name, process, log))
    return children[-1]


def _records(log: Path) -> Iterator[dict[str, object]]:
    for line in log.read_text(errors="replace").splitlines():
        if line.startswith("{") and line.endswith("}"):
            yield json.loads(line)


def _require_alive(children: Sequence[_Child]) -> None:
    for child in children:
        code = child.process.poll()
        if code is not None:
            raise child.failure(f"ended with {code}")


def _stop(children: Sequence[_Child]) -> None:
    """Stop the edge first and the core last, so that nobody misses a process that was there."""
    for child in sorted(children, key=lambda child: STOP_ORDER.index(child.name)):
        child.process.terminate()
        try:
            child.process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()
        assert child.process.stdin is not None
        child.process.stdin.close()
