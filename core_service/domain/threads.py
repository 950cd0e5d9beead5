"""What becomes of a new run on a thread that may be busy (ENGINE.md, G4). It knows no store and takes no time."""

from __future__ import annotations

from enum import Enum

from core_service.domain.runs import QUEUED, RUNNING, WAITING
from penstock.v1.run_pb2 import BusyPolicy, RunState


class Turn(Enum):
    """The answer to a create."""

    HEAD = "head"
    """The thread is idle: the run becomes its holder."""
    BEHIND = "behind"
    """It runs after what is already there."""
    BUSY = "busy"
    """Refused with THREAD_BUSY."""
    UNANSWERED = "unanswered"
    """Refused with THREAD_WAITING: it might take days until the holder's question is answered."""
    NOT_SERVED = "not served"
    """Refused with NOT_SERVED."""


_WHEN_HELD: dict[BusyPolicy.ValueType, dict[RunState.ValueType, Turn]] = {
    BusyPolicy.BUSY_POLICY_ENQUEUE: {QUEUED: Turn.BEHIND, RUNNING: Turn.BEHIND, WAITING: Turn.UNANSWERED},
    BusyPolicy.BUSY_POLICY_REJECT: {QUEUED: Turn.BUSY, RUNNING: Turn.BUSY, WAITING: Turn.UNANSWERED},
}
_DEFAULT = BusyPolicy.BUSY_POLICY_ENQUEUE


def decide(policy: BusyPolicy.ValueType, holder: RunState.ValueType | None, *, waiting: int) -> Turn:
    """Decide from the state of the thread's holder, None without one, and the number of runs that wait behind it.

    Between an end and the next promotion a thread has waiting runs and no holder: it is as busy as with a queued one.
    """
    cells = _WHEN_HELD.get(policy or _DEFAULT)
    if cells is None:
        return Turn.NOT_SERVED
    if holder is None:
        return Turn.HEAD if waiting == 0 else cells[QUEUED]
    return cells[holder]
