"""What the store keeps of a run beside its log: durable steps, questions with their answers, steering messages.

Keys, results and answers that are not events, or not events yet. Plain values, frozen.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from penstock.v1.message_pb2 import Message
from penstock.v1.run_pb2 import InputOutcome, InputRequest, UnreadPolicy


@dataclass(frozen=True, slots=True)
class StepRow:
    """A durable step."""

    key: str
    parent_key: str
    started_seq: int
    ended_seq: int | None
    is_completed: bool
    """Its result was recorded."""
    args_hash: bytes
    result_json: str


@dataclass(frozen=True, slots=True)
class QuestionRow:
    """A question of a run."""

    key: str
    """The handler's own name of it."""
    request: InputRequest
    asked_seq: int
    outcome: InputOutcome.ValueType
    """Unspecified while it is open."""
    answer_json: str = ""
    answered_by: str = ""
    origin_json: str = ""
    """What the adapter that answered wants of the leg that follows."""
    resolved_seq: int | None = None
    """Where the log says so; None: the owner has not written it yet."""


class InboxState(IntEnum):
    """What became of a steering message."""

    UNREAD = 0
    READ = 1
    RETURNED = 2
    """The run ended first."""
    TO_FOLLOW_UP = 3
    """The run ended first, and a run of its own is to be made of it."""
    FOLLOWED_UP = 4
    """That run was made."""


@dataclass(frozen=True, slots=True)
class InboxRow:
    """A steering message of a run."""

    pos: int
    message: Message
    state: InboxState
    read_no: int | None
    """Number of the read that took it."""
    seq: int | None
    """Where the log says that it came; None: the owner has not written it yet."""
    unread_policy: UnreadPolicy.ValueType


@dataclass(frozen=True, slots=True)
class RunRecords:
    """All of it for one run, in order."""

    steps: tuple[StepRow, ...] = ()
    questions: tuple[QuestionRow, ...] = ()
    inbox: tuple[InboxRow, ...] = ()


@dataclass(frozen=True, slots=True)
class Noted:
    """What an append notes beside the log, in the same transaction."""

    steps: tuple[StepRow, ...] = ()
    """Started or ended; a known key is written over."""
    asked: tuple[QuestionRow, ...] = ()
    resolved: tuple[tuple[str, int], ...] = ()
    """(input id, seq) of questions whose InputResolved is among the events."""
    received: tuple[tuple[int, int], ...] = ()
    """(pos, seq) of steering messages whose MessageReceived is among the events."""
    read: tuple[tuple[int, int], ...] = ()
    """(pos, number of the read) of steering messages that the handler took."""
