"""What a process will listen on, told from its settings: is it free, and who can reach it.

By convention a setting `host` (or `x_host`) is one half of a listener, `port` (`x_port`) the other, and a false `x`
turns it off.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass

import click

from penstock.settings import Settings, flag_name, variable_name

OPEN_TO_OTHERS = (
    "WARNING: Penstock will listen on {places}, beyond this machine, and there is no authentication yet: "
    "whoever can reach it can run every agent and read every run."
)


@dataclass(frozen=True)
class Listener:
    """An address that will be listened on, and the settings that it comes from."""

    host: str
    port: int
    host_setting: str
    port_setting: str

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def listeners(settings: Settings) -> list[Listener]:
    """All listeners of a process."""
    values: dict[str, object] = settings.model_dump()
    found = []
    for setting, host in values.items():
        stem = setting.removesuffix("host")
        if stem != setting and values.get(stem.removesuffix("_"), True):
            port_setting = stem + "port"
            found.append(Listener(str(host), int(str(values[port_setting])), setting, port_setting))
    return found


def require_free(wanted: Iterable[Listener]) -> None:
    """Ends the command with a message that helps when an address cannot be listened on."""
    for listener in wanted:
        try:
            _try_to_bind(listener)
        except OSError as refused:
            raise click.ClickException(_explanation(listener, refused)) from refused


def warn_when_exposed(wanted: Iterable[Listener]) -> None:
    """Says loudly on standard error what others can reach."""
    places = [str(listener) for listener in wanted if not is_loopback(listener.host)]
    if places:
        click.secho(OPEN_TO_OTHERS.format(places=" and ".join(places)), fg="red", bold=True, err=True)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it. A name other than localhost counts as open."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def reachable(address: str) -> str:
    """The address that this machine connects to when a process said that it listens on `address`."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if host in ("0.0.0.0", "::", ""):
        return f"127.0.0.1:{port}"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _try_to_bind(listener: Listener) -> None:
    for family, kind, protocol, _, address in socket.getaddrinfo(
        listener.host, listener.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    ):
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(address)


def _explanation(listener: Listener, refused: OSError) -> str:
    def remedy(setting: str) -> str:
        return f"{flag_name(setting)} or {variable_name(setting)}"

    if refused.errno == errno.EADDRINUSE:
        return (
            f"{listener} is already in use, perhaps by another Penstock. "
            f"Choose another port with {remedy(listener.port_setting)} (0 takes a free one)."
        )
    if isinstance(refused, socket.gaierror) or refused.errno == errno.EADDRNOTAVAIL:
        return f"{listener.host} is no address of this machine. Set it by {remedy(listener.host_setting)}."
    reason = os.strerror(refused.errno) if refused.errno else str(refused)
    return f"Cannot listen on {listener}: {reason}. See {remedy(listener.port_setting)}."
