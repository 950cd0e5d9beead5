"""Durable steps: run a function once, record what it returned, and give that back when the handler is started again.

A step is at least once and recorded once: its function may run again when the process dies between its effect and the
record. Owns what a step does from its call to its record; its key, lane and scope are those of `scopes.py`.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import cast

import msgspec

from penstock import wire
from penstock.begun import Begun
from penstock.errors import InvalidOutput, NonDeterministic
from penstock.json_text import from_json, to_json
from penstock.scopes import Scope, current
from penstock.threads import in_thread

StepFunction = Callable[..., object]

MAX_RESULT = wire.MAX_OUTPUT
"""Bytes of a result as JSON."""
MAX_RESULTS = 4 << 20
"""Bytes of all results of a run."""


class Work:
    """A function with its arguments, ready to be called as a step."""

    def __init__(self, function: StepFunction, args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
        if _is(inspect.isgeneratorfunction, function) or _is(inspect.isasyncgenfunction, function):
            raise TypeError(f"{function!r} is a generator; a step returns its result, and says things by `Step.say`")
        self.args_hash = _hash(args, kwargs)
        self._function = function
        self._args = args
        self._kwargs = kwargs

    async def perform(self, scope: Scope, step: object) -> object:
        """Call it: async code in this task, other code in a thread. `step` is given to a function that takes one."""
        args = (step, *self._args) if takes_step(self._function, type(step)) else self._args
        scope.runner = asyncio.current_task()
        if _is(inspect.iscoroutinefunction, self._function):
            return await cast("Awaitable[object]", self._function(*args, **self._kwargs))

        def call() -> object:
            scope.runner = threading.get_ident()
            return self._function(*args, **self._kwargs)

        result = await in_thread(call, name=scope.key)
        scope.runner = asyncio.current_task()
        return await result if inspect.isawaitable(result) else result


def begin(
    scope: Scope, name: str, work: Work, step_of: Callable[[Scope], object], *, caller: object = None
) -> Coroutine[object, object, object]:
    """Call a step: it has its key and its place from now on, and runs when it is awaited.

    `caller` is the thread that waits for it; else it is the task that awaits it.
    """
    key = scope.begin(name)
    return Begun(_perform(scope, key, name, work, step_of, caller), lambda: scope.over(key))


async def _perform(
    scope: Scope, key: str, name: str, work: Work, step_of: Callable[[Scope], object], caller: object
) -> object:
    recorded = recall(scope, key, work.args_hash)
    if recorded is not None:
        return from_json(recorded)
    inner = scope.open(key, name=name, args_hash=work.args_hash, caller=caller or asyncio.current_task())
    with inner:
        before = current.get()
        current.set(inner)
        try:
            result = await work.perform(inner, step_of(inner))
        finally:
            current.set(before)
        inner.check_complete()
        result_json = to_record(inner, result)
        await record(inner, result_json)
    return from_json(result_json)


def recall(scope: Scope, key: str, args_hash: bytes) -> str | None:
    """The result that an earlier attempt recorded."""
    known = scope.attempt.replay.completed(key)
    if known is None:
        return None
    if known.args_hash and known.args_hash != args_hash:
        message = f"step {key!r} was finished before with other arguments."
        raise scope.attempt.fail(NonDeterministic(message))
    return known.result_json


async def record(step: Scope, result_json: str) -> None:
    """Record the result of a step, and return once it is stored (ENGINE.md C3)."""
    attempt = step.attempt
    attempt.result_bytes += len(result_json.encode())
    if attempt.result_bytes > MAX_RESULTS:
        raise InvalidOutput(f"with the result of {step} those of the run have more than {MAX_RESULTS:,} bytes")
    await attempt.outbox.room()
    await attempt.outbox.stored(step.close(result_json))


def to_record(step: Scope, result: object) -> str:
    """A result as what is recorded. Raises InvalidOutput, naming the step."""
    try:
        text = to_json(result)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidOutput(f"the result of {step} cannot be written as JSON: {error}") from error
    size = len(text.encode())
    if size > MAX_RESULT:
        raise InvalidOutput(f"the result of {step} has {size:,} bytes as JSON; it may have {MAX_RESULT:,}")
    return text


def takes_step(function: StepFunction, step: type) -> bool:
    """Whether the first parameter of a function is annotated as a step."""
    try:
        signature = inspect.signature(function, eval_str=True)
    except NameError:  # names that only a type checker sees
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some builtins have none
        return False
    first = next(iter(signature.parameters.values()), None)
    if first is None:
        return False
    if isinstance(first.annotation, str):
        return first.annotation.rpartition(".")[2] == step.__name__
    return first.annotation is step


def _is(is_form: Callable[[object], bool], function: StepFunction) -> bool:
    return is_form(function) or is_form(getattr(function, "__call__", None))  # noqa: B004


def _hash(args: tuple[object, ...], kwargs: Mapping[str, object]) -> bytes:
    """Equal for equal arguments, in any process. What JSON cannot say counts by its type."""
    try:
        text = _ARGUMENTS.encode((args, kwargs))
    except (TypeError, ValueError, RecursionError):
        kinds = [_kind(value) for value in (*args, *kwargs.values())]
        text = _ARGUMENTS.encode((kinds, list(kwargs)))
    return hashlib.sha256(text).digest()[:16]


def _kind(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _plain(value: object) -> object:
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        return dump(mode="json")
    return _kind(value)


_ARGUMENTS = msgspec.json.Encoder(enc_hook=_plain, order="deterministic")
