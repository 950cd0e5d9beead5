"""The database, as the engine sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from core_service.ports.records import (
    Answer,
    Append,
    AppendOutcome,
    Created,
    FollowUp,
    Head,
    InputFilter,
    NewRun,
    Owned,
    Page,
    RequestKey,
    RunFilter,
    RunRecords,
    Segment,
)
from core_service.ports.schedules import ScheduleStore
from penstock.v1.agent_pb2 import Agent
from penstock.v1.message_pb2 import Message
from penstock.v1.run_pb2 import EndReason, Input, Run, UnreadPolicy
from penstock.v1.thread_pb2 import Thread


class Store(Protocol):
    """The database. One implementation serves SQLite and PostgreSQL; `tests/store/` holds both to this contract."""

    name: str
    """`sqlite` or `postgresql`."""
    schedules: ScheduleStore

    # ── the log ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def append(self, batch: Sequence[Append]) -> list[AppendOutcome]:
        """Append to the logs of many runs in one transaction; at most one append per run.

        A call is refused alone, without harm to the others, when heads.fence or heads.last_seq differ. Making the same
        call again is harmless: what was written is WRITTEN. Changes of accepted appends follow in the same transaction.
        What an accepted append notes is written first, then its change. At an end, questions that the log does not
        tell of as settled become WITHDRAWN (EXPIRED at INPUT_EXPIRED), unread steering messages RETURNED or
        TO_FOLLOW_UP, and a delivery is made for `webhook_url`. Any other exception is about the content of some append:
        the caller bisects (ENGINE.md A7).
        """
        ...

    async def read_segments(self, run_id: str, *, after_seq: int, limit: int) -> list[Segment]:
        """Return up to `limit` segments whose last_seq is above `after_seq`, in order.

        The first may begin before it.
        """
        ...

    async def head(self, run_id: str) -> Head | None:
        """Return the head of a run, whatever its tenant; the caller compares the tenant."""
        ...

    async def heads(self, run_ids: Sequence[str]) -> list[Head]:
        """Return the heads of many runs; unknown ones are left out."""
        ...

    async def foldable(self, *, ended_before: int, limit: int) -> list[str]:
        """Return ended runs whose segments have not been folded yet, oldest first."""
        ...

    async def fold(self, run_id: str, chunks: Sequence[Segment]) -> None:
        """Replace all segments of an ended run by `chunks`, compressed. Nothing else about the run changes."""
        ...

    # ── runs and threads ─────────────────────────────────────────────────────────────────────────────────────────────

    async def create_run(self, new: NewRun) -> Created:
        """Create a run, its head, its messages, labels and first segment (ENGINE.md G3), or steer the thread's holder.

        Creates the thread if it does not exist. The policies INTERRUPT and ROLLBACK note a cancel for every active run
        of the thread and queue the new one. Refuses with IdempotencyMismatch, ThreadBusy, ThreadWaiting, QueueFull; a
        child of an ended run with RunHasEnded, of one too deep with DepthExceeded, of none with RunNotFound.
        """
        ...

    async def get_run(self, tenant: str, run_id: str) -> Run | None:
        """Return a run as it is now, without its messages."""
        ...

    async def list_runs(self, tenant: str, which: RunFilter, page: Page) -> list[Run]:
        """Return runs, newest first (create time, id)."""
        ...

    async def request_cancel(
        self, tenant: str, run_id: str, reason: EndReason.ValueType, *, request: RequestKey | None
    ) -> Head | None:
        """Note that a run is to be cancelled, unless it was noted before or the run has ended. None: no such run.

        Returns the head as it is then. Refuses with IdempotencyMismatch.
        """
        ...

    # ── records: steps, questions, the inbox ─────────────────────────────────────────────────────────────────────────

    async def run_records(self, run_id: str) -> RunRecords:
        """Return what is kept of a run beside its log: steps by started_seq, questions by asked_seq, inbox by pos."""
        ...

    async def answer(
        self,
        tenant: str,
        run_id: str,
        answers: Sequence[Answer],
        *,
        answered_by: str,
        origin_json: str,
        request: RequestKey | None,
    ) -> Head:
        """Settle open questions of one run, all or none, under the lock on its head (ENGINE.md F4).

        The log tells of it later. Refuses with RunNotFound, RunHasEnded, InputNotFound, InputAnswered,
        IdempotencyMismatch. A known request changes nothing and returns the head. A question past its expiry is not open
        any more: InputAnswered.
        """
        ...

    async def list_inputs(self, tenant: str, which: InputFilter, page: Page) -> list[Input]:
        """Return questions, oldest first (created, input id)."""
        ...

    async def get_input(self, tenant: str, input_id: str) -> Input | None:
        """Return a question."""
        ...

    async def expire_inputs(self, *, limit: int) -> list[Head]:
        """Settle open questions whose time is over with EXPIRED, and return the heads of their runs, each once."""
        ...

    async def steer(
        self,
        tenant: str,
        run_id: str,
        message: Message,
        *,
        unread_policy: UnreadPolicy.ValueType,
        max_unread: int,
        request: RequestKey | None,
    ) -> tuple[Head, Message]:
        """Put a message into the inbox of an active run, under the lock on its head; the log comes later.

        Returns the message as stored; a known request returns that of the first call. Refuses with RunNotFound,
        RunHasEnded, QueueFull (more than `max_unread` wait), IdempotencyMismatch.
        """
        ...

    async def signalled(self, run_ids: Sequence[str]) -> list[str]:
        """Return those of these runs that have answers or steering messages which their log does not tell of."""
        ...

    async def nobodys_signals(self, *, limit: int) -> list[Head]:
        """Return heads of WAITING runs without owner and session that have settled questions which their log does not
        tell of, or a cancel that nobody has carried out.
        """
        ...

    async def follow_ups(self, *, limit: int) -> list[FollowUp]:
        """Return the steering messages that are TO_FOLLOW_UP, by run."""
        ...

    # ── time, trees and watchers ─────────────────────────────────────────────────────────────────────────────────────

    async def join_due(self, *, limit: int) -> list[tuple[str, str]]:
        """Let delayed runs whose time has come join the end of their threads' queues (ENGINE.md G6); their messages
        are shown from now on. Returns (tenant, thread) of each, to be promoted.
        """
        ...

    async def children(self, run_id: str) -> list[Head]:
        """Return the active runs that this run has called."""
        ...

    async def orphans(self, *, limit: int) -> list[Head]:
        """Return active runs whose parent has ended and whose cancel was not noted."""
        ...

    async def keep_watched(self, run_ids: Sequence[str]) -> None:
        """Note that these runs are being watched now: watched_until = now + their grace (ENGINE.md D7)."""
        ...

    async def unwatched(self, *, limit: int) -> list[Head]:
        """Return active runs whose watched_until is over and whose cancel was not noted."""
        ...

    # ── threads ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def create_thread(self, tenant: str, thread: Thread, *, request: RequestKey | None) -> Thread:
        """Create a thread. Refuses with ThreadExists, IdempotencyMismatch; a repeat returns the thread."""
        ...

    async def get_thread(self, tenant: str, thread_id: str) -> Thread | None:
        """Return a thread."""
        ...

    async def list_threads(self, tenant: str, page: Page) -> list[Thread]:
        """Return threads, newest first (create time, id)."""
        ...

    async def list_messages(
        self, tenant: str, thread_id: str, *, after_pos: int, limit: int
    ) -> list[tuple[int, Message]]:
        """Return messages with their positions, oldest first; hidden ones are left out."""
        ...

    async def promote(self, threads: Sequence[tuple[str, str]]) -> set[str]:
        """Of each (tenant, thread) that has no holder, make the first waiting run the holder.

        Returns the agents that have runs to start now.
        """
        ...

    async def stuck_threads(self, *, limit: int) -> list[tuple[str, str]]:
        """Return (tenant, thread) of threads that have waiting runs and no holder."""
        ...

    async def forget_requests(self, *, limit: int) -> None:
        """Delete about `limit` expired request ids, oldest first. They count as absent whether deleted or not."""
        ...

    # ── agents ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def declare_agents(self, tenant: str, agents: Sequence[Agent]) -> None:
        """Insert or update agents; `online` is not stored."""
        ...

    async def get_agent(self, tenant: str, agent_id: str) -> Agent | None:
        """Return an agent."""
        ...

    async def list_agents(self, tenant: str, *, after_id: str, limit: int) -> list[Agent]:
        """Return agents by id."""
        ...

    # ── ownership and dispatch ───────────────────────────────────────────────────────────────────────────────────────

    async def renew_core(self, core_id: str, *, address: str, lease: float) -> None:
        """Say that this core lives for another `lease` seconds.

        On a connection of its own, so that load cannot delay it.
        """
        ...

    async def remove_core(self, core_id: str, *, grace: float) -> None:
        """Forget this core, and give up all its runs: owner NULL, lost once the grace is over (ENGINE.md K1)."""
        ...

    async def disown_all(self, *, core_id: str, grace: float) -> int:
        """SQLite at start: no other core can live. Forget all others; RUNNING and WAITING runs get owner NULL and a
        grace.

        Returns how many runs were disowned. On PostgreSQL nothing happens.
        """
        ...

    async def claim(
        self,
        tenant: str,
        agent_id: str,
        *,
        owner: str,
        session: str,
        limit: int,
        started: Callable[[int, int], bytes],
    ) -> list[Owned]:
        """Claim up to `limit` queued heads of threads for a worker (ENGINE.md I1): RUNNING, attempt + 1, fence + 1,
        acked 0.

        `started(seq, attempt)` makes the record of RunStarted, which is appended in the same transaction.
        """
        ...

    async def waiting_tenants(self, agent_id: str, *, after: str, limit: int) -> list[str]:
        """Return tenants, above `after`, that have queued heads of this agent."""
        ...

    async def adopt(self, run_id: str, *, attempt: int, owner: str, session: str) -> Owned | None:
        """Take over a run that this worker holds (ENGINE.md B5): fence + 1, no grace.

        None: it is not that worker's any more.
        """
        ...

    async def held_by(self, session: str) -> list[tuple[str, int]]:
        """Return (run_id, attempt) of RUNNING and WAITING runs that a worker is believed to hold."""
        ...

    async def session_lost(self, session: str, *, owner: str, grace: float) -> int:
        """A worker's stream broke: its runs on this core are lost once the grace is over. Returns how many."""
        ...

    async def lost_runs(self, *, margin: float, limit: int) -> list[Head]:
        """Return runs past their grace, and runs whose owner has no row or a lease over since `margin` seconds."""
        ...

    async def take(self, run_id: str, *, fence: int, owner: str) -> Owned | None:
        """Take a lost run from whoever had it: fence + 1, session NULL. None: somebody was faster."""
        ...

    async def overdue_queued(self, *, limit: int) -> list[Head]:
        """Return queued heads of threads whose start_by has passed, and queued runs whose cancel nobody carried out."""
        ...

    async def queued_count(self) -> int:
        """Return how many runs are queued and first of their thread, over all tenants."""
        ...

    async def is_available(self) -> bool:
        """Tell whether a trivial statement works now. Never raises."""
        ...
