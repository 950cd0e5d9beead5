"""What the world says to a run under way, and what is kept of the run beside its log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from core_service.domain.records import RunRecords
from core_service.ports.records import Answer, FollowUp, Head, InputFilter, Page, RequestKey
from penstock.v1.message_pb2 import Message
from penstock.v1.run_pb2 import Input, UnreadPolicy


class SignalStore(Protocol):
    """Steps, questions and answers, the inbox. What the world says is a row first; the log tells of it later."""

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
        IdempotencyMismatch. A known request changes nothing and returns the head. A question past its expiry is not
        open any more: InputAnswered.
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
