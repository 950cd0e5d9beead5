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
    LATER = "later"
    """Its time has not come: it joins the end of the queue then."""
    INTERRUPT = "interrupt"
    """What is already there is cancelled, and then it runs."""
    ROLLBACK = "rollback"
    """What is already there is cancelled and taken back, and then it runs."""
    STEER = "steer"
    """No run: the messages go to the holder."""
    BUSY = "busy"
    """Refused with THREAD_BUSY."""
    UNANSWERED = "unanswered"
    """Refused with THREAD_WAITING: it might take days until the holder's question is answered."""
    NOT_SERVED = "not served"
    """Refused with NOT_SERVED."""


_DEFAULT = BusyPolicy.BUSY_POLICY_ENQUEUE
_WHEN_HELD: dict[BusyPolicy.ValueType, dict[RunState.ValueType, Turn]] = {
    BusyPolicy.BUSY_POLICY_ENQUEUE: {QUEUED: Turn.BEHIND, RUNNING: Turn.BEHIND, WAITING: Turn.UNANSWERED},
    BusyPolicy.BUSY_POLICY_REJECT: {QUEUED: Turn.BUSY, RUNNING: Turn.BUSY, WAITING: Turn.UNANSWERED},
    BusyPolicy.BUSY_POLICY_INTERRUPT: dict.fromkeys((QUEUED, RUNNING, WAITING), Turn.INTERRUPT),
    BusyPolicy.BUSY_POLICY_ROLLBACK: dict.fromkeys((QUEUED, RUNNING, WAITING), Turn.ROLLBACK),
    BusyPolicy.BUSY_POLICY_STEER: {QUEUED: Turn.BEHIND, RUNNING: Turn.STEER, WAITING: Turn.STEER},
}


def decide(
    policy: BusyPolicy.ValueType,
    holder: RunState.ValueType | None,
    *,
    waiting: int,
    cancelled: bool = False,
    delayed: bool = False,
) -> Turn:
    """Decide from the state of the thread's holder, None without one, and the number of runs that wait behind it.

    Between an end and the next promotion a thread has waiting runs and no holder: it is as busy as with a queued one.
    So is a thread whose holder is `cancelled`: it waits for no answer and reads no message any more. A `delayed` run
    meets the thread only when it is due.
    """
    cells = _WHEN_HELD.get(policy or _DEFAULT)
    if cells is None:
        return Turn.NOT_SERVED
    if delayed:
        return Turn.LATER
    if holder is None:
        return Turn.HEAD if waiting == 0 else cells[QUEUED]
    return cells[QUEUED if cancelled else holder]
