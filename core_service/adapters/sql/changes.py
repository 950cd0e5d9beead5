"""What an accepted append changes about its run and its thread: state, times, messages, who is told (ENGINE.md, A5)."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import and_, case, false, func, insert, literal_column, null, select, update

from core_service.adapters.sql import messages
from core_service.adapters.sql.schema import heads, runs, threads, webhooks
from core_service.adapters.sql.statements import Value, all_given, given, integer, now, text, unless_null
from core_service.adapters.sql.transaction import Row, Transaction, check_text
from core_service.domain.ids import new_id
from core_service.domain.runs import ENDED
from core_service.ports import Append, RunChange

_is_run = runs.c.run_id == text("run")
_COLUMNS = ("reason", "leg", "failures", "lost_workers", "available_time", "start_by", "end_body")
# A run has time left while it does not run, and a deadline while it does: what comes makes the other void.
_run_left, _deadline = given(runs.c.run_left), given(runs.c.deadline)
CHANGE = (
    update(runs)
    .where(_is_run)
    .values(
        {"state": given(runs.c.state)}
        | {name: unless_null(runs.c[name]) for name in _COLUMNS}
        | {
            "run_left": case((_deadline.is_not(None), null()), else_=func.coalesce(_run_left, runs.c.run_left)),
            "deadline": case((_run_left.is_not(None), null()), else_=func.coalesce(_deadline, runs.c.deadline)),
        }
    )
)
END = CHANGE.values(holds_thread=false(), ended=now())
RELEASE = update(heads).where(heads.c.run_id == text("run")).values(owner=null(), session=null(), grace_until=null())

_is_its_thread = and_(
    threads.c.tenant == text("tenant_is"),
    threads.c.thread_id == select(runs.c.thread_id).where(_is_run).scalar_subquery(),
)
SET_STATE = update(threads).where(_is_its_thread).values(state=given(threads.c.state), state_version=integer("version"))
_before = select(runs.c.state_before).where(_is_run).scalar_subquery()
# A run that never started has no state before it, and NULL differs from nothing.
RESTORE_STATE = (
    update(threads)
    .where(_is_its_thread, threads.c.state != _before)
    .values(state=_before, state_version=threads.c.state_version + literal_column("1"))
)

INSERT_DELIVERY = insert(webhooks).values(
    all_given(webhooks.c.delivery_id, webhooks.c.tenant, webhooks.c.run_id, webhooks.c.url)
    | {
        "state": literal_column("0"),
        "attempts": literal_column("0"),
        "next_time": now(),
        "last_error": literal_column("''"),
        "created": now(),
    }
)


def touches_thread(change: RunChange) -> bool:
    """Tell whether the thread must be locked before the heads are (ENGINE.md, lock order)."""
    return bool(change.messages) or change.state_json is not None or change.rolled_back


def apply(transaction: Transaction, changes: Sequence[tuple[Append, RunChange]], places: Sequence[Row]) -> None:
    """Apply the changes of accepted appends to runs, heads and threads. What else an end settles is `endings.py`.

    `places` are those of the runs that have messages, maybe of others too.
    """
    transaction.do_many(RELEASE, [{"run": one.run_id} for one, change in changes if change.release])
    transaction.do_many(CHANGE, [_columns(one, change) for one, change in changes if change.state not in ENDED])
    transaction.do_many(END, [_columns(one, change) for one, change in changes if change.state in ENDED])
    messages.insert_own(
        transaction, {one.run_id: change.messages for one, change in changes if change.messages}, places
    )
    transaction.do_many(
        SET_STATE,
        [
            {
                "run": one.run_id,
                "tenant_is": one.tenant,
                "state": _checked("state_json", change.state_json),
                "version": change.state_version,
            }
            for one, change in changes
            if change.state_json is not None and not change.rolled_back
        ],
    )
    _roll_back(transaction, [one for one, change in changes if change.rolled_back])
    transaction.do_many(
        INSERT_DELIVERY,
        [
            {
                "delivery_id": new_id("whk"),
                "tenant": one.tenant,
                "run_id": one.run_id,
                "url": _checked("webhook_url", change.webhook_url),
            }
            for one, change in changes
            if change.webhook_url
        ],
    )


def _columns(one: Append, change: RunChange) -> dict[str, Value]:
    return {
        "run": one.run_id,
        "state": change.state,
        "reason": change.reason,
        "leg": change.leg,
        "failures": change.failures,
        "lost_workers": change.lost_workers,
        "available_time": change.available_time,
        "start_by": change.start_by,
        "end_body": change.ended,
        "run_left": change.run_left,
        "deadline": change.deadline,
    }


def _checked(field: str, value: str) -> str:
    check_text(field, value)
    return value


def _roll_back(transaction: Transaction, ends: Sequence[Append]) -> None:
    """Hide what these runs brought and said, and give their threads the state from before them."""
    for one in ends:
        messages.hide(transaction, one.run_id)
        transaction.do(RESTORE_STATE, run=one.run_id, tenant_is=one.tenant)
