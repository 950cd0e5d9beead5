"""The runs that this core owns: for each the grammar that numbers its events, and what is not committed yet.

Memory runs ahead of the log by what waits in the journal. When the log refuses (the fence moved), the memory of that
run is worthless and is dropped whole; the truth is in the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from core_service.domain.grammar import Grammar
from core_service.domain.runs import ENDED
from core_service.ports import Append, Owned, RunChange
from penstock.v1.run_pb2 import EndReason, RetryPolicy, Run, RunState

if TYPE_CHECKING:
    from core_service.engine.sessions import WorkerSession


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
    received: int = 0
    """Highest output number that went into the grammar."""
    acked: int = 0
    """Highest output number that is committed."""
    failures: int = 0
    lost_workers: int = 0
    max_attempts: int = 1
    state_version: int = 0
    """Version of the thread's state when the run began; the new state is stored at the end."""
    session: WorkerSession | None = None
    start_accepted: bool = False
    cancel_reason: EndReason.ValueType | None = None
    cancel_time: int | None = None
    lost_after: float | None = None
    """Monotonic time after which its worker counts as lost; None while it has one."""
    retry: RunChange | None = None
    """What the store must note when the run goes back to the queue."""
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
            received=owned.acked,
            acked=owned.acked,
            failures=owned.failures,
            lost_workers=owned.lost_workers,
            max_attempts=owned.max_attempts,
            cancel_reason=owned.cancel_reason,
            cancel_time=owned.cancel_time,
            state_version=owned.state_version,
        )

    @property
    def run_id(self) -> str:
        return self.run.id

    @property
    def attempt(self) -> int:
        return self.grammar.attempt

    def retry_allowed(self) -> bool:
        """Tell whether a failed attempt may be tried again (ENGINE.md D4, D5)."""
        policy = self.run.options.retry_policy
        if policy == RetryPolicy.RETRY_POLICY_NEVER or self.failures >= self.max_attempts or self.lost_workers >= 2:
            return False
        return policy == RetryPolicy.RETRY_POLICY_ALWAYS or not self.grammar.retracts()

    def take_append(self) -> Append | None:
        """Return everything made since the last call as one append; None when there is nothing.

        Outputs that became no event are counted all the same: their worker waits for the acknowledgement.
        """
        data = self.grammar.take()
        if not data and self.received == self.acked:
            return None
        return Append(
            tenant=self.tenant,
            run_id=self.run.id,
            fence=self.fence,
            expected=self.stored_seq,
            last=self.grammar.seq,
            acked=self.received,
            data=data,
            change=self._change(),
        )

    def _change(self) -> RunChange | None:
        state = self.grammar.state
        if state == self.stored_state:
            return None
        if (ended := self.grammar.ended) is not None:
            return RunChange(
                state=state,
                reason=ended.reason,
                ended=ended.SerializeToString(),
                failures=self.failures,
                lost_workers=self.lost_workers,
                release=True,
                withdraw=bool(self.grammar.ask_keys),
                messages=tuple(self.grammar.history()),
                state_json=self.grammar.state_json if self.grammar.state_version > self.state_version else None,
                state_steps=self.grammar.state_version - self.state_version,
            )
        return self.retry or RunChange(state=state, leg=self.grammar.leg)

    def written(self, append: Append) -> None:
        """Note that an append is in the log."""
        self.stored_seq = append.last
        self.acked = append.acked
        if append.change is not None:
            self.stored_state = append.change.state

    @property
    def is_leaving(self) -> bool:
        """True once an end or a retry is made, committed or not."""
        return self.grammar.ended is not None or self.grammar.state == RunState.RUN_STATE_QUEUED

    @property
    def is_over(self) -> bool:
        """True once the log has taken the run out of this core's hands: it ended, or it is queued again."""
        return self.stored_state in ENDED or self.stored_state == RunState.RUN_STATE_QUEUED


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
