"""The states of a run and the only ways between them.

    QUEUED ──► RUNNING ◄──► WAITING
      ▲           │            │
      ├───────────┘            │      a retry, or a run whose start was never accepted
      └────────────────────────┘      an answer came, and no worker holds the run any more
      │           │            │
      └───────────┴────────────┴──►  SUCCEEDED | FAILED | CANCELLED

Each change has exactly one event (protos/README.md, rule 2), and nothing leaves an end. WAITING ends through
`RunResumed` in the same commit, so the table has the ends of RUNNING for it too.
"""

from __future__ import annotations

from penstock.v1.run_pb2 import EndReason, RunState

QUEUED = RunState.RUN_STATE_QUEUED
RUNNING = RunState.RUN_STATE_RUNNING
WAITING = RunState.RUN_STATE_WAITING
SUCCEEDED = RunState.RUN_STATE_SUCCEEDED
FAILED = RunState.RUN_STATE_FAILED
CANCELLED = RunState.RUN_STATE_CANCELLED

ENDED = frozenset({SUCCEEDED, FAILED, CANCELLED})
ACTIVE = frozenset({QUEUED, RUNNING, WAITING})

TRANSITIONS: dict[RunState.ValueType, frozenset[RunState.ValueType]] = {
    QUEUED: frozenset({RUNNING, FAILED, CANCELLED}),
    RUNNING: frozenset({QUEUED, WAITING, SUCCEEDED, FAILED, CANCELLED}),
    WAITING: frozenset({QUEUED, RUNNING, FAILED, CANCELLED}),
    SUCCEEDED: frozenset(),
    FAILED: frozenset(),
    CANCELLED: frozenset(),
}


def may_become(state: RunState.ValueType, target: RunState.ValueType) -> bool:
    """Tell whether a run in `state` may go to `target`."""
    return target in TRANSITIONS.get(state, frozenset())


def end_state(reason: EndReason.ValueType) -> RunState.ValueType:
    """Return the end that a reason belongs to: the numbers of reasons are grouped (run.proto)."""
    if 1 <= reason <= 9:
        return SUCCEEDED
    if 10 <= reason <= 29:
        return FAILED
    if 30 <= reason <= 49:
        return CANCELLED
    raise ValueError(f"{reason} is not a reason to end")
