"""The examples, as a reader would run them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.cli.up import BOUND, ROOT, Up, environment, penstock, penstock_up, up_process

EXAMPLES = ROOT / "examples"
FREE_PORTS = {"PENSTOCK_PORT": "0", "PENSTOCK_GRPC_PORT": "0", "PENSTOCK_METRICS_PORT": "0"}


def test_every_example_has_a_test_here() -> None:
    assert {example.name for example in EXAMPLES.iterdir() if example.suffix == ".py"} == {"support.py", "watch.py"}


def test_the_agent_is_served_by_up(tmp_path: Path) -> None:
    with penstock_up(tmp_path, str(EXAMPLES / "support.py")) as up:
        assert up.command("run", "support", "by up").stdout == "You said: by up \n"


def test_the_agent_serves_itself(tmp_path: Path) -> None:
    with up_process([sys.executable, str(EXAMPLES / "support.py")], tmp_path, **FREE_PORTS) as up:
        up.wait_ready()
        core = re.search(r"^core .*\] ready address=(\S+) ", str(up.log), re.MULTILINE)
        assert core is not None
        answer = penstock("run", "support", "by itself", cwd=tmp_path, PENSTOCK_CORE=core[1])

    assert answer.stdout == "You said: by itself \n", answer.stderr


def test_a_run_is_watched(penstock_up: Up) -> None:
    watched = subprocess.run(
        [sys.executable, EXAMPLES / "watch.py", penstock_up.core],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=BOUND,
    )

    assert (watched.stdout, watched.stderr) == ("one log serves every protocol \n", "")
