"""Settings, with real files and a real environment."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from core_service.config import CoreSettings
from penstock.settings import TABLES, Settings, SettingsError


class Reservoir(Settings, table="core"):
    """Settings for these tests."""

    grpc_port: int = Field(50051, ge=0, le=65535, description="A port.")
    lease: float = Field(30.0, gt=0, description="A duration.")
    database_url: str = Field("", description="A text.")


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("PENSTOCK_CONFIG", *(f"PENSTOCK_{field.upper()}" for field in Reservoir.model_fields)):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def write_config(text: str, path: str = "penstock.toml") -> None:
    Path(path).write_text(text, encoding="utf-8")


def refusal(**flags: object) -> str:
    with pytest.raises(SettingsError) as refused:
        Reservoir.load(**flags)
    return str(refused.value)


def test_without_anything_the_defaults_hold() -> None:
    settings = Reservoir.load()

    assert (settings.grpc_port, settings.lease, settings.log_level, settings.log_json) == (50051, 30.0, "info", False)
    assert settings.model_fields_set == set()


def test_a_flag_beats_the_environment_which_beats_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    write_config("[core]\ngrpc_port = 1\n")
    assert Reservoir.load().grpc_port == 1

    monkeypatch.setenv("PENSTOCK_GRPC_PORT", "2")
    assert Reservoir.load().grpc_port == 2

    assert Reservoir.load(grpc_port="3").grpc_port == 3


def test_a_flag_of_none_and_an_empty_variable_count_as_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    write_config("[core]\ngrpc_port = 1\n")
    monkeypatch.setenv("PENSTOCK_GRPC_PORT", "")

    assert Reservoir.load(grpc_port=None).grpc_port == 1


def test_what_was_set_can_be_told_from_what_is_default(monkeypatch: pytest.MonkeyPatch) -> None:
    write_config("[core]\nlease = 30\n")
    monkeypatch.setenv("PENSTOCK_GRPC_PORT", "50051")

    assert Reservoir.load().model_fields_set == {"lease", "grpc_port"}


def test_the_file_may_be_named_and_lie_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere.toml"
    write_config("[core]\nlease = 7\n", str(elsewhere))
    monkeypatch.setenv("PENSTOCK_CONFIG", str(elsewhere))

    assert Reservoir.load().lease == 7


def test_tables_of_other_processes_are_none_of_our_business() -> None:
    write_config("".join(f"[{table}]\nport = 1\n" for table in TABLES if table != "core"))

    assert Reservoir.load().model_fields_set == set()


def test_a_bad_variable_names_flag_variable_and_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_GRPC_PORT", "70000")

    assert refusal() == (
        "PENSTOCK_GRPC_PORT is '70000': Input should be less than or equal to 65535. "
        "Set it by --grpc-port, PENSTOCK_GRPC_PORT or [core] grpc_port in penstock.toml."
    )


def test_a_bad_flag_is_named_first() -> None:
    assert refusal(lease="soon").startswith("--lease is 'soon': Input should be a valid number")


def test_a_bad_line_is_named_first() -> None:
    write_config('[core]\nlog_level = "loud"\n')

    assert refusal().startswith("[core] log_level in penstock.toml is 'loud': Input should be 'debug', 'info'")


def test_all_bad_values_are_told_at_once() -> None:
    assert [line.split()[0] for line in refusal(lease=0, grpc_port="x").splitlines()] == ["--grpc-port", "--lease"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "[core]\ngrpc_prot = 1\n",
            "penstock.toml: unknown key [core] grpc_prot. Known: log_level, log_json, grpc_port",
        ),
        ("[croe]\ngrpc_port = 1\n", "penstock.toml: unknown table croe. Known: core, edge, worker, client, protocols."),
        ("grpc_port = 1\n", "penstock.toml: unknown table grpc_port."),
        ("core = 1\n", "penstock.toml: `core` must be a table: [core]."),
        ("[core\n", "penstock.toml cannot be read: "),
    ],
)
def test_a_file_with_something_unknown_is_refused(text: str, complaint: str) -> None:
    write_config(text)

    assert refusal().startswith(complaint)


def test_a_named_file_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_CONFIG", "nowhere.toml")

    assert refusal() == "PENSTOCK_CONFIG names nowhere.toml, which is not a file."


def test_a_secret_that_cannot_be_used_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_WEBHOOK_SECRET", "whsec_tooshort")

    with pytest.raises(SettingsError) as refused:
        CoreSettings.load()

    assert str(refused.value).startswith("PENSTOCK_WEBHOOK_SECRET is a secret: Value error, secret 1 is not whsec_")
    assert "tooshort" not in str(refused.value)


def test_a_secret_is_not_shown_with_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_WEBHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")

    assert "MfKQ9r8" not in repr(CoreSettings.load())
