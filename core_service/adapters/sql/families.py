"""Runs that runs have called: how deep they may go, and who is left behind (ENGINE.md, D8)."""

from __future__ import annotations

from sqlalchemy import select

from core_service.adapters.sql.rows import select_heads, to_head
from core_service.adapters.sql.schema import IS_ACTIVE, runs
from core_service.adapters.sql.statements import count, text
from core_service.adapters.sql.transaction import Transaction, check_text
from core_service.domain.errors import DepthExceeded, RunHasEnded, RunNotFound
from core_service.domain.runs import ENDED
from core_service.ports import Head, NewRun
from penstock.v1.run_pb2 import Run

PARENT = select(runs.c.state, runs.c.depth).where(runs.c.run_id == text("run"), runs.c.tenant == text("tenant"))
CHILDREN = select_heads().where(runs.c.parent_run_id == text("run"), IS_ACTIVE).order_by(runs.c.run_id)

_parent = runs.alias("parent")
_active_parent = select(_parent.c.run_id).where(_parent.c.run_id == runs.c.parent_run_id, _parent.c.ended.is_(None))
ORPHANS = (
    select_heads()
    .where(runs.c.parent_run_id.is_not(None), IS_ACTIVE, runs.c.cancel_time.is_(None), ~_active_parent.exists())
    .limit(count("limit"))
)


def described(transaction: Transaction, new: NewRun) -> Run:
    """Return the new run with its depth. Refuses a child of an unknown or ended run, and one that is too deep.

    The parent is not locked: if it ends at this moment, the child is an orphan, and found.
    """
    run = Run()
    run.CopyFrom(new.run)
    if not run.parent_run_id:
        return run
    check_text("parent_run_id", run.parent_run_id)
    parent = transaction.row(PARENT, run=run.parent_run_id, tenant=new.tenant)
    if parent is None:
        raise RunNotFound("The run that calls this agent is not there.", run_id=run.parent_run_id)
    state, depth = parent
    if state in ENDED:
        raise RunHasEnded("The run that calls this agent has ended.", run_id=run.parent_run_id)
    run.depth = depth + 1
    if run.depth > new.max_depth:
        raise DepthExceeded(
            f"{run.depth} runs would stand above this one; {new.max_depth} may.", max_depth=str(new.max_depth)
        )
    return run


def children(transaction: Transaction, run_id: str) -> list[Head]:
    """Carry out `Store.children`."""
    return [to_head(row) for row in transaction.rows(CHILDREN, run=run_id)]


def orphans(transaction: Transaction, *, limit: int) -> list[Head]:
    """Carry out `Store.orphans`. A parent that was deleted has ended."""
    return [to_head(row) for row in transaction.rows(ORPHANS, limit=limit)]
