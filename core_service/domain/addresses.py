"""Which addresses of the internet anybody may be sent to: those that are not our own network's."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

_NAT64 = IPv6Network("64:ff9b::/96")
"""RFC 6052: an IPv4 address in the last 32 bits."""


def is_public(address: str) -> bool:
    """Tell whether an IP address is a global unicast one, also as the IPv4 address that an IPv6 one stands for.

    Private, loopback, link-local, multicast, reserved and documentation addresses are not (IANA's registries of
    special-purpose addresses, as `ipaddress` knows them). What is no address is not, either.
    """
    try:
        ip = ip_address(address.partition("%")[0])  # without the zone of a link-local one
    except ValueError:
        return False
    if isinstance(ip, IPv6Address):
        ip = _embedded(ip) or ip
    is_special = ip.is_multicast or ip.is_reserved or (isinstance(ip, IPv6Address) and ip.is_site_local)
    return ip.is_global and not is_special


def _embedded(ip: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address to which a packet for this one is carried in the end; None: it stands for itself."""
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFF_FFFF)
    return ip.ipv4_mapped or ip.sixtofour
