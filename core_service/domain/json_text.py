"""JSON as text: checked and made compact, but never read into values, so that numbers and keys stay as written.

The `*_json` fields of the contract hold what `compact` returns (CONTRACT.md 2.1). Knows nothing of what the JSON means.
"""

from __future__ import annotations

import re
from itertools import accumulate

import msgspec

MAX_DEPTH = 64
"""Objects and arrays inside each other; checked before a parser recurses (ENGINE.md L4)."""

# The closing quote is optional and every repeat is possessive: linear on any text, well-formed or not.
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NO_BRACKET = re.compile(r"[^\[\]{}]+")
_CHANGE = {"[": 1, "{": 1, "]": -1, "}": -1}


def compact(text: str) -> str:
    """Return `text` without white space between its tokens. Raises ValueError on anything but one JSON value.

    Refused as well: NaN and Infinity, escaped or raw unpaired surrogates, and more than `MAX_DEPTH` levels.
    """
    if _depth(text) > MAX_DEPTH:
        raise ValueError(f"JSON is nested deeper than {MAX_DEPTH} levels")
    try:
        return msgspec.json.format(text, indent=-1)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise ValueError(f"not valid JSON: {error}") from error


def is_object(compacted: str) -> bool:
    """Tell whether a text made by `compact` is an object."""
    return compacted.startswith("{")


def _depth(text: str) -> int:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return 0  # cannot be too deep, whatever the nesting
    brackets = _NO_BRACKET.sub("", _STRING.sub("", text))
    return max(accumulate(map(_CHANGE.__getitem__, brackets)), default=0)
