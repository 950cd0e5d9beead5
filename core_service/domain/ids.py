"""Sortable, unique ids: a prefix, the time and 80 random bits, so that rows of one kind sort by creation."""

from __future__ import annotations

import os
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, lower case: no i, l, o, u


def _encode(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 32)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


def new_id(prefix: str) -> str:
    """Return `<prefix>_` and 26 characters: 48 bits of Unix milliseconds, then 80 random bits, as a ULID has them."""
    millis = time.time_ns() // 1_000_000
    return f"{prefix}_{_encode(millis << 80 | int.from_bytes(os.urandom(10)), 26)}"
