"""Bodies of OpenAI's requests: read into a shape, with complaints that name the culprit; the rest is for the agent.

Owns the words of a refusal. Fields that a shape does not have are ignored by it, since OpenAI adds them faster than
anybody follows; they are not lost: `agent_options` passes them on.
"""

from __future__ import annotations

import re
from collections.abc import Container
from typing import TypeVar

import msgspec
from msgspec import Raw

from edge.errors import Refusal
from edge.json_body import compact, refused

THREAD_HEADER = "X-Thread-Id"
"""Names the thread, in requests and in answers."""

IDEMPOTENCY_HEADER = "Idempotency-Key"

T = TypeVar("T")

_COMPLAINT = re.compile(r"(?P<what>.*) - at `\$\.?(?P<path>.*)`")


def read_body(data: Raw, shape: type[T], where: str = "") -> T:
    """Return JSON as an object of that shape. `where` is its place in the body; empty for the body itself."""
    try:
        return msgspec.json.decode(data, type=shape)
    except msgspec.ValidationError as error:
        complaint = _COMPLAINT.fullmatch(str(error))
        what, path = (complaint["what"], complaint["path"]) if complaint else (str(error), "")
        place = _join(where, path)
        raise refused(place, f"{what} at {place}." if place else f"{what}.") from None
    except msgspec.DecodeError:  # a lone surrogate: good syntax, and no text
        raise Refusal(400, "INVALID_JSON", "The body holds text that is not Unicode.") from None


def agent_options(data: Raw, understood: Container[str]) -> str:
    """Return the fields that nobody here understood, for the agent: compact JSON, empty when there are none."""
    fields = msgspec.json.decode(data, type=dict[str, Raw])
    wishes = {name: raw for name, raw in fields.items() if name not in understood and bytes(raw) != b"null"}
    return compact(Raw(msgspec.json.encode(wishes))) if wishes else ""


def _join(where: str, path: str) -> str:
    separator = "." if where and path and not path.startswith("[") else ""
    return where + separator + path
