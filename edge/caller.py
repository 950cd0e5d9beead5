"""Who is calling: what the edge takes from an HTTP request and hands on with every gRPC call made for it.

Owns the context variable that carries it, since a call may be made anywhere below a handler; aiohttp runs each request
in a task of its own. It does not know what the credentials mean: the core decides.
"""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar
from dataclasses import dataclass

REQUEST_ID_HEADER = "X-Request-Id"

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:+/=-]{1,128}")


@dataclass(frozen=True, slots=True)
class Caller:
    """One HTTP request, as the core is told about it."""

    request_id: str = ""
    """Names the request in the logs of edge and core. Not an idempotency key."""
    authorization: str = ""
    """The Authorization header, unread."""

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return it as gRPC metadata."""
        pairs = (("x-request-id", self.request_id), ("authorization", self.authorization))
        return tuple((key, value) for key, value in pairs if value)


NOBODY = Caller()
"""The edge itself, when it calls for no request."""

current: ContextVar[Caller] = ContextVar("penstock_caller", default=NOBODY)


def request_id_from(header: str) -> str:
    """Return the caller's own request id when it can stand in a log line, else a fresh one."""
    return header if _REQUEST_ID.fullmatch(header) else secrets.token_hex(12)


def authorization_from(header: str) -> str:
    """Return the header when it can travel as gRPC metadata (printable ASCII), else nothing: no core could read it."""
    return header if header.isascii() and header.isprintable() else ""
