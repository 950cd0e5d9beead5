from __future__ import annotations

from pathlib import Path
from typing import Literal

import click
import pytest
from click.testing import CliRunner, Result
from pydantic import Field

from penstock.cli import flags
from penstock.settings import Settings


class Reservoir(Settings, table="core"):
    """Settings for these tests."""

    grpc_port: int = Field(50051, ge=0, le=65535, description="A port.")
    lease: float = Field(30.0, gt=0, description="A duration.")
    data: Path = Field(Path(".penstock"), description="A folder.")
    metrics: bool = Field(True, description="A switch.")
    mode: Literal["FULL", "NORMAL"] = Field("FULL", description="A choice.")
    origins: tuple[str, ...] = Field((), description="A list.")
    owner: str | None = Field(None, description="A text that may be missing.")


@click.command
@flags.of(Reservoir)
def show(**given: object) -> None:
    settings = flags.load(Reservoir, given)
    click.echo(" ".join(f"{name}={getattr(settings, name)!r}" for name in sorted(settings.model_fields_set)))
    click.echo(" ".join(flags.command_line(given)))


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(show, arguments)


def test_help_names_flag_kind_variable_and_default_of_each_setting() -> None:
    text = " ".join(invoke("--help").output.split())

    for line in (
        "--log-level debug|info|warning|error",
        "--grpc-port INTEGER A port. [PENSTOCK_GRPC_PORT; default: 50051]",
        "--lease NUMBER A duration. [PENSTOCK_LEASE; default: 30]",
        "--data PATH A folder. [PENSTOCK_DATA; default: .penstock]",
        "--metrics / --no-metrics A switch. [PENSTOCK_METRICS; default: true]",
        "--mode FULL|NORMAL A choice. [PENSTOCK_MODE; default: FULL]",
        "--origins TEXT A list. [PENSTOCK_ORIGINS]",
        "--owner TEXT A text that may be missing. [PENSTOCK_OWNER]",
    ):
        assert line in text


def test_flags_arrive_with_the_types_of_the_settings_and_can_be_given_on() -> None:
    given = [
        "--grpc-port=1",
        "--lease=2.5",
        "--data=x y",
        "--no-metrics",
        "--mode=NORMAL",
        "--origins=a",
        "--origins=b",
    ]

    values, arguments = invoke(*given).output.splitlines()

    assert values == ("data=PosixPath('x y') grpc_port=1 lease=2.5 metrics=False mode='NORMAL' origins=('a', 'b')")
    assert arguments == " ".join(given)


def test_flags_that_were_not_given_set_nothing() -> None:
    assert invoke().output == "\n\n"


def test_a_bad_value_is_a_usage_error_in_the_words_of_the_settings() -> None:
    result = invoke("--mode", "HALF")

    assert result.exit_code == 2
    assert "Error: --mode is 'HALF': Input should be 'FULL' or 'NORMAL'. Set it by --mode, PENSTOCK_MODE or" in (
        result.output
    )
