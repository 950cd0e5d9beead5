"""Values of agent code as the text that the contract carries: compact JSON, and strings without lone surrogates.

Everything that msgspec knows can be encoded (dataclasses, dates, enums …), and objects with a `model_dump`, as those of
pydantic. It does not know where the text goes.
"""

from __future__ import annotations

import json

import msgspec


def to_json(value: object) -> str:
    """Compact JSON. NaN becomes null. Raises TypeError, ValueError or RecursionError for what JSON cannot say."""
    try:
        return _ENCODER.encode(value).decode()
    except UnicodeEncodeError:
        plain = msgspec.to_builtins(value, enc_hook=_dump)
        return mend(json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":")))


def from_json(text: str) -> object:
    """The value of a JSON text; None for an empty one."""
    value: object = msgspec.json.decode(text) if text else None
    return value


def mend(text: str) -> str:
    """The text with unpaired surrogates replaced by U+FFFD; a pair becomes the character that it stands for."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _dump(value: object) -> object:
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        return dump(mode="json")
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")


_ENCODER = msgspec.json.Encoder(enc_hook=_dump)
