"""Which foreign pages may call: the setting `cors_origins`, and what it means.

Owns the comparison of origins (RFC 6454). Who is no browser sends none, and is not held up: this protects people from
pages that they visit, not the server from its callers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

ALL = "*"
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/?#@]+")


@dataclass(frozen=True, slots=True)
class Origins:
    """The origins that are let in."""

    named: frozenset[str]
    is_open: bool
    """Every page may call."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the setting. Raises ValueError for what can be no origin."""
        names = {name.strip().rstrip("/").lower() for name in text.split(",") if name.strip()}
        for name in names - {ALL}:
            if not _ORIGIN.fullmatch(name):
                raise ValueError(f"{name} is no origin: write it like https://app.example or http://localhost:3000")
        return cls(frozenset(names - {ALL}), ALL in names)

    def __bool__(self) -> bool:
        return self.is_open or bool(self.named)

    def admit(self, origin: str) -> bool:
        """Tell whether a page of this origin may call."""
        return self.is_open or origin.lower() in self.named


def is_same(origin: str, host: str) -> bool:
    """Tell whether an Origin header names the host that was called."""
    return urlsplit(origin).netloc.lower() == host.lower()
