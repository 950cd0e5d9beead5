"""What is said of variables that look like settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.cli.variables import unknown, warn_of_unknown
from tests.cli.up import penstock


def test_settings_of_all_processes_and_the_file_are_known_and_other_prefixes_no_concern() -> None:
    names = ["PENSTOCK_LEASE", "PENSTOCK_PORT", "penstock_run_grace", "PENSTOCK_PATIENCE", "PENSTOCK_CONFIG", "PATH"]

    assert unknown(names) == set()


@pytest.mark.parametrize(
    ("name", "guess"),
    [
        ("PENSTOCK_GRPC_PROT", " Did you mean PENSTOCK_GRPC_PORT?"),
        ("PENSTOCK_DATABASE", " Did you mean PENSTOCK_DATABASE_URL?"),
        ("penstock_loglevel", " Did you mean PENSTOCK_LOG_LEVEL?"),
        ("PENSTOCK_TEAM_NAME", ""),
    ],
)
def test_the_nearest_name_is_told_when_one_is_near(
    name: str, guess: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, "1")

    warn_of_unknown()

    assert f"WARNING: {name} is no setting and changes nothing.{guess}\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["up", "--port=0", "--grpc-port=0", "--metrics-port=0", "nowhere.py"],
        ["worker", "nowhere.py"],
        ["agents", "--core=127.0.0.1:1", "--patience=0"],
    ],
)
def test_commands_say_it_once_and_go_on(command: list[str], tmp_path: Path) -> None:
    ended = penstock(*command, cwd=tmp_path, PENSTOCK_PROT="1")

    assert ended.returncode == 1
    assert ended.stderr.count("Did you mean PENSTOCK_PORT?") == 1
    assert "Error: " in ended.stderr
