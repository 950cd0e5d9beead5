"""The run as its handler sees it: what was asked, by whom, whether to stop, and what it can do that lasts.

A view of the assignment, decoded where it is looked at. What it does is done by `durable.py`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from functools import cached_property
from typing import TYPE_CHECKING

from penstock.durable import Durable
from penstock.inbox import Inbox
from penstock.json_text import from_json
from penstock.v1.message_pb2 import Message, Role
from penstock.v1.run_pb2 import ClientTool, RunOptions
from penstock.v1.worker_service_pb2 import Assignment

if TYPE_CHECKING:
    from penstock.attempt import Attempt
    from penstock.scopes import Scope


class Cancellation:
    """True once the run is to stop; to be awaited in async code, and waited for in threads.

    Async handlers get a CancelledError as well.
    """

    def __init__(self) -> None:
        self.reason = ""
        """Why: USER, TIMEOUT … as in EndReason, or LEASE_LOST, REVOKED, SHUTDOWN."""
        self._loop = asyncio.get_running_loop()
        self._is_set = threading.Event()
        self._waiters: list[asyncio.Future[None]] = []

    def __bool__(self) -> bool:
        return self._is_set.is_set()

    def __await__(self) -> Generator[object, None, None]:
        """In the event loop: return once the run is to stop."""
        if not self:
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._waiters.append(waiter)
            yield from waiter

    def wait(self, timeout: float | None = None) -> bool:
        """In a thread: return True once the run is to stop, False after `timeout` seconds."""
        return self._is_set.wait(timeout)

    def request(self, reason: str) -> None:
        """Called by the worker, in its event loop."""
        if self:
            return
        self.reason = reason
        self._is_set.set()
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)


class Run(Durable):
    """One call of an agent, as handed to its handler."""

    def __init__(self, assignment: Assignment, attempt: Attempt | None = None) -> None:
        """Without an attempt nobody serves it, and it can only be looked at."""
        self._assignment = assignment
        self._attempt = attempt
        self.id = assignment.run.id
        self.agent_id = assignment.run.agent_id
        self.thread = assignment.run.thread_id
        """Id of the conversation."""
        self.attempt = assignment.run.attempt
        """How often the handler was started for this run, this time included."""
        self.depth = assignment.run.depth
        """How many runs are above it: 0 unless another run called it."""
        self.parent = assignment.run.parent_run_id
        """Id of the run that called it; empty when none did."""
        self.cancelled = Cancellation()

    @property
    def _own_scope(self) -> Scope:
        return self._served.handler

    @property
    def _served(self) -> Attempt:
        if self._attempt is None:
            raise RuntimeError(f"nobody serves {self.id}: this Run was made by hand")
        return self._attempt

    @property
    def replaying(self) -> bool:
        """The handler has not passed yet what an earlier attempt recorded; what it says now was said before."""
        return not self._served.replay.is_over

    @property
    def inbox(self) -> Inbox:
        """Messages that arrive while it runs: `run.inbox.read()`, or `async for message in run.inbox`."""
        return Inbox(self._served)

    @cached_property
    def messages(self) -> tuple[Message, ...]:
        """The whole conversation, oldest first; the new messages are the last ones."""
        return tuple(self._assignment.messages)

    @cached_property
    def new_messages(self) -> tuple[Message, ...]:
        """The messages that came with this run."""
        count = self._assignment.new_messages
        return self.messages[-count:] if count else ()

    @cached_property
    def text(self) -> str:
        """What the user says now: the text of the new messages that follow the last answer among them.

        Clients without memory send the whole conversation every time; its earlier turns are not what is said now.
        """
        said: list[str] = []
        for message in self.new_messages:
            if message.role == Role.ROLE_ASSISTANT:
                said.clear()
            elif message.role == Role.ROLE_USER:
                said.append("".join(part.text.text for part in message.parts))
        return "\n".join(text for text in said if text)

    @cached_property
    def input(self) -> object:
        """The JSON value of the newest data part among the new messages; None when there is none."""
        for message in reversed(self.new_messages):
            for part in reversed(message.parts):
                if part.WhichOneof("content") == "data":
                    return from_json(part.data.value_json)
        return None

    @cached_property
    def state(self) -> dict[str, object]:
        """The thread's state when the run started: a copy. Yield a `State` to change it."""
        state = from_json(self._assignment.state_json)
        return state if isinstance(state, dict) else {}

    @cached_property
    def metadata(self) -> dict[str, str]:
        """Free labels, given by whoever created the run."""
        return dict(self._assignment.run.metadata)

    @property
    def options(self) -> RunOptions:
        """How it is to be run."""
        return self._assignment.run.options

    @cached_property
    def agent_options(self) -> dict[str, object]:
        """What the client wishes of the agent: `temperature`, `response_format` … Nobody checked it."""
        options = from_json(self.options.agent_options_json)
        return options if isinstance(options, dict) else {}

    @cached_property
    def tools(self) -> tuple[ClientTool, ...]:
        """Tools that the client runs itself: call one with a `ToolCall`, and its result comes with the next run."""
        return tuple(self.options.tools)
