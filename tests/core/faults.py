"""A real store with gates: a call can be held before or after it was carried out, or answered with an error.

What is injected is what happens to databases: slowness, a lost answer, a death. What the store does is never replaced.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from core_service.domain.errors import StoreUnavailable
from core_service.ports import Store

WAIT = 10.0
"""Seconds that a test waits for what must happen; far more than anything takes."""

Matches = Callable[..., bool]

PARTS = ("retention", "schedules", "webhooks")
"""Ports within the store's. The gates of their methods have names like `schedules.refuse`."""


class Gate:
    """Holds the calls of one method that match, once each has come as far as the gate stands."""

    def __init__(self, method: str, *, after: bool, when: Matches, error: Exception | None, times: int) -> None:
        self.method = method
        self.after = after
        self.when = when
        self.error = error
        self.times = times
        self.hits = 0
        self._reached = asyncio.Event()
        self._opened = asyncio.Event()

    def open(self) -> None:
        """Let everything pass from now on."""
        self.times = 0
        self._opened.set()

    async def reached(self) -> None:
        """Return once a call stands at the gate."""
        async with asyncio.timeout(WAIT):
            await self._reached.wait()

    async def pass_through(self) -> None:
        """Called by the store for a call that stands here."""
        self.hits += 1
        self._reached.set()
        await self._opened.wait()
        if self.error is not None:
            raise self.error


class GatedStore:
    """Delegates everything to `inner`, through the gates that a test has put up."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner
        self._gates: list[Gate] = []
        self._dead = False
        self._calls: list[tuple[str, tuple[Any, ...]]] = []

    def calls_of(self, method: str) -> list[tuple[Any, ...]]:
        """The positional arguments of all calls of a method so far."""
        return [args for name, args in self._calls if name == method]

    def hold(self, method: str, *, after: bool = False, when: Matches = lambda *a, **k: True, times: int = 1) -> Gate:
        """Hold the next calls of a method; `after` holds the answer of what has been carried out."""
        gate = Gate(method, after=after, when=when, error=None, times=times)
        self._gates.append(gate)
        return gate

    def fail(
        self,
        method: str,
        *,
        after: bool = False,
        when: Matches = lambda *a, **k: True,
        times: int = 1,
        error: Exception | None = None,
    ) -> Gate:
        """Answer the next calls of a method with an error; `after` carries them out and loses the answer."""
        gate = Gate(method, after=after, when=when, error=error or StoreUnavailable("lost"), times=times)
        gate._opened.set()
        self._gates.append(gate)
        return gate

    def die(self) -> None:
        """From now on nothing reaches the database and nothing comes back, as if the process had been killed."""
        self._dead = True
        for gate in self._gates:
            gate.error = gate.error or StoreUnavailable("killed")
            gate.open()

    def __getattr__(self, name: str) -> Any:
        if name in PARTS:
            return GatedPart(self, name, getattr(self._inner, name))
        return self.gated(name, getattr(self._inner, name))

    def gated(self, name: str, method: Any) -> Any:
        """A method of the store, behind the gates that have its name."""
        if not inspect.iscoroutinefunction(method):
            return method

        async def call(*args: object, **kwargs: object) -> Any:
            self._check_alive()
            self._calls.append((name, args))
            gate = self._gate(name, *args, **kwargs)
            if gate is not None and not gate.after:
                await gate.pass_through()
                self._check_alive()
            result = await method(*args, **kwargs)
            if gate is not None and gate.after:
                await gate.pass_through()
            self._check_alive()
            return result

        return call

    def _check_alive(self) -> None:
        if self._dead:
            raise StoreUnavailable("killed")

    def _gate(self, name: str, *args: object, **kwargs: object) -> Gate | None:
        for gate in self._gates:
            if gate.method == name and gate.times > 0 and gate.when(*args, **kwargs):
                gate.times -= 1
                return gate
        return None


class GatedPart:
    """A port within the store's, through the same gates."""

    def __init__(self, store: GatedStore, name: str, inner: object) -> None:
        self._store = store
        self._name = name
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return self._store.gated(f"{self._name}.{name}", getattr(self._inner, name))
