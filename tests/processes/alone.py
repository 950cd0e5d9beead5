"""Processes of Penstock one by one, without the supervisor: the test alone kills and starts them."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.cli.up import PENSTOCK, Log, environment

BOUND = 30.0


class Process:
    """One `penstock` process that says `ready` with its address."""

    def __init__(self, *arguments: str, directory: Path) -> None:
        self._process = subprocess.Popen(
            [*PENSTOCK, *arguments], cwd=directory, env=environment(), stderr=subprocess.PIPE, text=True
        )
        assert self._process.stderr is not None
        self.log = Log(self._process.stderr)
        self.log.shows(r"\] ready .*address=")
        found = re.search(r"\] ready .*?address=(\S+)", str(self.log))
        assert found is not None
        self.address = found.group(1)

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._process.kill()
        self._process.wait(BOUND)

    def stop(self) -> int:
        """SIGTERM, and wait until it has stopped in order. Returns its exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(BOUND)

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None


class Alone:
    """The processes of one test; the core keeps its port and its database over its lives."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._port = "0"
        self._started: list[Process] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in reversed(self._started):
            if process.is_running:
                process.kill()

    def core(self, *, lease: float) -> Process:
        """Start the core, or start it again."""
        core = self._start("core", f"--grpc-port={self._port}", "--no-metrics", f"--lease={lease}")
        self._port = core.address.rpartition(":")[2]
        return core

    def worker(self, app: Path) -> Process:
        """Start a worker."""
        return self._start("worker", f"{app}:app", f"--core=127.0.0.1:{self._port}")

    def edge(self) -> Process:
        """Start an edge on a port of its own."""
        return self._start("edge", "--port=0", f"--core=127.0.0.1:{self._port}", "--settle=0", "--drain=0")

    def _start(self, *arguments: str) -> Process:
        process = Process(*arguments, directory=self._directory)
        self._started.append(process)
        return process
