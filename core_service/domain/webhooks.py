"""What a webhook may be, and what is sent to it: a POST that is signed as Standard Webhooks says.

https://www.standardwebhooks.com: the signature covers `id.timestamp.body`; the id is that of the delivery and the same
for each attempt, the timestamp that of the attempt. Nothing here knows how it is sent, nor to which address.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import random
import re
from collections.abc import Mapping, Sequence
from urllib.parse import SplitResult, urlsplit

from core_service.domain.errors import InvalidArgument
from penstock.flat_json import dumps, flat
from penstock.v1.run_pb2 import Run

FIELD = "options.webhook_url"
MAX_URL = 2_048
SECRET_PREFIX = "whsec_"
SECRET_BYTES = range(24, 65)
"""How long a secret is, by the specification."""

GROWTH = 4
"""Each pause is so many times the one before."""
SPREAD = 0.2
"""Pauses are longer or shorter by up to this share, so that what failed together is not repeated together."""

# Printable ASCII, and nothing that parsers of URLs disagree about.
_URL = re.compile(r"[!#-;=?-Z_a-z~%\[\]]+")


def check_url(url: str, *, allow_http: bool) -> None:
    """Refuse what is no absolute http or https URL without a user. Where its host leads is not looked at."""
    if len(url) > MAX_URL:
        raise _refused(f"may have {MAX_URL:,} characters")
    parts = _split(url)
    if parts is None or parts.scheme not in ("https", "http") or not parts.hostname:
        raise _refused("must be a URL like https://example.com/path, in ASCII; the host may be Punycode")
    if parts.scheme == "http" and not allow_http:
        raise _refused("must begin with https://. The server's setting webhook_allow_http allows http://")
    if "@" in parts.netloc:
        raise _refused("must not name a user. The signature tells the receiver who calls")
    if parts.fragment:
        raise _refused("must not have a fragment")


def _split(url: str) -> SplitResult | None:
    if not _URL.fullmatch(url):
        return None
    try:
        parts = urlsplit(url)
        return parts if parts.port != 0 else None
    except ValueError:  # a port beyond 65535, half a bracket
        return None


def _refused(problem: str) -> InvalidArgument:
    return InvalidArgument(f"{FIELD} {problem}.", field=FIELD)


def host_and_port(url: str) -> tuple[str, int]:
    """Return where a checked URL leads."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or {"https": 443, "http": 80}[parts.scheme]


def parse_secrets(text: str) -> tuple[bytes, ...]:
    """Return the keys that a setting holds: `whsec_` and base64, several separated by blanks. Raises ValueError."""
    return tuple(_key(secret, number) for number, secret in enumerate(text.split(), start=1))


def _key(secret: str, number: int) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not secret.startswith(SECRET_PREFIX) or len(key) not in SECRET_BYTES:  # said without the secret
        sizes = f"{SECRET_BYTES.start} to {SECRET_BYTES.stop - 1}"
        raise ValueError(f"secret {number} is not {SECRET_PREFIX} followed by the base64 of {sizes} bytes")
    return key


def body(run: Run) -> bytes:
    """Return what is sent of an ended run: the run as REST shows it."""
    return dumps({"type": "run.ended", "timestamp": run.end_time.ToJsonString(), "data": flat(run)})


def headers(secrets: Sequence[bytes], delivery_id: str, *, now: int, body: bytes) -> Mapping[str, str]:
    """Return the headers of one attempt, `now` in microseconds. Each secret signs: receivers may change over."""
    timestamp = str(now // 1_000_000)
    signed = f"{delivery_id}.{timestamp}.".encode() + body
    return {
        "Content-Type": "application/json",
        "webhook-id": delivery_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{_signature(secret, signed)}" for secret in secrets),
    }


def _signature(secret: bytes, signed: bytes) -> str:
    return base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()


def pause(attempt: int, *, first: float, longest: float) -> float:
    """Return the seconds until the next attempt after one that failed, counted from 1."""
    grown: float = first * GROWTH ** min(attempt - 1, 30)
    return min(grown, longest) * random.uniform(1 - SPREAD, 1 + SPREAD)
