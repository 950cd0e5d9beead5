"""Deliveries of webhooks: the outbox in the database, and the world that they are sent to.

Conventions: `core_service/ports/__init__.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Delivery:
    """A POST that is to be made, in the hands of one core until its lease is over."""

    delivery_id: str
    tenant: str
    run_id: str
    url: str
    attempt: int
    """Counted from 1."""


class WebhookStore(Protocol):
    """The outbox. A delivery is put into it by the end of its run, in the same transaction."""

    async def claim(self, *, limit: int, lease: float) -> Sequence[Delivery]:
        """Take deliveries that are due, longest due first. Nobody else gets them for `lease` seconds.

        Each claim is an attempt, whatever becomes of it.
        """
        ...

    async def delivered(self, delivery: Delivery) -> None:
        """Note success; nothing happens when the delivery was claimed again since."""
        ...

    async def failed(self, delivery: Delivery, error: str, *, retry_in: float | None) -> None:
        """Note a failure: due again in so many seconds, or never. Nothing happens when it was claimed again since."""
        ...


@dataclass(frozen=True, slots=True)
class Response:
    """What became of a POST."""

    status: int | None
    """None: there was no answer, for the reason that `error` says."""
    error: str = ""
    retry_after: float | None = None
    """Seconds for which the receiver does not want to be asked again."""


class WebhookSender(Protocol):
    """Sends POSTs to the addresses of the world."""

    async def check(self, url: str) -> None:
        """Refuse with InvalidArgument a URL whose host is an address that may not be called, has such an address, or is
        not known. A host that cannot be looked up now is let pass: what counts is the check of each connection.
        """
        ...

    async def post(self, url: str, *, headers: Mapping[str, str], body: bytes) -> Response:
        """Make one POST, to an address that may be called. Redirects are not followed. Never raises."""
        ...
