"""Steering: messages that arrive for a run while it is under way, and the reads that take them (ENGINE.md E10).

A read is numbered, and what it took is recorded, so that the same read of a later attempt returns the same.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Self

from penstock.errors import NonDeterministic
from penstock.scopes import current
from penstock.v1.message_pb2 import Message
from penstock.v1.worker_service_pb2 import InboxReadOutput, Output

if TYPE_CHECKING:
    from penstock.attempt import Attempt


class Mailbox:
    """The messages that nobody has read, in the order they came."""

    def __init__(self, messages: Iterable[Message]) -> None:
        self.reads = 0
        """Reads of this attempt, empty ones included."""
        self._messages: deque[Message] = deque()
        self._seen: set[str] = set()
        self._waiters: list[asyncio.Future[None]] = []
        for message in messages:
            self.add(message)

    def add(self, message: Message) -> None:
        """A message has come; the core may tell of it more than once."""
        if message.id in self._seen:
            return
        self._seen.add(message.id)
        self._messages.append(message)
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def take(self, most: int | None = None) -> tuple[Message, ...]:
        """Take what there is, or the oldest."""
        count = len(self._messages) if most is None else min(most, len(self._messages))
        return tuple(self._messages.popleft() for _ in range(count))

    async def arrival(self) -> None:
        """Return once there is a message."""
        while not self._messages:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def stop(self, error: Callable[[], BaseException]) -> None:
        """Whoever waits for a message gets an error."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(error())


class Inbox:
    """The steering messages of a run, as its handler reads them. Steps cannot: a finished one is not run again."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt

    def read(self) -> tuple[Message, ...]:
        """Take the messages that have arrived; none when there are none."""
        number = self._count()
        recorded = self._attempt.replay.read(number)
        if recorded or not self._attempt.replay.is_over:
            return recorded
        return self._take(number)

    async def next(self) -> Message:
        """Take the next message, once there is one."""
        number = self._count()
        recorded = self._attempt.replay.read(number)
        if len(recorded) > 1:
            message = f"read {number} of the inbox took {len(recorded)} messages before, and takes one now."
            raise self._attempt.fail(NonDeterministic(message))
        if recorded:
            return recorded[0]
        mailbox = self._attempt.mailbox
        while not (taken := self._take(number, most=1)):
            await mailbox.arrival()
            self._attempt.check()
        return taken[0]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        return await self.next()

    def _count(self) -> int:
        scope = current.get()
        if scope is not None and scope.attempt is self._attempt:
            raise RuntimeError(
                f"the inbox is read by the handler, not inside {scope}: a step that is over reads nothing"
            )
        self._attempt.check()
        self._attempt.mailbox.reads += 1
        return self._attempt.mailbox.reads

    def _take(self, number: int, most: int | None = None) -> tuple[Message, ...]:
        taken = self._attempt.mailbox.take(most)
        if taken:
            read = InboxReadOutput(read=number, message_ids=[message.id for message in taken])
            self._attempt.add(Output(inbox_read=read))
        return taken
