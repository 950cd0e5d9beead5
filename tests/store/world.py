"""Short words for what the store's tests do: make a run, end it, append to it, read its log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from core_service.adapters.sql.transaction import Transaction
from core_service.adapters.store_sql import SqlStore
from core_service.domain import segments
from core_service.domain.ids import new_id
from core_service.domain.runs import CANCELLED, SUCCEEDED
from core_service.ports import (
    Answer,
    Append,
    AppendOutcome,
    Created,
    Head,
    NewRun,
    Noted,
    Owned,
    QuestionRow,
    RequestKey,
    RunChange,
    Store,
)
from penstock.v1.event_pb2 import Event, InputResolved, RunEnded, RunStarted
from penstock.v1.message_pb2 import Message, Part, Role, TextPart
from penstock.v1.run_pb2 import BusyPolicy, EndReason, InputOutcome, InputRequest, Run, RunState, UnreadPolicy
from penstock.v1.thread_pb2 import Thread

TENANT = "default"
START = 1_700_000_000_000_000
PAST, FUTURE = START - 3_600_000_000, 4_000_000_000_000_000
"""Before and after now by any database's clock."""
ANSWERED = InputOutcome.INPUT_OUTCOME_ANSWERED


@dataclass
class HandClock:
    """A clock that stands still until a test moves it."""

    micros: int = START

    def now(self) -> int:
        return self.micros

    def monotonic(self) -> float:
        return self.micros / 1e6

    async def sleep(self, seconds: float) -> None:
        self.forward(seconds)

    def forward(self, seconds: float) -> None:
        self.micros += round(seconds * 1e6)


def message(text: str, role: Role.ValueType = Role.ROLE_USER) -> Message:
    return Message(id=new_id("msg"), role=role, parts=[Part(ordinal=1, text=TextPart(text=text))])


def texts(messages: Sequence[Message]) -> list[str]:
    return ["".join(part.text.text for part in message.parts) for message in messages]


def question(key: str, seq: int, *, expires: int | None = None) -> QuestionRow:
    """A question as a run asks it."""
    request = InputRequest(id=new_id("inp"), message=f"{key}?")
    if expires is not None:
        request.expire_time.FromMicroseconds(expires)
    return QuestionRow(key, request, seq, InputOutcome.INPUT_OUTCOME_UNSPECIFIED)


def resolved(seq: int, input_id: str, outcome: InputOutcome.ValueType, answer_json: str = "") -> bytes:
    """The event that settles a question."""
    event = InputResolved(input_id=input_id, outcome=outcome, answer_json=answer_json)
    return segments.record(Event(seq=seq, input_resolved=event).SerializeToString())


def records(first: int, last: int) -> bytes:
    """Events `first` to `last`, as a segment."""
    return b"".join(segments.record(Event(seq=seq).SerializeToString()) for seq in range(first, last + 1))


def started_record(seq: int, attempt: int) -> bytes:
    event = Event(seq=seq, run_started=RunStarted(attempt=attempt, agent_version="v7"))
    return segments.record(event.SerializeToString())


def seqs(data: bytes) -> list[int]:
    return [event.seq for event in segments.events(data)]


@dataclass
class World:
    """A store, and a core and a worker that use it."""

    store: Store
    clock: HandClock
    owner: str = "core_a"
    session: str = "wrk_a"
    _created: int = field(default=0)

    def new_run(
        self,
        *,
        tenant: str = TENANT,
        thread_id: str = "",
        agent_id: str = "echo",
        texts: Sequence[str] = ("hello",),
        claim: bool = True,
        request: RequestKey | None = None,
        policy: BusyPolicy.ValueType = BusyPolicy.BUSY_POLICY_UNSPECIFIED,
        priority: int = 0,
        available_in: float = 0.0,
        queue_timeout: float | None = None,
        per_thread: int = 1_000,
        per_agent: int = 10_000,
    ) -> NewRun:
        """A create. Creates of one world are a microsecond apart, so that their order is known."""
        self._created += 1
        created = START - 1_000_000 + self._created
        run = Run(id=new_id("run"), agent_id=agent_id, thread_id=thread_id or new_id("thr"))
        run.state = RunState.RUN_STATE_QUEUED
        run.options.priority = priority
        run.create_time.FromMicroseconds(created)
        available = self.clock.now() + round(available_in * 1e6) if available_in else created
        return NewRun(
            tenant=tenant,
            run=run,
            input=tuple(message(text) for text in texts),
            queued=records(1, 1),
            started=started_record(2, 1) if claim else None,
            owner=self.owner,
            session=self.session if claim else None,
            request=request,
            policy=policy,
            new_thread=not thread_id,
            available_time=available,
            start_by=None if queue_timeout is None else available + round(queue_timeout * 1e6),
            max_attempts=3,
            max_queued_per_thread=per_thread,
            max_queued_per_agent=per_agent,
        )

    async def running(self, thread_id: str = "") -> Run:
        """A run that the world's worker was given at once."""
        created = await self.store.create_run(self.new_run(thread_id=thread_id))
        assert created.started
        return created.run

    async def queued(
        self, thread_id: str = "", *, priority: int = 0, agent_id: str = "echo", tenant: str = TENANT
    ) -> Run:
        """A run that waits for a worker."""
        new = self.new_run(thread_id=thread_id, claim=False, priority=priority, agent_id=agent_id, tenant=tenant)
        return (await self.store.create_run(new)).run

    async def create(self, new: NewRun) -> Created:
        return await self.store.create_run(new)

    async def claim(self, *, limit: int = 1, agent_id: str = "echo", tenant: str = TENANT) -> list[Owned]:
        return await self.store.claim(
            tenant, agent_id, owner=self.owner, session=self.session, limit=limit, started=started_record
        )

    async def append(self, *batch: Append) -> list[AppendOutcome]:
        return await self.store.append(batch)

    async def end(self, run: Run, *said: str, fence: int = 1) -> None:
        """Append the end of a run, with what it said."""
        head = await self.store.head(run.id)
        assert head is not None
        assert await self.append(self.ending(run, *said, fence=fence, expected=head.last_seq)) == [
            AppendOutcome.WRITTEN
        ]

    def ending(self, run: Run, *said: str, fence: int = 1, expected: int = 2) -> Append:
        """The append that ends a run well."""
        reason = EndReason.END_REASON_COMPLETED
        change = RunChange(
            state=SUCCEEDED,
            reason=reason,
            ended=RunEnded(state=SUCCEEDED, reason=reason, result_json='{"ok":true}').SerializeToString(),
            release=True,
            messages=tuple(message(text, Role.ROLE_ASSISTANT) for text in said),
        )
        return output(run.id, fence=fence, expected=expected, change=change)

    async def asking(
        self, *keys: str, thread_id: str = "", expires: int | None = FUTURE, release: bool = False
    ) -> tuple[Run, list[str]]:
        """A run that waits for answers to these questions, and their ids. Its log ends at 3 + their number."""
        run = await self.running(thread_id)
        asked = tuple(question(key, seq, expires=expires) for seq, key in enumerate(keys, 3))
        waiting = output(
            run.id,
            count=len(keys) + 1,
            noted=Noted(asked=asked),
            change=RunChange(state=RunState.RUN_STATE_WAITING, leg=1, release=release),
        )
        assert await self.append(waiting) == [AppendOutcome.WRITTEN]
        return run, [row.request.id for row in asked]

    async def answer(self, run_id: str, *input_ids: str, by: str = "ada", request: RequestKey | None = None) -> Head:
        """Answer questions of a run."""
        return await self.store.answer(
            TENANT,
            run_id,
            [Answer(input_id, ANSWERED, f'{{"answer":"{by}"}}') for input_id in input_ids],
            answered_by=by,
            origin_json='{"from":"test"}',
            request=request,
        )

    async def steer(
        self,
        run_id: str,
        text: str = "also",
        *,
        policy: UnreadPolicy.ValueType = UnreadPolicy.UNREAD_POLICY_UNSPECIFIED,
        max_unread: int = 10,
        request: RequestKey | None = None,
    ) -> tuple[Head, Message]:
        """Put a message into the inbox of a run."""
        return await self.store.steer(
            TENANT, run_id, message(text), unread_policy=policy, max_unread=max_unread, request=request
        )

    async def cancelled(self, head: Head, *, rolled_back: bool = False) -> AppendOutcome:
        """End a run for the reason that was noted."""
        assert head.cancel_reason is not None
        ended = RunEnded(state=CANCELLED, reason=head.cancel_reason).SerializeToString()
        end = RunChange(state=CANCELLED, reason=head.cancel_reason, ended=ended, release=True, rolled_back=rolled_back)
        (outcome,) = await self.append(output(head.run_id, fence=head.fence, expected=head.last_seq, change=end))
        return outcome

    async def head(self, run_id: str) -> Head:
        """The head of a run that is there."""
        head = await self.store.head(run_id)
        assert head is not None
        return head

    async def thread(self, thread_id: str) -> Thread:
        """A thread that is there."""
        thread = await self.store.get_thread(TENANT, thread_id)
        assert thread is not None
        return thread

    async def shown(self, thread_id: str) -> list[str]:
        """What a reader of the thread sees."""
        page = await self.store.list_messages(TENANT, thread_id, after_pos=-1, limit=1_000)
        return texts([found for _, found in page])

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """What stands in the database, where the port does not tell."""
        assert isinstance(self.store, SqlStore)

        def read(transaction: Transaction) -> list[tuple[Any, ...]]:
            cursor = transaction.cursor()
            cursor.execute(sql, {})
            return cursor.fetchall()

        return await self.store._database.read(read)

    async def log(self, run_id: str) -> list[int]:
        """The seqs of a run's whole log, as stored."""
        rows = await self.store.read_segments(run_id, after_seq=0, limit=10_000)
        assert [row.first_seq for row in rows] == [1, *(row.last_seq + 1 for row in rows[:-1])]
        return seqs(b"".join(row.data for row in rows))


def output(
    run_id: str,
    *,
    fence: int = 1,
    expected: int = 2,
    count: int = 1,
    acked: int = 1,
    change: RunChange | None = None,
    data: bytes | None = None,
    noted: Noted | None = None,
) -> Append:
    """An append of `count` events."""
    last = expected + count
    return Append(
        tenant=TENANT,
        run_id=run_id,
        fence=fence,
        expected=expected,
        last=last,
        acked=acked,
        data=records(expected + 1, last) if data is None else data,
        change=change,
        noted=noted,
    )
