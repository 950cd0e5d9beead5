"""The outbox of webhooks. Implements `ports.WebhookStore`; what puts deliveries into it is `changes.py`.

A claim moves the time at which a delivery is due behind its lease: that is the whole lock. What became of it is noted
by compare-and-set on the attempt, so that a core that was too slow changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import case, literal_column, select, update

from core_service.adapters.sql.rows import MICROS
from core_service.adapters.sql.schema import IS_TO_DELIVER, webhooks
from core_service.adapters.sql.statements import count, given, integer, now, text
from core_service.adapters.sql.transaction import Database, Row
from core_service.ports import Delivery

TO_DELIVER, DELIVERED, GIVEN_UP = 0, 1, 2
MAX_ERROR = 300
"""Characters of a failure that are kept."""

_c = webhooks.c
_DUE = (
    select(_c.delivery_id)
    .where(IS_TO_DELIVER, _c.next_time <= now())
    .order_by(_c.next_time)
    .limit(count("limit"))
    .with_for_update(skip_locked=True)
)
CLAIM = (
    update(webhooks)
    .where(_c.delivery_id.in_(_DUE))
    .values(attempts=_c.attempts + literal_column("1"), next_time=now() + integer("lease"))
    .returning(_c.delivery_id, _c.tenant, _c.run_id, _c.url, _c.attempts)
)
_is_attempt = (_c.delivery_id == text("delivery"), IS_TO_DELIVER, _c.attempts == integer("attempt"))
NOTE_DELIVERED = (
    update(webhooks)
    .where(*_is_attempt)
    .values(state=literal_column(str(DELIVERED)), delivered=now(), last_error=literal_column("''"))
)
NOTE_FAILED = (
    update(webhooks)
    .where(*_is_attempt)
    .values(
        state=case((integer("retry_in") < literal_column("0"), literal_column(str(GIVEN_UP))), else_=_c.state),
        next_time=now() + integer("retry_in"),
        last_error=given(_c.last_error),
    )
)


class SqlWebhooks:
    """Implements `ports.WebhookStore`; the contract of each method stands there."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, *, limit: int, lease: float) -> Sequence[Delivery]:
        micros = round(lease * MICROS)
        return await self._database.write(
            lambda tx: [_to_delivery(row) for row in tx.rows(CLAIM, limit=limit, lease=micros)]
        )

    async def delivered(self, delivery: Delivery) -> None:
        await self._database.write(
            lambda tx: tx.do(NOTE_DELIVERED, delivery=delivery.delivery_id, attempt=delivery.attempt)
        )

    async def failed(self, delivery: Delivery, error: str, *, retry_in: float | None) -> None:
        micros = -1 if retry_in is None else round(retry_in * MICROS)
        kept = error.replace("\0", "").encode(errors="replace").decode()[:MAX_ERROR]
        await self._database.write(
            lambda tx: tx.do(
                NOTE_FAILED,
                delivery=delivery.delivery_id,
                attempt=delivery.attempt,
                retry_in=micros,
                last_error=kept,
            )
        )


def _to_delivery(row: Row) -> Delivery:
    return Delivery(*row)
