"""Repeated requests: one change per key (ENGINE.md, H), in the transaction of the change itself."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert

from core_service.adapters.sql.rows import MICROS
from core_service.adapters.sql.schema import idempotency
from core_service.adapters.sql.statements import all_given, count, given, integer, now, text
from core_service.adapters.sql.transaction import Row, Transaction, check_text
from core_service.domain.errors import IdempotencyMismatch
from core_service.ports import RequestKey

_columns = idempotency.c
_IS_KEY = (
    _columns.tenant == text("tenant"),
    _columns.operation == text("operation"),
    _columns.key == text("key"),
)

# An expired row counts as absent: it is written over. PostgreSQL lets a second insert wait for the first one's commit.
_FRESH = {"expires": now() + integer("lifetime")}
_CLAIM = insert(idempotency).values(
    all_given(_columns.tenant, _columns.operation, _columns.key, _columns.fingerprint, _columns.resource_id) | _FRESH
)
CLAIM = _CLAIM.on_conflict_do_update(
    index_elements=[_columns.tenant, _columns.operation, _columns.key],
    set_={
        "fingerprint": _CLAIM.excluded.fingerprint,
        "resource_id": _CLAIM.excluded.resource_id,
        "expires": _CLAIM.excluded.expires,
    },
    where=_columns.expires <= now(),
).returning(_columns.resource_id)
KNOWN = select(_columns.fingerprint, _columns.resource_id).where(*_IS_KEY)
KNOWN_NOW = KNOWN.where(_columns.expires > now())

POINT = update(idempotency).where(*_IS_KEY).values(resource_id=given(_columns.resource_id))

_EXPIRED = select(_columns.expires).where(_columns.expires <= now()).order_by(_columns.expires).limit(count("limit"))
SWEEP = delete(idempotency).where(_columns.expires.in_(_EXPIRED), _columns.expires <= now())


def claim(
    transaction: Transaction, tenant: str, request: RequestKey | None, resource_id: str, *, lifetime: float
) -> str | None:
    """Note that this request makes `resource_id`; None: go on. Returns what an earlier call of the request made.

    Refuses with IdempotencyMismatch.
    """
    return ask_claim(transaction, tenant, request, resource_id, lifetime=lifetime)()


def ask_claim(
    transaction: Transaction, tenant: str, request: RequestKey | None, resource_id: str, *, lifetime: float
) -> Callable[[], str | None]:
    """Do what `claim` does, and return what fetches its answer (see `Transaction.ask`)."""
    if request is None:
        return lambda: None
    check_text("request_id", request.key)
    fresh = transaction.ask(
        CLAIM,
        tenant=tenant,
        operation=request.operation,
        key=request.key,
        fingerprint=request.fingerprint,
        resource_id=resource_id,
        lifetime=int(lifetime * MICROS),
    )

    def claimed() -> str | None:
        if fresh():
            return None
        return _made(transaction.one(KNOWN, tenant=tenant, operation=request.operation, key=request.key), request)

    return claimed


def known(transaction: Transaction, tenant: str, request: RequestKey | None) -> str | None:
    """Return what an earlier call of this request made; None when there was none. Refuses with IdempotencyMismatch."""
    if request is None:
        return None
    check_text("request_id", request.key)
    row = transaction.row(KNOWN_NOW, tenant=tenant, operation=request.operation, key=request.key)
    return None if row is None else _made(row, request)


def _made(row: Row, request: RequestKey) -> str:
    fingerprint, made = row
    if bytes(fingerprint) != request.fingerprint:
        raise IdempotencyMismatch(
            "This request id was used before with another body. Use a new one for a new request.",
            request_id=request.key,
        )
    return str(made)


def point(transaction: Transaction, tenant: str, request: RequestKey | None, resource_id: str) -> None:
    """Let a request that was claimed in this transaction be one that made something else."""
    if request is not None:
        transaction.do(POINT, tenant=tenant, operation=request.operation, key=request.key, resource_id=resource_id)


def sweep(transaction: Transaction, *, limit: int) -> None:
    """Delete expired rows, oldest first, about `limit` of them."""
    transaction.do(SWEEP, limit=limit)
