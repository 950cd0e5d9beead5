"""The runs that this core owns: for each the grammar that numbers its events, and what is not committed yet.

Memory runs ahead of the log by what waits in the journal. When the log refuses (the fence moved), the memory of that
run is worthless and is dropped whole; the truth is in the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from core_service.domain.grammar import Grammar
from core_service.domain.runs import ENDED, WAITING
from core_service.ports import Append, Noted, Owned, RunChange
from penstock.v1.event_pb2 import RunEnded
from penstock.v1.message_pb2 import Message
from penstock.v1.run_pb2 import EndReason, RetryPolicy, Run, RunState

if TYPE_CHECKING:
    from core_service.engine.sessions import WorkerSession

ROLLED_BACK = EndReason.END_REASON_ROLLED_BACK


@dataclass(slots=True, eq=False)
class OwnedRun:
    """One run that this core may append to, under `fence`."""

    run: Run
    tenant: str
    grammar: Grammar
    fence: int
    stored_seq: int
    """Newest seq that is committed."""
    stored_state: RunState.ValueType
    stored_leg: int = 0
    received: int = 0
    """Highest output number that went into the grammar."""
    acked: int = 0
    """Highest output number that is committed."""
    failures: int = 0
    lost_workers: int = 0
    max_attempts: int = 1
    stored_state_version: int = 0
    """Version of the thread's state that the store was given last."""
    session: WorkerSession | None = None
    start_accepted: bool = False
    replayable: bool = True
    """Its handler may be started again, and let go while it waits."""
    cancel_reason: EndReason.ValueType | None = None
    cancel_time: int | None = None
    lost_after: float | None = None
    """Monotonic time after which its worker counts as lost; None while it has one."""
    deadline: int | None = None
    """When its RUNNING time is over, in microseconds since 1970 UTC; None while it does not run, or without a limit."""
    run_left: int | None = None
    """Microseconds of RUNNING time that are left to a run that does not run; None without a limit."""
    disconnect_grace: int | None = None
    """Microseconds without a watcher after which it is cancelled; None: never."""
    leaving: RunChange | None = None
    """Set once the run goes out of this core's hands without an end: back to the queue, or let go while it waits."""
    ended_by_worker: bool = False
    """The worker itself said the end of the attempt: it need not be told that the run is not its any more."""
    inbox: dict[str, int] = field(default_factory=dict)
    """Message id → place in the inbox of the steering messages that this core knows of."""
    held_back: list[Message] = field(default_factory=list)
    """Steering messages that came while the run waits, when its log may not tell of them (rule 3)."""
    poisonings: int = 0
    """How often the store could not take what this core wanted to append to the run."""
    settled: asyncio.Future[bool] | None = field(default=None)
    """Resolves once nothing of this run waits in the journal: True when it was written, False when it was refused."""

    @classmethod
    def of(cls, owned: Owned, grammar: Grammar, *, tenant: str) -> OwnedRun:
        """Make one from what the store handed over."""
        return cls(
            run=owned.run,
            tenant=tenant,
            grammar=grammar,
            fence=owned.fence,
            stored_seq=owned.last_seq,
            stored_state=grammar.state,
            stored_leg=grammar.leg,
            received=owned.acked,
            acked=owned.acked,
            failures=owned.failures,
            lost_workers=owned.lost_workers,
            max_attempts=owned.max_attempts,
            cancel_reason=owned.cancel_reason,
            cancel_time=owned.cancel_time,
            stored_state_version=owned.state_version,
            deadline=owned.deadline,
            run_left=owned.run_left,
            disconnect_grace=owned.disconnect_grace,
        )

    @property
    def run_id(self) -> str:
        return self.run.id

    @property
    def attempt(self) -> int:
        return self.grammar.attempt

    @property
    def is_waiting(self) -> bool:
        """Nothing will happen before an answer comes."""
        return self.grammar.state == WAITING

    def retry_allowed(self, *, lost: bool) -> bool:
        """Tell whether a failed attempt may be tried again (ENGINE.md D4, D5).

        `lost` when its worker was lost, and not when the handler failed.
        """
        options = self.run.options
        policy = options.retry_policy
        if policy == RetryPolicy.RETRY_POLICY_NEVER or self.failures >= self.max_attempts or self.lost_workers >= 2:
            return False
        stays = options.HasField("retry_after_output") and not options.retry_after_output
        if stays and not lost and self.grammar.has_spoken:
            return False
        return policy == RetryPolicy.RETRY_POLICY_ALWAYS or not self.grammar.retracts()

    def take_append(self) -> Append | None:
        """Return everything made since the last call as one append; None when there is nothing.

        Outputs that became no event are counted all the same: their worker waits for the acknowledgement.
        """
        data, noted = self.grammar.take(), self._noted()
        change = self._change()
        if not data and noted is None and change is None and self.received == self.acked:
            return None
        return Append(
            tenant=self.tenant,
            run_id=self.run.id,
            fence=self.fence,
            expected=self.stored_seq,
            last=self.grammar.seq,
            acked=self.received,
            data=data,
            change=change,
            noted=noted,
        )

    def _noted(self) -> Noted | None:
        notes = self.grammar.take_notes()
        if notes is None:
            return None
        return Noted(
            steps=tuple(notes.steps.values()),
            asked=tuple(notes.asked),
            resolved=tuple(notes.resolved),
            received=tuple((self.inbox[message_id], seq) for message_id, seq in notes.received),
            read=tuple((self.inbox[message_id], number) for message_id, number in notes.read),
        )

    def _change(self) -> RunChange | None:
        if (ended := self.grammar.ended) is not None:
            return None if self.stored_state in ENDED else self._end(ended)
        if self.leaving is not None:
            return replace(self.leaving, state_json=self._new_state(), state_version=self._version)
        state, leg = self.grammar.state, self.grammar.leg
        if state == self.stored_state and leg == self.stored_leg:
            return None
        if state != WAITING:
            return RunChange(state=state, leg=leg, deadline=self.deadline)
        return RunChange(
            state=state, leg=leg, run_left=self.run_left, state_json=self._new_state(), state_version=self._version
        )

    def _end(self, ended: RunEnded) -> RunChange:
        rolled_back = ended.reason == ROLLED_BACK
        return RunChange(
            state=ended.state,
            reason=ended.reason,
            leg=self.grammar.leg,
            ended=ended.SerializeToString(),
            failures=self.failures,
            lost_workers=self.lost_workers,
            release=True,
            messages=() if rolled_back else tuple(self.grammar.history()),
            state_json=None if rolled_back else self._new_state(),
            state_version=self._version,
            rolled_back=rolled_back,
            webhook_url=self.run.options.webhook_url,
        )

    @property
    def _version(self) -> int:
        return self.grammar.state_version

    def _new_state(self) -> str | None:
        return self.grammar.state_json if self._version > self.stored_state_version else None

    def written(self, append: Append) -> None:
        """Note that an append is in the log."""
        self.stored_seq = append.last
        self.acked = append.acked
        if (change := append.change) is not None:
            self.stored_state = change.state
            self.stored_leg = self.stored_leg if change.leg is None else change.leg
            if change.state_json is not None:
                self.stored_state_version = change.state_version

    @property
    def is_leaving(self) -> bool:
        """True once an end, a retry or a release is made, committed or not."""
        return self.grammar.ended is not None or self.leaving is not None

    def is_over(self, append: Append) -> bool:
        """Tell whether an append that is in the log has taken the run out of this core's hands."""
        return append.change is not None and append.change.release


class Ownership:
    """All owned runs by id."""

    def __init__(self) -> None:
        self._runs: dict[str, OwnedRun] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[OwnedRun]:
        return iter(list(self._runs.values()))

    def get(self, run_id: str) -> OwnedRun | None:
        """Return the run if this core owns it."""
        return self._runs.get(run_id)

    def add(self, owned: OwnedRun) -> None:
        """Own a run; whatever was in memory for it before is dropped."""
        self.drop(self._runs.get(owned.run_id))
        self._runs[owned.run_id] = owned

    def drop(self, owned: OwnedRun | None) -> None:
        """Forget a run, unless a newer ownership has taken its place."""
        if owned is None:
            return
        if self._runs.get(owned.run_id) is owned:
            del self._runs[owned.run_id]
        if owned.session is not None:
            owned.session.forget(owned)
