"""What passes through the store's port: plain values, frozen."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from core_service.domain.records import Noted
from penstock.v1.message_pb2 import Message
from penstock.v1.run_pb2 import BusyPolicy, EndReason, InputOutcome, Run, RunState, UnreadPolicy


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive events of one run, as stored: `data` is what `domain/segments.py` describes, already unpacked."""

    first_seq: int
    last_seq: int
    data: bytes


@dataclass(frozen=True, slots=True)
class RunChange:
    """What an append changes about its run, in the same transaction. None leaves a column as it is."""

    state: RunState.ValueType
    ended: bytes | None = None
    """The serialised RunEnded payload, at an end: the thread is released."""
    reason: EndReason.ValueType | None = None
    leg: int | None = None
    failures: int | None = None
    lost_workers: int | None = None
    available_time: int | None = None
    """A retry does not start before this."""
    start_by: int | None = None
    """A queued run that no worker took by then ends with QUEUE_TIMEOUT."""
    release: bool = False
    """Ends, retries and releases: nobody owns the run any more (heads.owner, session and grace become NULL)."""
    messages: tuple[Message, ...] = ()
    """Messages for the thread's history, in order."""
    state_json: str | None = None
    """The thread's new state, and its version."""
    state_version: int = 0
    run_left: int | None = None
    """Leaving RUNNING: microseconds of RUNNING time that are left to the run; its deadline is void."""
    deadline: int | None = None
    """Entering RUNNING: when its RUNNING time is over."""
    rolled_back: bool = False
    """At an end: what the run brought and said is hidden, and the thread's state is what it was before the run."""
    webhook_url: str = ""
    """At an end: who is to be told."""


@dataclass(frozen=True, slots=True)
class Append:
    """Events of one run for its log. All events of one output are in one append."""

    tenant: str
    run_id: str
    fence: int
    expected: int
    """The last seq that must be stored now; the events are numbered from expected + 1."""
    last: int
    acked: int
    """Highest output number of the attempt that these events include."""
    data: bytes
    change: RunChange | None = None
    noted: Noted | None = None


class AppendOutcome(Enum):
    """What became of one append."""

    WRITTEN = "written"
    """It is in the log: now, or already when the same append was made before and its answer was lost."""
    REFUSED = "refused"
    """The fence or the seq did not match: the run is not the caller's any more. The others of the batch went on."""


@dataclass(frozen=True, slots=True)
class RequestKey:
    """Makes a repeated change one change."""

    operation: str
    key: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class DueTime:
    """A time at which a schedule is due, and the one that comes after it."""

    schedule_id: str
    time: int
    following: int | None
    """None: the schedule is over."""


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to be created; `CreateRun` as the store sees it."""

    tenant: str
    run: Run
    """As created: state QUEUED, attempt 0, with its options."""
    input: tuple[Message, ...]
    """The new messages, with ids."""
    queued: bytes
    """The record of RunQueued, seq 1."""
    started: bytes | None
    """The record of RunStarted, seq 2, attempt 1: claim at once when nothing is queued before it. Needs `session`."""
    owner: str
    """This core; the owner when claimed at once."""
    session: str | None
    """The worker that has a credit for it."""
    request: RequestKey | None
    policy: BusyPolicy.ValueType
    new_thread: bool
    """The thread id was made for this run: the thread cannot exist yet."""
    available_time: int
    start_by: int | None
    max_attempts: int
    max_queued_per_thread: int
    max_queued_per_agent: int
    delayed: bool = False
    """`available_time` lies ahead: the run joins its thread's queue only then (`Store.join_due`)."""
    run_left: int | None = None
    """Microseconds of RUNNING time that it may take; None: any."""
    disconnect_grace: int | None = None
    """Microseconds without a watcher after which it is cancelled; None: never."""
    state_json: str = ""
    """The thread's new state; empty: unchanged. Refused with ThreadBusy unless the thread is idle."""
    max_depth: int = 0
    """Of runs above it (`run.parent_run_id`); more is refused with DepthExceeded."""
    follow_up_of: str = ""
    """Run whose steering messages this one takes over: they become FOLLOWED_UP."""
    unread_policy: UnreadPolicy.ValueType = UnreadPolicy.UNREAD_POLICY_UNSPECIFIED
    """Of a message that is steered instead."""
    due: DueTime | None = None
    """The due time that makes it, done with by the same transaction; DueTimePassed when it is not the next any more."""


@dataclass(frozen=True, slots=True)
class Created:
    """What became of a create."""

    run: Run
    repeated: bool
    """The request id was known: `run` is the run of the first call, as it is now."""
    started: bool
    """It was claimed at once, with fence 1; `started` is in the log."""
    steered: Head | None = None
    """The input went into the inbox of the thread's holder, which this is, and `run` with it; no run was made."""
    superseded: tuple[Head, ...] = ()
    """Runs of the thread that were noted to be cancelled for this one: the holder, and those that waited."""
    deadline: int | None = None
    """When started: when its RUNNING time is over; None: never."""
    history: tuple[Message, ...] = ()
    """When started: the thread's earlier messages, oldest first, without this run's input."""
    state_json: str = ""
    """The thread's state when the run first started (`runs.state_before`); empty when it was never set."""
    state_version: int = 0


@dataclass(frozen=True, slots=True)
class Owned:
    """A run that the caller owns from now on, at the moment it became so."""

    run: Run
    fence: int
    last_seq: int
    acked: int
    failures: int
    lost_workers: int
    max_attempts: int
    cancel_reason: EndReason.ValueType | None = None
    cancel_time: int | None = None
    session: str | None = None
    history: tuple[Message, ...] = ()
    """Of a claim or an adoption: the thread's messages before this run's input, oldest first."""
    input: tuple[Message, ...] = ()
    """Of a claim or an adoption: this run's input."""
    state_json: str = ""
    """The thread's state when the run first started (`runs.state_before`); empty when it was never set."""
    state_version: int = 0
    run_left: int | None = None
    """Microseconds of RUNNING time that are left; None while it runs, and when there is no limit."""
    deadline: int | None = None
    """When its RUNNING time is over; None while it does not run, and when there is no limit."""
    disconnect_grace: int | None = None
    """Microseconds without a watcher after which it is cancelled; None: never."""


@dataclass(frozen=True, slots=True)
class Head:
    """Who may append to a run, and where its log ends."""

    run_id: str
    tenant: str
    fence: int
    last_seq: int
    oldest_seq: int
    """First event that is still kept; 1 unless events have expired."""
    owner: str | None
    session: str | None
    state: RunState.ValueType
    attempt: int
    cancel_reason: EndReason.ValueType | None
    cancel_time: int | None
    disconnect_grace: int | None = None
    """Microseconds without a watcher after which it is cancelled; None: never."""

    @property
    def is_nobodys(self) -> bool:
        """No core owns it, and no worker is believed to hold it: whoever changes it appends to its log."""
        return self.owner is None and self.session is None


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer to an open question."""

    input_id: str
    outcome: InputOutcome.ValueType
    answer_json: str


@dataclass(frozen=True, slots=True)
class FollowUp:
    """Steering messages of an ended run that nobody read, to become a run of their own."""

    tenant: str
    run: Run
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class InputFilter:
    """Which questions to list; None is any."""

    is_open: bool | None = None
    run_id: str | None = None
    agent_id: str | None = None
    thread_id: str | None = None


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs to list; None is any."""

    thread_id: str | None = None
    agent_id: str | None = None
    states: tuple[RunState.ValueType, ...] = ()
    created_since: int | None = None
    created_before: int | None = None
    labels: tuple[tuple[str, str], ...] = ()
    """All of these."""


@dataclass(frozen=True, slots=True)
class Page:
    """Keyset paging: rows strictly behind `after` (the order key and id of the last row), at most `size`."""

    size: int
    after: tuple[int, str] | None = None
