"""Steps, questions and calls for sync code, which waits in its thread.

Each method does what the one of the same name on `Run` and `Step` does. Not for the event loop, which it would stop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar, overload

from penstock import children, steps
from penstock.children import ChildRun
from penstock.durable import Durable, Step
from penstock.inbox import Inbox
from penstock.outputs import AnyOutput, ToolCall
from penstock.questions import Answer, Kind, OnExpiry
from penstock.scopes import Scope, current
from penstock.v1.run_pb2 import RunOptions

if TYPE_CHECKING:
    from penstock.v1.message_pb2 import Message

P = ParamSpec("P")
T = TypeVar("T")


class Blocking:
    """What a handler and a step can do, from a thread. A cancel raises CancelledError in the call that waits."""

    def __init__(self, durable: Durable) -> None:
        self._durable = durable

    @overload
    def step(
        self, name: str, function: Callable[Concatenate[Step, P], Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T: ...

    @overload
    def step(self, name: str, function: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...

    @overload
    def step(
        self, name: str, function: Callable[Concatenate[Step, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T: ...

    @overload
    def step(self, name: str, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...

    def step(self, name: str, function: Callable[..., object], /, *args: object, **kwargs: object) -> object:
        """Run a function once, over all attempts, and return what it returned."""
        work = steps.Work(function, args, kwargs)
        scope, thread = self._durable._scope, threading.get_ident()
        return self._wait(lambda: steps.begin(scope, name, work, Step, caller=thread))

    def ask(
        self,
        message: str,
        *,
        schema: Mapping[str, object] | None = None,
        kind: Kind = "question",
        call_id: str = "",
        expires_in: float | timedelta | None = None,
        on_expiry: OnExpiry = "fail",
        metadata: Mapping[str, object] | None = None,
        key: str = "",
    ) -> Answer:
        """Ask somebody, and return the answer."""
        return self._wait(
            lambda: self._durable.ask(
                message,
                schema=schema,
                kind=kind,
                call_id=call_id,
                expires_in=expires_in,
                on_expiry=on_expiry,
                metadata=metadata,
                key=key,
            )
        )

    def approve(self, call: ToolCall, message: str = "", *, expires_in: float | timedelta | None = None) -> Answer:
        """Ask whether a tool call may go ahead."""
        return self._wait(lambda: self._durable.approve(call, message, expires_in=expires_in))

    def call(
        self,
        agent_id: str,
        input: object,
        *,
        thread_id: str = "",
        stream: bool = False,
        name: str = "",
        call_id: str = "",
        options: RunOptions | None = None,
        metadata: Mapping[str, str] | None = None,
        check: bool = True,
    ) -> ChildRun:
        """Call another agent, and return how its run ended."""
        scope, thread = self._durable._scope, threading.get_ident()
        return self._wait(
            lambda: children.call(
                scope,
                agent_id,
                input,
                thread_id=thread_id,
                stream=stream,
                name=name,
                call_id=call_id,
                options=options,
                metadata=metadata,
                check=check,
                caller=thread,
            )
        )

    def say(self, output: str | AnyOutput | Mapping[str, object]) -> None:
        """Send text or an output now."""
        self._wait(lambda: self._durable.say(output))

    def read_inbox(self) -> tuple[Message, ...]:
        """Take the steering messages that have arrived."""
        inbox = Inbox(self._durable._scope.attempt)

        async def read() -> tuple[Message, ...]:
            return inbox.read()

        return self._wait(read)

    def next_message(self) -> Message:
        """Take the next steering message, once there is one."""
        return self._wait(Inbox(self._durable._scope.attempt).next)

    def _wait(self, begin: Callable[[], Coroutine[object, object, T]]) -> T:
        """What a coroutine returns that runs in the event loop, in the scope of this thread's code."""
        scope = self._durable._scope
        attempt = scope.attempt
        if threading.get_ident() == attempt.thread:
            raise RuntimeError("`blocking` is for sync code in threads; await the method of the run or step itself")

        async def perform() -> T:
            task = asyncio.current_task()
            assert task is not None, "run_coroutine_threadsafe makes one"
            attempt.blocked.add(task)  # here, in the loop: a cancel must find it before the core can answer
            try:
                current.set(_step(scope))
                return await begin()
            finally:
                attempt.blocked.discard(task)

        future = asyncio.run_coroutine_threadsafe(perform(), attempt.loop)
        try:
            return future.result()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            if future.cancelled():
                raise asyncio.CancelledError("the run is to stop") from error
            raise


def _step(scope: Scope) -> Scope | None:
    return scope if scope.key else None
