"""The bench as a whole, against the real system, with sizes that say nothing about speed."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from bench import databases, markdown, system
from bench.databases import Database
from bench.runner import run_scenarios
from bench.scenarios import SCENARIOS
from bench.sizes import Sizes
from bench.system import SystemFailed
from bench.targets import TARGETS

ROOT = Path(__file__).parents[2]
BOUND = 100.0


class InTheMiddle(Exception):
    """Something goes wrong in a scenario."""


TINY = Sizes(
    warm_up=0.1,
    burst_seconds=0.2,
    burst_clients=3,
    burst_deltas=200,
    paced_runs=20,
    paced_ramp=0.1,
    paced_seconds=0.5,
    first_event_runs=3,
    rested_runs=2,
    short_seconds=0.2,
    short_connections=3,
    idle_streams=20,
    replay_deltas=15_000,
    replay_seconds=0.1,
    answers=3,
)


@pytest.mark.parametrize("name", ["paced_50", "idle", "replay"])
async def test_a_scenario_measures_what_the_report_knows(name: str) -> None:
    async with asyncio.timeout(BOUND):
        with databases.sqlite() as sqlite:
            [result] = await run_scenarios(sqlite, [name], TINY, on_result=lambda _: None)

    assert result.failure == ""
    assert result.complaints == []
    assert result.figures.keys() == {figure for figure in TARGETS if figure.startswith(f"{name}.")}
    # Memory of so few streams may as well shrink.
    assert all(value > 0 for figure, value in result.figures.items() if not figure.startswith("idle.kib"))


def test_every_figure_of_the_report_belongs_to_a_scenario() -> None:
    assert {figure.partition(".")[0] for figure in TARGETS} == SCENARIOS.keys()


async def test_the_command_prints_tables_and_writes_json_for_both_stores(tmp_path: Path) -> None:
    path = tmp_path / "results" / "bench.json"
    command = ["-m", "bench", "--quick", "--store", "both", "--only", "burst", "--json", str(path)]
    async with asyncio.timeout(BOUND):
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        output, errors = await process.communicate()

    assert process.returncode == 0, (output + errors).decode()
    assert "burst: events delivered" in output.decode()
    report = json.loads(path.read_text())
    assert report["command"][:3] == ["python", *command[:2]]
    assert report["settings"]["sqlite"]["synchronous"] == "FULL"
    assert report["settings"]["postgresql"]["fsync"] == "on"
    assert {"machine", "versions", "revision", "time"} <= report.keys()
    assert [(result["store"], result["scenario"]) for result in report["results"]] == [
        ("sqlite", "burst"),
        ("postgresql", "burst"),
    ]
    sqlite, postgresql = (result["measurement"]["cpu_micros"] for result in report["results"])
    assert sqlite.keys() == {"core", "worker", "edge", "client"}
    assert postgresql.keys() == sqlite.keys() | {"postgres"}

    tables = CliRunner().invoke(markdown.main, [str(path)]).output
    assert tables.count("\n| burst: events delivered | ") == 2
    assert "\n| cores | " in tables


async def test_no_process_is_left_behind_an_error(tmp_path: Path) -> None:
    processes: list[psutil.Process] = []

    async def fail_in_the_middle(database: Database) -> None:
        async with asyncio.timeout(BOUND), system.running(database, tmp_path, {}) as serving:
            processes.extend(serving.processes.values())
            raise InTheMiddle

    with databases.sqlite() as sqlite, sqlite.new(tmp_path) as database, pytest.raises(InTheMiddle):
        await fail_in_the_middle(database)

    assert len(processes) == 3
    assert not any(process.is_running() for process in processes)


async def test_a_process_that_does_not_start_says_why(tmp_path: Path) -> None:
    reason = r"(?s)^the core ended with 2; its log ends:.*--lease is '-1'"
    with databases.sqlite() as sqlite, sqlite.new(tmp_path) as database, pytest.raises(SystemFailed, match=reason):
        async with asyncio.timeout(BOUND), system.running(database, tmp_path, {"lease": -1}):
            raise AssertionError("it started")
    assert list(tmp_path.glob("edge-*.log")) == []
