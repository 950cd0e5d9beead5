"""`penstock up` with the real core, worker and edge."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.cli.up import BOUND, Up, penstock, penstock_up, up_process

AGENTS = str(Path(__file__).with_name("agents.py"))


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    with penstock_up(tmp_path, AGENTS) as running:
        yield running


def processes(up: Up) -> list[psutil.Process]:
    return [psutil.Process(pid) for pid in up.pids.values()]


def all_end(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, BOUND)
    return not alive


def test_one_command_serves_and_one_signal_stops_everything(up: Up) -> None:
    with urllib.request.urlopen(f"{up.base_url}/v1/agents", timeout=BOUND) as response:
        assert {agent["id"] for agent in json.load(response)["agents"]} >= {"echo", "endless", "fail"}
    expected = [up.base_url, up.core, str(up.directory / ".penstock")]
    started = processes(up)

    up.process.send_signal(signal.SIGINT)
    banner, _ = up.process.communicate(timeout=BOUND)

    assert up.process.returncode == 0
    assert [text for text in expected if text not in banner] == []
    assert all_end(started)
    assert not (up.directory / "ready.json").exists()
    stops = re.findall(r"^(\w+) .*(?:stopped|drained)$", up.log.whole(), re.MULTILINE)
    assert (stops[0], stops[-1]) == ("edge", "core")


def test_a_killed_core_comes_back_at_its_address_and_serves(up: Up) -> None:
    core, address = up.pids["core"], up.core
    os.kill(core, signal.SIGKILL)

    up.wait_ready(times=2)

    assert up.pids["core"] != core
    assert up.core == address
    assert up.command("run", "echo", "still there").stdout == "still there \n"


def test_nothing_outlives_a_killed_supervisor_and_the_ports_are_free_at_once(up: Up) -> None:
    started = processes(up)
    port = int(up.core.rpartition(":")[2])

    up.process.kill()

    assert all_end(started)
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_a_taken_port_is_told_and_nothing_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = penstock("up", "--grpc-port=0", "--metrics-port=0", cwd=tmp_path, PENSTOCK_PORT=port)

    assert refused.returncode == 1
    assert refused.stderr.startswith(f"Error: 127.0.0.1:{port} is already in use")
    assert "--port or PENSTOCK_PORT" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_app_that_is_not_there_ends_everything(tmp_path: Path) -> None:
    refused = penstock("up", "--port=0", "--grpc-port=0", "--metrics-port=0", "nowhere.py", cwd=tmp_path)

    assert refused.returncode == 1
    assert "worker | Error: There is no file nowhere.py." in refused.stderr
    assert "worker exited with code 1 before it was ready" in refused.stderr
    assert "starts again" not in refused.stderr


def test_an_unknown_key_in_the_file_is_told_and_nothing_starts(tmp_path: Path) -> None:
    (tmp_path / "penstock.toml").write_text("[edge]\nprot = 1\n", encoding="utf-8")

    refused = penstock("up", cwd=tmp_path)

    assert refused.returncode == 2
    assert "penstock.toml: unknown key [edge] prot." in refused.stderr


def test_a_ready_file_without_a_folder_is_refused(tmp_path: Path) -> None:
    refused = penstock("up", "--ready-file=nowhere/ready.json", cwd=tmp_path)

    assert refused.returncode == 2
    assert "there is no folder nowhere" in refused.stderr


def test_an_app_starts_itself_with_the_options_of_up(tmp_path: Path) -> None:
    options = "port=0, grpc_port=0, metrics_port=0, log_json=True, ready_file='ready.json', lease=7.5"
    code = f"from tests.cli.agents import app\nif __name__ == '__main__':\n    app.run({options})\n"
    (tmp_path / "own.py").write_text(code, encoding="utf-8")
    with up_process([sys.executable, "own.py"], tmp_path) as up:
        up.log.shows(r'"event": "ready", "url": ')
        assert up.command("run", "echo", "by itself").stdout == "by itself \n"
        with urllib.request.urlopen(f"{up.base_url}/health", timeout=BOUND) as response:
            assert json.load(response)["status"] == "ok"

    assert [line for line in up.log.whole().splitlines() if not line.startswith("{")] == []


def test_log_lines_are_json_on_request(tmp_path: Path) -> None:
    refused = penstock("up", "--log-json", "--port=0", "--grpc-port=0", "--metrics-port=0", "nowhere.py", cwd=tmp_path)

    lines = [json.loads(line) for line in refused.stderr.splitlines()]
    assert {"core", "worker", "up"} <= {line["process"] for line in lines}
