"""Runs a handler, whatever its form: async or sync, function or generator.

Owns what a yield does: the value goes into the run's outbox, the handler waits when that is full, and learns at its
`yield` that a value was refused or that the run is to stop. No task, future or lock per output; a handler that never
awaits gives way to the loop all the same. It does not know what a cancel or an error means for the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import cast

from penstock import wire
from penstock.errors import InvalidOutput
from penstock.json_text import to_json
from penstock.outputs import AnyOutput
from penstock.run import Run
from penstock.scopes import Scope
from penstock.threads import Handoff, in_thread

HandlerFunction = Callable[[Run], object]

TURN = 0.001
"""Seconds after which a handler that yields without awaiting gives way."""


class Handler:
    """A handler with its form found out."""

    def __init__(self, function: HandlerFunction) -> None:
        self._function = function
        self._drive = _form(function)
        self.is_interruptible = self._drive in (_drive_coroutine, _drive_async_generator)
        """A cancel can be raised in it. Code in a thread looks at `run.cancelled` instead."""

    async def run(self, run: Run, scope: Scope) -> str:
        """Run the handler to its end. Returns the JSON of its result, empty when it had none or it was output."""
        scope.runner = asyncio.current_task()
        result = await self._drive(self._function, run, scope)
        scope.check_complete()
        if result is None:
            return ""
        if isinstance(result, str | AnyOutput):
            await scope.say(result)
            return ""
        return _result_json(result)


def _result_json(result: object) -> str:
    try:
        text = to_json(result)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidOutput(f"the result cannot be written as JSON: {error}") from error
    if len(text.encode()) > wire.MAX_OUTPUT:
        raise InvalidOutput(f"the result has more than {wire.MAX_OUTPUT:,} bytes")
    return text


_Drive = Callable[[HandlerFunction, Run, Scope], Awaitable[object]]


def _form(function: HandlerFunction) -> _Drive:
    call = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
    for is_form, drive in _FORMS:
        if is_form(function) or is_form(call):
            return drive
    return _drive_function


async def _drive_coroutine(function: HandlerFunction, run: Run, scope: Scope) -> object:
    return await cast("Awaitable[object]", function(run))


async def _drive_async_generator(function: HandlerFunction, run: Run, scope: Scope) -> object:
    generator = cast("AsyncGenerator[object, None]", function(run))
    outbox = scope.attempt.outbox
    turn_over = time.monotonic() + TURN
    async with contextlib.aclosing(generator):
        step = generator.__anext__()
        while True:
            try:
                value = await step
            except StopAsyncIteration:
                return None
            try:
                for record in scope.records(value):
                    if not outbox.add(record):
                        await outbox.room()
                if time.monotonic() >= turn_over:
                    await asyncio.sleep(0)
                    turn_over = time.monotonic() + TURN
            except (InvalidOutput, asyncio.CancelledError) as error:
                step = generator.athrow(error)
            else:
                step = generator.__anext__()


async def _drive_function(function: HandlerFunction, run: Run, scope: Scope) -> object:
    return await in_thread(lambda: _call(function, run, scope), name=run.id)


async def _drive_generator(function: HandlerFunction, run: Run, scope: Scope) -> object:
    handoff = Handoff(scope.attempt.outbox)
    generator = cast("Generator[object, None, object]", function(run))
    return await in_thread(lambda: _exhaust(generator, scope, handoff), name=run.id)


def _call(function: HandlerFunction, run: Run, scope: Scope) -> object:
    """In the thread."""
    scope.runner = threading.get_ident()
    return function(run)


def _exhaust(generator: Generator[object, None, object], scope: Scope, handoff: Handoff) -> object:
    """In the thread. Returns what the generator returned."""
    scope.runner = threading.get_ident()
    with contextlib.closing(generator):
        try:
            value = next(generator)
            while True:
                try:
                    for record in scope.records(value):
                        handoff.put(record)
                    if scope.attempt.is_mute:
                        return None
                except InvalidOutput as error:
                    value = generator.throw(error)
                else:
                    value = next(generator)
        except StopIteration as stop:
            return cast("object", stop.value)


_FORMS: tuple[tuple[Callable[[object], bool], _Drive], ...] = (
    (inspect.isasyncgenfunction, _drive_async_generator),
    (inspect.iscoroutinefunction, _drive_coroutine),
    (inspect.isgeneratorfunction, _drive_generator),
)
