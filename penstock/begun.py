"""The coroutine of a step that was called.

A step begins where it is called, and its caller is silent until it is over. That has to be known even of a step that
nobody awaits.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import TypeVar

T = TypeVar("T")


class Begun(Coroutine[object, object, T]):
    """Runs another coroutine, and tells once that is over: returned, failed, cancelled before it began, or dropped."""

    def __init__(self, coroutine: Coroutine[object, object, T], over: Callable[[], None]) -> None:
        self._coroutine = coroutine
        self._over = over

    def send(self, value: object) -> object:
        try:
            return self._coroutine.send(value)
        except BaseException:  # StopIteration too: it has returned
            self._over()
            raise

    def throw(
        self,
        kind: type[BaseException] | BaseException,
        value: BaseException | object = None,
        traceback: TracebackType | None = None,
    ) -> object:
        error = kind if isinstance(kind, BaseException) else value if isinstance(value, BaseException) else kind()
        try:
            return self._coroutine.throw(error)
        except BaseException:
            self._over()
            raise

    def close(self) -> None:
        self._coroutine.close()
        self._over()

    def __await__(self) -> Generator[object, object, T]:
        try:
            return (yield from self._coroutine.__await__())
        finally:
            self._over()

    def __del__(self) -> None:
        self._over()
