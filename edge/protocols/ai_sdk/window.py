"""Which stretch of a run one response tells: from a leg on, to a pause or the end.

A run that waits ends its response. The answers come with another request, and its response tells what follows them.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from edge.fold import Fold
from penstock.v1.event_pb2 import Event

NEVER = 2**31


class Window:
    """Opens and closes with the run's events. Feed it each event once the fold has it; deltas may be left out."""

    def __init__(self, *, behind: AbstractSet[str] = frozenset(), last_leg: int = 0) -> None:
        self.is_open = False
        """What happens now is to be told."""
        self.is_over = False
        """Nothing more is to be told."""
        self._behind = behind  # the questions that were answered: the window opens behind them; empty: at once
        self._first_leg = NEVER if behind else 0
        self._last_leg = last_leg  # the pause that ends it is not one that had passed when the request came

    def feed(self, event: Event, fold: Fold) -> None:
        """Move on."""
        match event.WhichOneof("payload"):
            case "run_queued":
                self.is_open = not self._behind
            case "input_requested" if event.input_requested.input.id in self._behind:
                self._first_leg = min(self._first_leg, fold.leg + 1)
            case "run_resumed":
                self.is_open = fold.leg >= self._first_leg
            case "run_waiting":
                has_answers = self._behind >= fold.open_inputs.keys()
                self.is_over = self.is_open and fold.leg >= self._last_leg and not has_answers
            case "run_ended":
                self.is_open = self.is_over = True
            case _:
                pass
