"""Sortable, unique ids: a prefix, the time and 80 random bits, so that rows of one kind sort by creation."""

from __future__ import annotations

import os
import time

_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32, lower case: no i, l, o, u, and they sort as their values do."""
_PAIRS = [first + second for first in _DIGITS for second in _DIGITS]
_SHIFTS = range(120, -1, -10)  # thirteen pairs of digits are 130 bits, the first two of them zeros


def new_id(prefix: str) -> str:
    """Return `<prefix>_` and 26 characters: 48 bits of Unix milliseconds, then 80 random bits, as a ULID has them."""
    millis = time.time_ns() // 1_000_000
    number = millis << 80 | int.from_bytes(os.urandom(10), "big")
    return f"{prefix}_{''.join([_PAIRS[number >> shift & 1023] for shift in _SHIFTS])}"
