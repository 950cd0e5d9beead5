"""What all scopes of one attempt share: its outbox, what earlier attempts left, and whether it still counts.

An attempt that is *mute* sends nothing any more: it was suspended, has failed to repeat itself, or is over.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from penstock import wire
from penstock.errors import InvalidOutput, NonDeterministic, Suspended
from penstock.idleness import Activity, Idleness
from penstock.inbox import Mailbox
from penstock.line import Line
from penstock.outbox import Outbox
from penstock.questions import Questions
from penstock.replay import Replay
from penstock.scopes import Scope
from penstock.v1.worker_service_pb2 import Assignment, Output


class Attempt:
    """One start of the handler of one run."""

    def __init__(self, assignment: Assignment, outbox: Outbox, line: Line, tell: Callable[[Activity], None]) -> None:
        self.run_id = assignment.run.id
        self.outbox = outbox
        self.line = line
        self.loop = asyncio.get_running_loop()
        self.thread = threading.get_ident()
        """That of the event loop."""
        self.replay = Replay(assignment.records)
        self.questions = Questions(self.replay.answers)
        self.mailbox = Mailbox(assignment.inbox)
        self.idleness = Idleness(self, tell)
        self.is_mute = False
        self.fault: NonDeterministic | None = None
        """It did not repeat itself: this is how the run ends, whatever its handler makes of it."""
        self.result_bytes = self.replay.result_bytes
        """Of the results of all steps."""
        self.blocked: set[asyncio.Task[Any]] = set()
        """Calls of code in threads that wait."""
        self._stopped: Callable[[], BaseException] = asyncio.CancelledError
        self.handler = Scope(self)
        self.handler.refresh()

    def add(self, output: Output) -> int:
        """Send an output without looking for room. Returns its number, or that of the last one when mute."""
        if not self.is_mute:
            data = output.SerializeToString()
            if len(data) > wire.MAX_OUTPUT + wire.MAX_ADDRESS:
                kind = output.WhichOneof("output")
                raise InvalidOutput(f"the output {kind} has {len(data):,} bytes; one may have {wire.MAX_OUTPUT:,}")
            self.outbox.add(wire.record(data))
        return self.outbox.last

    def check(self) -> None:
        """Raise what ended the attempt, when it is mute."""
        if self.is_mute:
            raise self._stopped()

    def suspend(self) -> None:
        """Let the run go: everybody who waits gets Suspended."""
        self._mute(Suspended)
        self.questions.stop(Suspended)
        self.mailbox.stop(Suspended)

    def fail(self, fault: NonDeterministic) -> NonDeterministic:
        """The handler does not repeat itself. Returns what is to be raised."""
        self.fault = self.fault or fault
        self._mute(lambda: fault)
        return fault

    def finish(self) -> None:
        """The handler is over: steps that it left behind say nothing more."""
        self._mute(asyncio.CancelledError)
        self.release_threads()

    def release_threads(self) -> None:
        """Code in threads that waits for something here gets CancelledError."""
        for task in list(self.blocked):
            task.cancel()

    def _mute(self, stopped: Callable[[], BaseException]) -> None:
        if not self.is_mute:
            self.is_mute = True
            self._stopped = stopped
            self.handler.refresh()
