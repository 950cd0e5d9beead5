"""What a process sets up before it hands over to its own `main`."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from penstock.grpc_options import EXPERIMENTS

BEGIN = """
import os
from edge.config import EdgeSettings
from penstock.cli.process import begin
begin("edge", EdgeSettings.load(port=0), supervised=False)
print(os.environ["GRPC_EXPERIMENTS"])
"""


@pytest.mark.parametrize(("given", "used"), [(None, EXPERIMENTS), ("", ""), ("-my_own_choice", "-my_own_choice")])
def test_grpc_polls_as_penstock_wants_unless_it_was_told_how(given: str | None, used: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "GRPC_EXPERIMENTS"}
    if given is not None:
        environment["GRPC_EXPERIMENTS"] = given

    done = subprocess.run([sys.executable, "-c", BEGIN], capture_output=True, text=True, timeout=60, env=environment)

    assert done.stdout.strip() == used, done.stderr
