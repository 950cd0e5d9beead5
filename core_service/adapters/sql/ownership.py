"""Who owns a run: cores and their leases, adoption, loss (ENGINE.md, B1–B9).

Whoever changes many heads takes them in the order of their ids, as an append does: so they wait for each other in one
direction only. None is skipped: a run whose loss went unnoticed would never be looked at again.
"""

from __future__ import annotations

from sqlalchemy import Select, and_, delete, exists, literal_column, null, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql.elements import ColumnElement

from core_service.adapters.sql.messages import with_messages
from core_service.adapters.sql.rows import MICROS, select_heads, select_owned, to_head, to_owned
from core_service.adapters.sql.schema import IS_HOLDER, cores, heads, runs, state_is
from core_service.adapters.sql.statements import all_given, count, given, integer, now, text
from core_service.adapters.sql.transaction import Transaction
from core_service.domain.runs import QUEUED, RUNNING, WAITING
from core_service.ports import Head, Owned

_is_core = cores.c.core_id == text("core")
_RENEW = insert(cores).values(
    all_given(cores.c.core_id, cores.c.address) | {"started": now(), "lease_until": now() + integer("lease")}
)
RENEW = _RENEW.on_conflict_do_update(
    index_elements=[cores.c.core_id],
    set_={"address": _RENEW.excluded.address, "lease_until": _RENEW.excluded.lease_until},
)
REMOVE = delete(cores).where(_is_core)
REMOVE_OTHERS = delete(cores).where(cores.c.core_id != text("core"))

_is_run = heads.c.run_id == text("run")
_IS_HELD = state_is(RUNNING, WAITING)


def _in_order(*where: ColumnElement[bool]) -> Select[tuple[str]]:
    return select(heads.c.run_id).where(*where).order_by(heads.c.run_id).with_for_update()


DISOWN = (
    update(heads)
    .where(heads.c.run_id.in_(_in_order(heads.c.owner == text("core"))), heads.c.owner == text("core"))
    .values(owner=null(), grace_until=now() + integer("grace"))
)
# A released run (WAITING, nobody's) has nothing to lose and gets no grace.
_orphans = (
    select(runs.c.run_id)
    .select_from(runs.join(heads, heads.c.run_id == runs.c.run_id))
    .where(
        IS_HOLDER,
        or_(
            state_is(RUNNING),
            and_(state_is(WAITING), or_(heads.c.owner.is_not(None), heads.c.session.is_not(None))),
        ),
    )
)
DISOWN_ALL = (
    update(heads)
    .where(heads.c.run_id.in_(_orphans))
    .values(owner=null(), grace_until=now() + integer("grace"))
    .returning(heads.c.run_id)
)
# While no core ran, nobody could take a run: what waits gets the time of a lease to find a worker.
BE_PATIENT = (
    update(runs)
    .where(state_is(QUEUED), IS_HOLDER, runs.c.start_by < now() + integer("grace"))
    .values(start_by=now() + integer("grace"))
)
_is_lost_session = and_(heads.c.owner == text("core"), heads.c.session == text("session"))
SESSION_LOST = (
    update(heads)
    .where(heads.c.run_id.in_(_in_order(_is_lost_session)), _is_lost_session)
    .values(grace_until=now() + integer("grace"))
    .returning(heads.c.run_id)
)

ADOPT = (
    update(heads)
    .where(
        _is_run,
        heads.c.session == text("worker"),
        exists().where(runs.c.run_id == heads.c.run_id, _IS_HELD, runs.c.attempt == integer("attempt")),
    )
    .values(fence=heads.c.fence + literal_column("1"), owner=given(heads.c.owner), grace_until=null())
    .returning(heads.c.run_id)
)
TAKE = (
    update(heads)
    .where(_is_run, heads.c.fence == integer("seen"))
    .values(fence=heads.c.fence + literal_column("1"), owner=given(heads.c.owner), session=null(), grace_until=null())
    .returning(heads.c.run_id)
)
OWNED = select_owned().where(runs.c.run_id == text("run"))
HELD_BY = (
    select(runs.c.run_id, runs.c.attempt)
    .select_from(heads.join(runs, runs.c.run_id == heads.c.run_id))
    .where(heads.c.session == text("session"), _IS_HELD)
    .order_by(runs.c.run_id)
)
_is_alive = exists().where(cores.c.core_id == heads.c.owner, cores.c.lease_until >= now() - integer("margin"))
_held = select(runs.c.run_id).where(IS_HOLDER, _IS_HELD)
LOST = (
    select_heads()
    .where(
        heads.c.run_id.in_(_held),  # the active runs are few; there are as many heads as there ever were runs
        or_(heads.c.grace_until <= now(), and_(heads.c.owner.is_not(None), ~_is_alive)),
    )
    .limit(count("limit"))
)


def _micros(seconds: float) -> int:
    return round(seconds * MICROS)


# ── cores ─────────────────────────────────────────────────────────────────────────────────────────────────


def renew_core(transaction: Transaction, core_id: str, *, address: str, lease: float) -> None:
    """Carry out `Store.renew_core`."""
    transaction.do(RENEW, core_id=core_id, address=address, lease=_micros(lease))


def remove_core(transaction: Transaction, core_id: str, *, grace: float) -> None:
    """Carry out `Store.remove_core`."""
    transaction.do(DISOWN, core=core_id, grace=_micros(grace))
    transaction.do(REMOVE, core=core_id)


def disown_all(transaction: Transaction, *, core_id: str, grace: float) -> int:
    """Carry out `Store.disown_all`, where this core is the only one there can be."""
    transaction.do(REMOVE_OTHERS, core=core_id)
    transaction.do(BE_PATIENT, grace=_micros(grace))
    return len(transaction.rows(DISOWN_ALL, grace=_micros(grace)))


# ── taking over ───────────────────────────────────────────────────────────────────────────────────────────


def adopt(transaction: Transaction, run_id: str, *, attempt: int, owner: str, session: str) -> Owned | None:
    """Carry out `Store.adopt`. With messages: the assignment may have to be sent again (ENGINE.md, C4)."""
    if transaction.row(ADOPT, run=run_id, attempt=attempt, owner=owner, worker=session) is None:
        return None
    return with_messages(transaction, transaction.one(OWNED, run=run_id))


def take(transaction: Transaction, run_id: str, *, fence: int, owner: str) -> Owned | None:
    """Carry out `Store.take`."""
    if transaction.row(TAKE, run=run_id, seen=fence, owner=owner) is None:
        return None
    return to_owned(transaction.one(OWNED, run=run_id))


# ── losing ────────────────────────────────────────────────────────────────────────────────────────────────


def held_by(transaction: Transaction, session: str) -> list[tuple[str, int]]:
    """Carry out `Store.held_by`."""
    return [(run_id, attempt) for run_id, attempt in transaction.rows(HELD_BY, session=session)]


def session_lost(transaction: Transaction, session: str, *, owner: str, grace: float) -> int:
    """Carry out `Store.session_lost`."""
    return len(transaction.rows(SESSION_LOST, session=session, core=owner, grace=_micros(grace)))


def lost_runs(transaction: Transaction, *, margin: float, limit: int) -> list[Head]:
    """Carry out `Store.lost_runs`."""
    return [to_head(row) for row in transaction.rows(LOST, margin=_micros(margin), limit=limit)]
