"""What the end of a run settles beside its log: questions that nobody answered, messages that nobody read.

Both are found by one query for all ends of a batch, as most runs have neither.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sqlalchemy import literal_column, null, select, union_all, update
from sqlalchemy.sql.elements import ColumnElement

from core_service.adapters.sql.schema import inbox, inputs, runs
from core_service.adapters.sql.statements import Value, given, integer, is_one_of, now, text
from core_service.adapters.sql.transaction import Row, Transaction
from core_service.domain.runs import CANCELLED
from core_service.ports import Append, InboxState, RunChange
from penstock.v1.run_pb2 import EndReason, InputOutcome, Run, UnreadPolicy

_NO_MESSAGE: ColumnElement[int] = literal_column("-1")
_IS_UNREAD = inbox.c.state == literal_column(str(int(InboxState.UNREAD)))
UNSETTLED = union_all(
    select(inputs.c.run_id, _NO_MESSAGE.label("pos"), literal_column("0").label("unread_policy"))
    .where(is_one_of(inputs.c.run_id, "ids"), inputs.c.resolved_seq.is_(None))
    .distinct(),
    select(inbox.c.run_id, inbox.c.pos, inbox.c.unread_policy).where(is_one_of(inbox.c.run_id, "ids"), _IS_UNREAD),
)
# Whatever the row said: an answer that the log does not tell of never reached the handler.
WITHDRAW = (
    update(inputs)
    .where(inputs.c.run_id == text("run"), inputs.c.resolved_seq.is_(None))
    .values(
        outcome=given(inputs.c.outcome),
        resolved_seq=given(inputs.c.resolved_seq),
        resolved=now(),
        answer=null(),
        answered_by=null(),
        origin=null(),
    )
)
LEAVE = (
    update(inbox)
    .where(inbox.c.run_id == text("run"), inbox.c.pos == integer("at"), _IS_UNREAD)
    .values(state=given(inbox.c.state))
)
BODIES = select(runs.c.run_id, runs.c.body).where(is_one_of(runs.c.run_id, "ids"))


def ask_unsettled(transaction: Transaction, run_ids: Sequence[str]) -> Callable[[], list[Row]]:
    """Look for what the ends of these runs may have to settle; fetched by a call (`Transaction.ask`)."""
    return transaction.ask(UNSETTLED, ids=transaction.list(run_ids)) if run_ids else list


def settle(transaction: Transaction, ends: Sequence[tuple[Append, RunChange]], unsettled: Sequence[Row]) -> None:
    """Settle the questions and messages of runs that end.

    `unsettled` is what `ask_unsettled` found, maybe of more runs, and before the ends' own notes: what those have
    settled stays as it is, and what they asked is looked for again.
    """
    by_run = {one.run_id: (one, change) for one, change in ends}
    rows = [row for row in unsettled if row[0] in by_run]
    just_asked = {one.run_id for one, _ in ends if one.noted is not None and one.noted.asked}
    asking = sorted(just_asked.union(run_id for run_id, pos, _ in rows if pos < 0))
    transaction.do_many(WITHDRAW, [_withdrawn(*by_run[run_id]) for run_id in asking])
    _leave(
        transaction, {run_id: change for run_id, (_, change) in by_run.items()}, [row for row in rows if row[1] >= 0]
    )


def _withdrawn(one: Append, change: RunChange) -> dict[str, Value]:
    expired = change.reason == EndReason.END_REASON_INPUT_EXPIRED
    outcome = InputOutcome.INPUT_OUTCOME_EXPIRED if expired else InputOutcome.INPUT_OUTCOME_WITHDRAWN
    return {"run": one.run_id, "outcome": int(outcome), "resolved_seq": one.last}


def _leave(transaction: Transaction, changes: Mapping[str, RunChange], unread: Sequence[Row]) -> None:
    unspecified = UnreadPolicy.UNREAD_POLICY_UNSPECIFIED
    asked = {run_id for run_id, _, policy in unread if policy == unspecified}
    bodies = transaction.rows(BODIES, ids=transaction.list(sorted(asked))) if asked else []
    of_run = {run_id: Run.FromString(body).options.unread_policy for run_id, body in bodies}
    transaction.do_many(
        LEAVE,
        [
            {"run": run_id, "at": pos, "state": int(_fate(changes[run_id], policy or of_run.get(run_id, unspecified)))}
            for run_id, pos, policy in unread
        ],
    )


def _fate(change: RunChange, policy: int) -> InboxState:
    """Return what becomes of an unread message. Whoever cancelled the run wants no other in its place."""
    if change.state == CANCELLED or policy == UnreadPolicy.UNREAD_POLICY_RETURN:
        return InboxState.RETURNED
    return InboxState.TO_FOLLOW_UP
