"""Sends webhooks over HTTP with aiohttp, to public addresses only unless told otherwise.

The address is checked where it is used: as the socket for it is made. So it does not matter what a name meant a moment
ago, nor how an address was written in the URL. No proxy of the environment is asked, and no redirect followed: both
would lead elsewhere.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version

import aiohttp
from yarl import URL

from core_service.domain.addresses import is_public
from core_service.domain.errors import InvalidArgument
from core_service.domain.webhooks import FIELD, host_and_port
from core_service.ports import Response

LOOK_UP_SECONDS = 2.0
"""How long a create waits to hear where a host leads."""
MAX_RETRY_AFTER = 86_400
_UNKNOWN_HOST = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})

_Address = tuple[int, int, int, str, tuple[object, ...]]
"""As of `getaddrinfo`; aiohttp hands one to whoever makes its sockets."""


class AddressRefused(OSError):
    """This address may not be called."""


class AiohttpSender:
    """Implements `ports.WebhookSender`; the contract of each method stands there. Use `open_sender`."""

    def __init__(self, session: aiohttp.ClientSession, *, allow_private: bool) -> None:
        self._session = session
        self._allow_private = allow_private

    async def check(self, url: str) -> None:
        if self._allow_private:
            return
        host, port = host_and_port(url)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(LOOK_UP_SECONDS):
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (TimeoutError, UnicodeError):
            return
        except socket.gaierror as error:
            if error.errno not in _UNKNOWN_HOST:
                return
            raise InvalidArgument(f"{FIELD}: there is no host {host[:80]}.", field=FIELD) from error
        if not all(is_public(str(address[0])) for *_, address in found):
            raise InvalidArgument(
                f"{FIELD}: {host[:80]} leads to an address that is not public. "
                "The server's setting webhook_allow_private allows these.",
                field=FIELD,
            )

    async def post(self, url: str, *, headers: Mapping[str, str], body: bytes) -> Response:
        try:
            # Encoded already: what was checked is what is called.
            async with self._session.post(
                URL(url, encoded=True), data=body, headers=headers, allow_redirects=False
            ) as answer:
                return Response(answer.status, retry_after=_retry_after(answer.headers))
        except TimeoutError:
            return Response(None, "There was no answer in time.")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Response(None, f"{type(error).__name__}: {error}")


@asynccontextmanager
async def open_sender(*, allow_private: bool, timeout: float) -> AsyncIterator[AiohttpSender]:
    """Send while the context is open. `timeout` is that of one POST, from the look-up of its host to its answer."""
    connector = aiohttp.TCPConnector(limit=0, socket_factory=_any_socket if allow_private else _public_socket)
    session = aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=timeout),
        headers={"User-Agent": f"penstock/{version('penstock')}"},
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
    )
    async with session:
        yield AiohttpSender(session, allow_private=allow_private)


def _any_socket(address: _Address) -> socket.socket:
    family, kind, protocol, _, _ = address
    return socket.socket(family, kind, protocol)


def _public_socket(address: _Address) -> socket.socket:
    ip = str(address[4][0])
    if not is_public(ip):
        raise AddressRefused(errno.EACCES, f"{ip} is not a public address")
    return _any_socket(address)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a receiver asks for; it may also name a time, which is not read."""
    text = headers.get("Retry-After", "")
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return float(min(int(text), MAX_RETRY_AFTER))
    return None
