"""Sortable, unique ids: a prefix, the time and 80 random bits, so that rows of one kind sort by creation."""

from __future__ import annotations

import base64
import os
import time

# From RFC 4648's base 32 to Crockford's, lower case (no i, l, o, u), whose digits sort as their values do.
_TO_CROCKFORD = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", b"0123456789abcdefghjkmnpqrstvwxyz")
_PADDING = bytes(4)  # 4 + 6 + 10 bytes are 32 whole digits, the first six of them zeros


def new_id(prefix: str) -> str:
    """Return `<prefix>_` and 26 characters: 48 bits of Unix milliseconds, then 80 random bits, as a ULID has them."""
    millis = time.time_ns() // 1_000_000
    digits = base64.b32encode(_PADDING + millis.to_bytes(6) + os.urandom(10)).translate(_TO_CROCKFORD)
    return f"{prefix}_{digits[6:].decode()}"
