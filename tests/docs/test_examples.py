"""The examples, as a reader would run them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from penstock import Client
from penstock.v1.run_pb2 import RunState
from tests.cli.up import BOUND, ROOT, Up, environment, penstock, penstock_up, up_process

EXAMPLES = ROOT / "examples"
FREE_PORTS = {"PENSTOCK_PORT": "0", "PENSTOCK_GRPC_PORT": "0", "PENSTOCK_METRICS_PORT": "0"}


def test_every_example_has_a_test_here() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    examples = [example.name for example in EXAMPLES.iterdir() if example.suffix == ".py"]

    assert [name for name in examples if f'"{name}"' not in source] == []


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
    assert client("watch.py", penstock_up) == "one log serves every protocol \n"


def client(example: str, up: Up) -> str:
    """What an example prints that calls a running Penstock."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / example, up.core], env=environment(), capture_output=True, text=True, timeout=BOUND
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


async def test_an_approval_is_given(tmp_path: Path) -> None:
    with penstock_up(tmp_path, str(EXAMPLES / "approval.py")) as up:
        async with Client(up.core) as penstock:
            run = await penstock.create("refund", "7")
            assert (await penstock.wait(run.id)).state == RunState.RUN_STATE_WAITING

            assert client("answer.py", up) == 'Refund order 7? {"order":"7"}\n'

            await penstock.wait(run.id)
            _, messages = await penstock.snapshot(run.id)
    assert "".join(part.text.text for message in messages for part in message.parts) == (
        "I would refund this. It is refunded."
    )


def test_steps_are_taken_once_although_the_first_attempt_fails(tmp_path: Path) -> None:
    with penstock_up(tmp_path, str(EXAMPLES / "steps.py")) as up:
        said = up.command("run", "order", "7")

    assert said.stdout == "Order 7. Charging. Receipt R-7, parcel P-7, charged 1 time.\n", said.stderr


def test_an_editor_asks_two_researchers(tmp_path: Path) -> None:
    with penstock_up(tmp_path, str(EXAMPLES / "team.py")) as up:
        said = up.command("run", "editor", "wheels")

    assert said.stdout == (
        "Asking around. There is a lot to say about wheels in the past. "
        "There is a lot to say about wheels in the future. \n"
    ), said.stderr


def test_a_run_is_steered(tmp_path: Path) -> None:
    with penstock_up(tmp_path, str(EXAMPLES / "steering.py")) as up:
        assert re.fullmatch(r"(ahead )+(left )+(right )+and stops\.\n", client("steer.py", up))
