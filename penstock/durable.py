"""What a handler and a step can do that lasts: steps, questions, calls of other agents, and saying things.

`Run` and `Step` share it. A call belongs to the step whose code makes it, whichever of the two it is made on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar, overload

from penstock import children, questions, steps
from penstock.children import ChildRun
from penstock.outputs import AnyOutput, ToolCall
from penstock.questions import Answer, Kind, OnExpiry
from penstock.scopes import Scope, current
from penstock.v1.run_pb2 import RunOptions

if TYPE_CHECKING:
    from penstock.blocking import Blocking

P = ParamSpec("P")
T = TypeVar("T")


class Durable(ABC):
    """What `Run` and `Step` have in common."""

    @property
    @abstractmethod
    def _own_scope(self) -> Scope:
        """The scope of the handler or step itself."""

    @property
    def _scope(self) -> Scope:
        """The scope whose code runs here: the innermost step of this run, or else this one."""
        scope = current.get()
        return scope if scope is not None and scope.attempt is self._own_scope.attempt else self._own_scope

    @overload
    def step(
        self, name: str, function: Callable[Concatenate[Step, P], Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[object, object, T]: ...

    @overload
    def step(
        self, name: str, function: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[object, object, T]: ...

    @overload
    def step(
        self, name: str, function: Callable[Concatenate[Step, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[object, object, T]: ...

    @overload
    def step(
        self, name: str, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[object, object, T]: ...

    def step(
        self, name: str, function: Callable[..., object], /, *args: object, **kwargs: object
    ) -> Coroutine[object, object, object]:
        """Run a function once, over all attempts: `await run.step("charge", charge, order)`.

        Its result is recorded, as JSON of at most 256 KiB, with what it said meanwhile; a later attempt gets the
        recorded result and does not run it. What is returned is what JSON makes of it, also the first time. A function
        that raises is not recorded, and runs again in the next attempt.

        The function is async, or sync and then run in a thread. A first parameter annotated as `penstock.Step` is
        filled in: it brings the idempotency key, and a way to say things. Steps may run side by side (`asyncio.gather`)
        and inside each other. A step begins with this call: until it has returned, its caller says nothing itself.
        """
        return steps.begin(self._scope, name, steps.Work(function, args, kwargs), Step)

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
    ) -> Coroutine[object, object, Answer]:
        """Ask somebody, and wait for the answer: `answer = await run.ask("Which size?")`.

        It is asked with this call, and once over all attempts. `schema` is the JSON Schema of the answer, an object;
        each kind has a default: for a question `{"answer": text}`, for an approval `{"approved": true}`. `call_id` is
        that of the tool call in question, which was yielded before. Unless it is answered within `expires_in` seconds
        (a day) the run fails, or goes on with an answer that is `expired`. `key` is its own name, unique in this scope;
        else it is known by its place.

        While a handler waits the run is WAITING, for days if need be: see `penstock.Suspended`.
        """
        return questions.ask(
            self._scope,
            message,
            schema=schema,
            kind=kind,
            call_id=call_id,
            expires_in=expires_in,
            on_expiry=on_expiry,
            metadata=metadata,
            key=key,
        )

    def approve(
        self, call: ToolCall, message: str = "", *, expires_in: float | timedelta | None = None
    ) -> Coroutine[object, object, Answer]:
        """Ask whether a tool call, which was yielded before, may go ahead. The answer is true when it may."""
        message = message or call.title or f"May {call.tool_name} be called?"
        return self.ask(message, kind="approval", call_id=call.call_id, expires_in=expires_in)

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
    ) -> Coroutine[object, object, ChildRun]:
        """Call another agent, and wait for the end of its run: `child = await run.call("researcher", "wheels")`.

        A durable step: over all attempts it is called once. The input is text, a message, several messages, or any
        other JSON value. It speaks on a thread of its own unless one is named. With `stream` what it says is said here
        too, in a lane of its own, by `name`. `call_id` is the tool call that it answers. Raises RunFailed unless it
        succeeded, or `check` is false. When this run ends first, the core cancels the other one.
        """
        return children.call(
            self._scope,
            agent_id,
            input,
            thread_id=thread_id,
            stream=stream,
            name=name,
            call_id=call_id,
            options=options,
            metadata=metadata,
            check=check,
        )

    async def say(self, output: str | AnyOutput | Mapping[str, object]) -> None:
        """Send text or an output now, as a `yield` of the handler does. Inside a step it is part of the step."""
        await self._scope.say(output)

    @property
    def blocking(self) -> Blocking:
        """The same for sync code, which runs in a thread: `answer = run.blocking.ask("Which size?")`."""
        from penstock.blocking import Blocking

        return Blocking(self)


class Step(Durable):
    """One call of a step's function. A function gets it by a first parameter that is annotated so."""

    def __init__(self, scope: Scope) -> None:
        self._step = scope

    @property
    def _own_scope(self) -> Scope:
        return self._step

    @property
    def key(self) -> str:
        """The same in every attempt, and for no other step of any run: an idempotency key for what it does outside."""
        return f"{self._step.attempt.run_id}/{self._step.key}"
