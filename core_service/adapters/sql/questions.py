"""Questions of runs: answering them, letting them expire, listing them (ENGINE.md, F).

Who settles a question holds the lock on its run's head, as an end does: so of an answer, an expiry and an end one wins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Select, and_, func, literal_column, select, tuple_, update
from sqlalchemy.sql.elements import ColumnElement

from core_service.adapters.sql import requests
from core_service.adapters.sql.log import head, heads_of, locked_head
from core_service.adapters.sql.rows import select_inputs, to_input
from core_service.adapters.sql.schema import IS_OPEN, heads, inputs, runs
from core_service.adapters.sql.statements import count, given, integer, is_one_of, now, text
from core_service.adapters.sql.transaction import Row, Transaction, check_text
from core_service.domain.errors import InputAnswered, InputNotFound, InvalidArgument, RunHasEnded, RunNotFound
from core_service.domain.runs import ENDED
from core_service.ports import Answer, Head, InputFilter, Page, RequestKey
from penstock.v1.run_pb2 import Input, InputOutcome

EXPIRED = InputOutcome.INPUT_OUTCOME_EXPIRED
WITHDRAWN = InputOutcome.INPUT_OUTCOME_WITHDRAWN

_is_over = and_(inputs.c.expires.is_not(None), inputs.c.expires <= now())
ASKED = select(inputs.c.input_id, inputs.c.outcome, inputs.c.answered_by, _is_over.label("over")).where(
    inputs.c.run_id == text("run"), is_one_of(inputs.c.input_id, "ids")
)
SETTLE = (
    update(inputs)
    .where(inputs.c.input_id == text("input"), inputs.c.outcome == literal_column("0"))
    .values(
        outcome=given(inputs.c.outcome),
        answer=given(inputs.c.answer),
        answered_by=given(inputs.c.answered_by),
        origin=given(inputs.c.origin),
        resolved=now(),
    )
)

OVERDUE = (
    select(inputs.c.input_id, inputs.c.run_id)
    .where(IS_OPEN, inputs.c.expires <= now())
    .order_by(inputs.c.expires)
    .limit(count("limit"))
)
# A run that is being appended to or answered at this moment is left for the next time.
LOCK_FREE = (
    select(heads.c.run_id)
    .where(is_one_of(heads.c.run_id, "ids"))
    .order_by(heads.c.run_id)
    .with_for_update(skip_locked=True)
)
EXPIRE = (
    update(inputs)
    .where(is_one_of(inputs.c.input_id, "ids"), is_one_of(inputs.c.run_id, "runs"), IS_OPEN)
    .values(outcome=given(inputs.c.outcome), resolved=now())
    .returning(inputs.c.run_id)
)

_in_tenant = inputs.c.tenant == text("tenant")
GET = select_inputs().where(_in_tenant, inputs.c.input_id == text("input"))
_IS_SETTLED = inputs.c.outcome != literal_column("0")
_BY_STATE: Mapping[bool | None, tuple[ColumnElement[bool], ...]] = {None: (), True: (IS_OPEN,), False: (_IS_SETTLED,)}
_thread_runs = runs.alias("thread_run")
_BY_SCOPE: Mapping[str, tuple[ColumnElement[bool], ...]] = {
    "": (),
    "run": (inputs.c.run_id == text("run"),),
    "thread": (
        inputs.c.run_id.in_(
            select(_thread_runs.c.run_id).where(
                _thread_runs.c.tenant == text("tenant"), _thread_runs.c.thread_id == text("thread")
            )
        ),
    ),
}


def _page(*where: ColumnElement[bool], scope: str) -> Select[tuple[object, ...]]:
    page = (
        select_inputs()
        .where(
            _in_tenant,
            tuple_(inputs.c.created, inputs.c.input_id) > tuple_(integer("after_time"), text("after_id")),
            runs.c.agent_id == func.coalesce(text("agent"), runs.c.agent_id),
            runs.c.thread_id == func.coalesce(text("thread"), runs.c.thread_id),
            *where,
        )
        .order_by(inputs.c.created, inputs.c.input_id)
        .limit(count("limit"))
    )
    # SQLite has to be told: it takes the tenant for selective.
    return page.with_hint(inputs, "INDEXED BY inputs_of_run", "sqlite") if scope else page


PAGES = {
    (is_open, scope): _page(*by_state, *by_scope, scope=scope)
    for is_open, by_state in _BY_STATE.items()
    for scope, by_scope in _BY_SCOPE.items()
}


# ── settling ──────────────────────────────────────────────────────────────────────────────────────────────


def answer(
    transaction: Transaction,
    tenant: str,
    run_id: str,
    answers: Sequence[Answer],
    *,
    answered_by: str,
    origin_json: str,
    request: RequestKey | None,
    lifetime: float,
) -> Head:
    """Carry out `Store.answer`. `lifetime` is that of the request id, in seconds."""
    _check(answers, answered_by=answered_by, origin_json=origin_json)
    known = requests.claim(transaction, tenant, request, run_id, lifetime=lifetime)
    target = head(transaction, known) if known is not None else locked_head(transaction, run_id)
    if target is None or target.tenant != tenant:
        raise RunNotFound("There is no such run.", run_id=run_id)
    if known is not None:
        return target
    has_ended = target.state in ENDED
    _refuse_settled(transaction, run_id, answers, has_ended=has_ended)
    if has_ended:
        raise RunHasEnded("The run has ended: nobody waits for this answer any more.", run_id=run_id)
    transaction.do_many(
        SETTLE,
        [
            {
                "input": one.input_id,
                "outcome": one.outcome,
                "answer": one.answer_json,
                "answered_by": answered_by,
                "origin": origin_json,
            }
            for one in answers
        ],
    )
    return target


def _check(answers: Sequence[Answer], *, answered_by: str, origin_json: str) -> None:
    for field, value in (("answered_by", answered_by), ("origin_json", origin_json)):
        check_text(field, value)
    for one in answers:
        check_text("input_id", one.input_id)
        check_text("answer_json", one.answer_json)
    if len({one.input_id for one in answers}) < len(answers):
        raise InvalidArgument("The answers name a question twice.", field="answers")


def _refuse_settled(transaction: Transaction, run_id: str, answers: Sequence[Answer], *, has_ended: bool) -> None:
    """Refuse answers to questions that have one, and to unknown ones. What the end withdrew, the end refuses."""
    ids = [one.input_id for one in answers]
    asked = {row[0]: row for row in transaction.rows(ASKED, run=run_id, ids=transaction.list(ids))}
    for input_id in ids:
        if input_id not in asked:
            raise InputNotFound("The run never asked this question.", input_id=input_id, run_id=run_id)
        if not (has_ended and asked[input_id][1] == WITHDRAWN):
            _refuse_one(asked[input_id])


def _refuse_one(row: Row) -> None:
    input_id, outcome, answered_by, is_over = row
    if outcome or is_over:
        name = InputOutcome.Name(outcome or EXPIRED).removeprefix("INPUT_OUTCOME_").lower()
        raise InputAnswered(
            f"The question is settled: {name}.", input_id=input_id, outcome=name, answered_by=answered_by or ""
        )


def expire_inputs(transaction: Transaction, *, limit: int) -> list[Head]:
    """Carry out `Store.expire_inputs`; `limit` counts questions."""
    overdue = transaction.rows(OVERDUE, limit=limit)
    if not overdue:
        return []
    run_ids = transaction.list(sorted({run_id for _, run_id in overdue}))
    free = [run_id for (run_id,) in transaction.rows(LOCK_FREE, ids=run_ids)]
    expired = transaction.rows(
        EXPIRE,
        ids=transaction.list([input_id for input_id, _ in overdue]),
        runs=transaction.list(free),
        outcome=int(EXPIRED),
    )
    return heads_of(transaction, sorted({run_id for (run_id,) in expired}))


# ── reading ───────────────────────────────────────────────────────────────────────────────────────────────


def get_input(transaction: Transaction, tenant: str, input_id: str) -> Input | None:
    """Carry out `Store.get_input`."""
    row = transaction.row(GET, tenant=tenant, input=input_id)
    return to_input(row) if row is not None else None


def list_inputs(transaction: Transaction, tenant: str, which: InputFilter, page: Page) -> list[Input]:
    """Carry out `Store.list_inputs`: by way of the run, else of the thread's runs, else in the order of time."""
    after_time, after_id = page.after or (-1, "")
    scope = "run" if which.run_id is not None else "thread" if which.thread_id is not None else ""
    rows = transaction.rows(
        PAGES[which.is_open, scope],
        **({"run": which.run_id} if scope == "run" else {}),
        tenant=tenant,
        agent=which.agent_id,
        thread=which.thread_id,
        after_time=after_time,
        after_id=after_id,
        limit=page.size,
    )
    return [to_input(row) for row in rows]
