"""Whether an attempt does something, waits for child runs, or waits for answers and nothing else.

It looks one turn of the event loop after something has changed, and is not told of code that sleeps or waits for the
world: a question that is awaited counts, whatever else the handler does. When the run goes on, the core notices by
itself, so a `Wait` too early costs a leg and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from typing import TYPE_CHECKING

from penstock.v1.worker_service_pb2 import Output, WaitOutput

if TYPE_CHECKING:
    from penstock.attempt import Attempt
    from penstock.scopes import Scope


class Activity(Enum):
    """What an attempt does."""

    BUSY = "busy"
    CALLING = "calling"
    """It waits, at least for one child run."""
    WAITING = "waiting"
    """It waits for answers only."""


class Idleness:
    """The activity of one attempt. `tell` hears of each change."""

    def __init__(self, attempt: Attempt, tell: Callable[[Activity], None]) -> None:
        self.activity = Activity.BUSY
        self.waiting = 0
        """Answers that are waited for: what is said now ends the pause."""
        self.calling = 0
        """Child runs that are waited for."""
        self._attempt = attempt
        self._tell = tell
        self._waits_since = -1
        self._is_looking = False

    def stir(self) -> None:
        """Something was said, maybe in a thread: whoever waits for an answer waits anew."""
        if self.waiting and not self._is_looking:
            self._attempt.loop.call_soon_threadsafe(self._look_soon)

    def changed(self) -> None:
        """A scope begins or ends to do or to wait for something."""
        if self._attempt.is_mute:
            return
        self._attempt.handler.refresh()
        if self.waiting or self.calling or self.activity is not Activity.BUSY:
            self._look_soon()

    def _look_soon(self) -> None:
        if not self._is_looking:
            self._is_looking = True
            self._attempt.loop.call_soon(self._look)

    def _look(self) -> None:
        self._is_looking = False
        attempt = self._attempt
        if attempt.is_mute:
            return
        activity = self._now()
        if activity is Activity.WAITING and self._waits_since != attempt.outbox.last:
            self._waits_since = attempt.add(Output(wait=WaitOutput()))
        if activity is not self.activity:
            self.activity = activity
            self._tell(activity)

    def _now(self) -> Activity:
        innermost = [scope for scope in self._scopes() if not scope.running]
        if not all(scope.waiting or scope.is_calling for scope in innermost):
            return Activity.BUSY
        if any(scope.is_starting for scope in self._scopes()):
            return Activity.BUSY
        return Activity.WAITING if all(scope.waiting for scope in innermost) else Activity.CALLING

    def _scopes(self) -> Iterator[Scope]:
        """The handler and all steps that run."""
        scopes = [self._attempt.handler]
        for scope in scopes:
            scopes.extend(scope.running)
        return iter(scopes)
