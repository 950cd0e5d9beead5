"""What native clients say in the query and the headers: pages, cursors, keys, and which answer they want.

Owns the strict reading of them: a value that cannot be used, or a parameter that nobody reads, is a refusal that names
it.
"""

from __future__ import annotations

import re

from aiohttp import web

from edge.errors import Refusal

MAX_INT32 = 2**31 - 1
_DIGITS = re.compile(r"[0-9]{1,10}")
_SECONDS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,9})?")
_KEY = re.compile(r"[!-~]{1,128}")
_THREAD_CURSOR = re.compile(r"[!-~]{1,64}")


def only(request: web.Request, *names: str, prefix: str | None = None) -> None:
    """Refuse parameters that are not read here, and those given twice."""
    for name in request.query:
        if name not in names and not (prefix and name.startswith(prefix)):
            raise _refused(name, f"There is no query parameter {name}; there are: {', '.join(names) or 'none'}.")
        if len(request.query.getall(name)) > 1:
            raise _refused(name, f"The query parameter {name} is given twice.")


def integer(request: web.Request, name: str) -> int:
    """Return a whole number, 0 when it is not given."""
    text = request.query.get(name, "")
    if not text:
        return 0
    number = _number(text)
    if number is None:
        raise _refused(name, f"{name} must be a whole number from 0 to {MAX_INT32}.")
    return number


def seconds(request: web.Request, name: str, *, most: float) -> float | None:
    """Return a duration, None when it is not given."""
    text = request.query.get(name)
    if text is None:
        return None
    if not _SECONDS.fullmatch(text) or float(text) > most:
        raise _refused(name, f"{name} must be a number of seconds from 0 to {most:g}.")
    return float(text)


def cursor(request: web.Request) -> int:
    """Return the seq after which a client wants events. The header is newer than the URL when a browser reconnects."""
    header = request.headers.get("Last-Event-ID")
    name, text = ("Last-Event-ID", header) if header else ("after", request.query.get("after", "0"))
    number = _number(text)
    if number is None:
        raise Refusal(400, "INVALID_CURSOR", f"{name} must be the id of an event: a whole number.", field=name)
    return number


def thread_cursor(request: web.Request) -> str:
    """Return the cursor after which a client wants a thread's events, as the core gave it; empty: from the start."""
    header = request.headers.get("Last-Event-ID")
    name, text = ("Last-Event-ID", header) if header else ("after", request.query.get("after", ""))
    if text and not _THREAD_CURSOR.fullmatch(text):
        raise Refusal(400, "INVALID_CURSOR", f"{name} must be the id of an event of this stream.", field=name)
    return text


def flag(request: web.Request, name: str) -> bool:
    """Return whether something is asked for; false when it is not given."""
    text = request.query.get(name, "false")
    if text not in ("true", "false"):
        raise _refused(name, f"{name} must be true or false.")
    return text == "true"


def idempotency_key(request: web.Request) -> str:
    """Return the key that makes a repeat harmless, empty when there is none."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not _KEY.fullmatch(key):
        message = "Idempotency-Key must be 1 to 128 printable ASCII characters without spaces."
        raise Refusal(400, "INVALID_IDEMPOTENCY_KEY", message, field="Idempotency-Key")
    return key or ""


def wants_stream(request: web.Request) -> bool:
    """Tell whether the client asks for Server-Sent Events."""
    return "text/event-stream" in request.headers.get("Accept", "")


def _number(text: str) -> int | None:
    return int(text) if _DIGITS.fullmatch(text) and int(text) <= MAX_INT32 else None


def _refused(name: str, message: str) -> Refusal:
    return Refusal(400, "INVALID_ARGUMENT", message, field=name)
