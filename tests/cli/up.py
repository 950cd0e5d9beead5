"""`penstock up` as a process of its own, on free ports, and the `penstock` commands that talk to it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

PENSTOCK = [sys.executable, "-m", "penstock.cli"]
ROOT = Path(__file__).parents[2]
BOUND = 60.0


class Log:
    """What a process wrote to standard error so far, and a way to wait for more."""

    def __init__(self, stream: IO[str]) -> None:
        self._text = ""
        self._is_over = False
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._reader.start()

    def __str__(self) -> str:
        return self._text

    def shows(self, pattern: str, *, times: int = 1) -> None:
        """Waits until so many lines match."""

        def is_there() -> bool:
            return self._is_over or len(re.findall(pattern, self._text, re.MULTILINE)) >= times

        with self._changed:
            assert self._changed.wait_for(is_there, BOUND), self._text
        assert len(re.findall(pattern, self._text, re.MULTILINE)) >= times, self._text

    def whole(self) -> str:
        """All of it, once the process has closed it."""
        self._reader.join(BOUND)
        return self._text

    def _read(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                with self._changed:
                    self._text += line
                    self._changed.notify_all()
        with self._changed:
            self._is_over = True
            self._changed.notify_all()


@dataclass(frozen=True)
class Up:
    """A running `penstock up`."""

    process: subprocess.Popen[str]
    directory: Path
    log: Log

    def wait_ready(self, *, times: int = 1) -> None:
        """Waits until all processes are ready, for the second time after one was started again."""
        self.log.shows(r"^up +\| .* ready ", times=times)

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by name, as of the last time all were ready."""
        pids: dict[str, int] = self._ready()["pids"]
        return pids

    @property
    def base_url(self) -> str:
        return str(self._ready()["base_url"])

    @property
    def core(self) -> str:
        return str(self._ready()["grpc_address"])

    def command(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Runs a client command against this core."""
        return penstock(*arguments, cwd=self.directory, stdin=stdin, PENSTOCK_CORE=self.core)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Starts a client command against this core."""
        return subprocess.Popen(
            [*PENSTOCK, *arguments],
            cwd=self.directory,
            env=environment(PENSTOCK_CORE=self.core),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _ready(self) -> dict[str, dict[str, int]]:
        ready: dict[str, dict[str, int]] = json.loads((self.directory / "ready.json").read_text(encoding="utf-8"))
        return ready


def environment(**variables: str) -> dict[str, str]:
    """This environment without settings of Penstock, plus `variables`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    return {**inherited, "PYTHONPATH": str(ROOT), **variables}


def penstock(
    *arguments: str, cwd: Path, stdin: str | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Runs the `penstock` command to its end."""
    return subprocess.run(
        [*PENSTOCK, *arguments],
        cwd=cwd,
        env=environment(**variables),
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=BOUND,
    )


@contextmanager
def penstock_up(directory: Path, *arguments: str) -> Iterator[Up]:
    """Starts `penstock up` and waits until it says that all serve."""
    free_ports = ["--port=0", "--grpc-port=0", "--metrics-port=0"]
    command = [*PENSTOCK, "up", *free_ports, "--ready-file=ready.json", *arguments]
    with up_process(command, directory) as up:
        up.wait_ready()
        yield up


@contextmanager
def up_process(command: Sequence[str], directory: Path, **variables: str) -> Iterator[Up]:
    """Starts a command that does what `penstock up` does, and stops it in order."""
    process = subprocess.Popen(
        command,
        cwd=directory,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    up = Up(process, directory, Log(process.stderr))
    process.stderr = None  # `communicate` would read it too
    try:
        yield up
    finally:
        process.terminate()
        process.communicate(timeout=BOUND)
