"""Shows a run's events as they come, for `penstock run` and `penstock runs watch`, and knows where it stands."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import Protocol

from edge.event_json import event_object
from penstock.cli.client import INTERRUPTED
from penstock.cli.transcript import Transcript
from penstock.v1.event_pb2 import Event, RunEnded
from penstock.v1.run_pb2 import Run, RunState


class View(Protocol):
    """Where events are shown."""

    def feed(self, event: Event) -> None:
        """Shows one event, now."""
        ...


class JsonLines:
    """One JSON object per event on standard output, in the form of the REST API."""

    def feed(self, event: Event) -> None:
        """Writes one line."""
        sys.stdout.write(event_object(event).decode() + "\n")
        sys.stdout.flush()


def chosen_view(*, as_json: bool) -> View:
    """The view for programs, or that for people."""
    return JsonLines() if as_json else Transcript(sys.stdout, sys.stderr)


class Follower:
    """`show` may be called again with the events that follow, after `seq`."""

    def __init__(self, view: View, *, after: int = 0) -> None:
        self.seq = after
        self.end: RunEnded | None = None
        self._view = view

    async def show(self, events: AsyncIterator[Event]) -> None:
        """Shows them all."""
        async for event in events:
            self.seq = event.seq
            if event.HasField("run_ended"):
                self.end = event.run_ended
            self._view.feed(event)


def exit_code(ended: RunEnded | Run) -> int:
    """How a run ended, as shells count."""
    if ended.state == RunState.RUN_STATE_SUCCEEDED:
        return 0
    return INTERRUPTED if ended.state == RunState.RUN_STATE_CANCELLED else 1
