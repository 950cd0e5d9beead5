"""What holds for every command, before its module is imported."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from penstock.cli import COMMANDS
from penstock.grpc_options import EXPERIMENTS

USE = """
import os, sys, click
from penstock.cli import main
assert "grpc" not in sys.modules, "it reads its environment when it is imported"
main.get_command(click.Context(main), {command!r})
assert "grpc" in sys.modules
print(os.environ["GRPC_EXPERIMENTS"])
"""


def used(command: str, given: str | None) -> str:
    """The value with which gRPC is imported for a command, in an environment that gives one or none."""
    environment = {name: value for name, value in os.environ.items() if name != "GRPC_EXPERIMENTS"}
    if given is not None:
        environment["GRPC_EXPERIMENTS"] = given
    script = USE.format(command=command)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - {"up"}))
def test_grpc_is_told_how_to_poll_before_it_is_imported(command: str) -> None:
    assert used(command, None) == EXPERIMENTS


@pytest.mark.parametrize("given", ["", "-my_own_choice"])
def test_whoever_told_grpc_how_to_poll_is_not_overruled(given: str) -> None:
    assert used("worker", given) == given
