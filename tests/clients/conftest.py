"""The JavaScript clients: installed once, run as scripts that print JSON lines."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent / "node"
INSTALLED = FOLDER / "node_modules" / ".installed-lock"
INSTALL_SECONDS = 300.0
SCRIPT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Node:
    """Runs the scripts of `tests/clients/node`."""

    executable: Path

    def command(self, script: str, *arguments: str) -> list[str]:
        """The command line of a script, for tests that start it themselves."""
        return [str(self.executable), str(FOLDER / script), *arguments]

    def run(self, script: str, *arguments: str, timeout: float = SCRIPT_SECONDS) -> list[Any]:
        """Run a script to its end and return the JSON values that it printed."""
        done = subprocess.run(
            self.command(script, *arguments), cwd=FOLDER, capture_output=True, text=True, timeout=timeout
        )
        assert done.returncode == 0, f"{script} failed:\n{done.stdout}\n{done.stderr}"
        return [json.loads(line) for line in done.stdout.split("\n") if line]


@pytest.fixture(scope="session")
def node() -> Node:
    """Node with the clients of package-lock.json. Where there is no npm, the test is skipped and says so."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm here: the JavaScript clients cannot be installed")
    with (FOLDER / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other test runs of this checkout
        wanted = (FOLDER / "package-lock.json").read_text(encoding="utf-8")
        if not INSTALLED.exists() or INSTALLED.read_text(encoding="utf-8") != wanted:
            environment = os.environ | {"npm_config_engine_strict": "false"}
            done = subprocess.run(
                [npm, "ci"], cwd=FOLDER, env=environment, capture_output=True, text=True, timeout=INSTALL_SECONDS
            )
            assert done.returncode == 0, f"npm ci failed:\n{done.stdout}\n{done.stderr}"
            INSTALLED.write_text(wanted, encoding="utf-8")
    return Node(FOLDER / "node_modules" / ".bin" / "node")
