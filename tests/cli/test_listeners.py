from __future__ import annotations

import socket
from pathlib import Path

import click
import pytest
from pydantic import Field

from penstock.cli.listeners import Listener, is_loopback, listeners, reachable, require_free, warn_when_exposed
from penstock.settings import Settings


class Valve(Settings, table="core"):
    """Settings for these tests."""

    host: str = Field("127.0.0.1", description="One address.")
    port: int = Field(0, description="One port.")
    metrics_host: str = Field("127.0.0.1", description="Another address.")
    metrics_port: int = Field(9464, description="Another port.")
    metrics: bool = Field(True, description="Whether the second listener is there.")


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_listeners_are_found_by_the_names_of_the_settings() -> None:
    assert listeners(Valve.load()) == [
        Listener("127.0.0.1", 0, "host", "port"),
        Listener("127.0.0.1", 9464, "metrics_host", "metrics_port"),
    ]
    assert [listener.port_setting for listener in listeners(Valve.load(metrics=False))] == ["port"]


def test_a_taken_port_is_refused_with_the_flag_that_changes_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(click.ClickException) as refused:
            require_free(listeners(Valve.load(metrics_port=port)))

    assert refused.value.message == (
        f"127.0.0.1:{port} is already in use, perhaps by another Penstock. Choose another port with "
        "--metrics-port or PENSTOCK_METRICS_PORT (0 takes a free one)."
    )


def test_a_port_of_a_connection_that_just_ended_counts_as_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = server.accept()
            accepted.close()

    require_free([Listener("127.0.0.1", port, "host", "port")])


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_of_another_machine_is_refused(host: str) -> None:
    with pytest.raises(click.ClickException) as refused:
        require_free([Listener(host, 0, "host", "port")])

    assert refused.value.message == f"{host} is no address of this machine. Set it by --host or PENSTOCK_HOST."


def test_what_others_can_reach_is_said_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    warn_when_exposed(listeners(Valve.load(host="0.0.0.0", port=80)))

    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("WARNING: Penstock will listen on 0.0.0.0:80, beyond this machine")
    assert "no authentication" in output.err


def test_nothing_is_said_of_loopback(capsys: pytest.CaptureFixture[str]) -> None:
    warn_when_exposed(listeners(Valve.load(host="::1", metrics_host="localhost")))

    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "localhost"])
def test_loopback_is_known(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org"])
def test_everything_else_counts_as_open(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("address", "expected"),
    [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "127.0.0.1:1"), ("127.0.0.1:1", "127.0.0.1:1"), ("::1:1", "[::1]:1")],
)
def test_an_address_for_all_is_reached_by_loopback(address: str, expected: str) -> None:
    assert reachable(address) == expected
