"""The steps of one run: numbers, lanes, the tree of durable ones, and what a retry takes back (ENGINE.md, section E).

A *scope* is the handler ("") or a durable step, by its key. Keys and parents are not in the events: they come from the
writer, or after a rebuild from the store (`StepKey`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from penstock.v1.event_pb2 import StepEnded, StepStarted
from penstock.v1.message_pb2 import Completion

HANDLER = ""


@dataclass(frozen=True, slots=True)
class StepKey:
    """What the store knows of a durable step and its events do not say."""

    key: str
    """Path of name and ordinal, stable over attempts."""
    parent_key: str = HANDLER
    """The step around it."""
    args_hash: bytes = b""
    """Of its arguments, as the handler gave them."""


@dataclass(slots=True, eq=False)
class Step:
    """A step as its events tell it. Loop steps have no key."""

    number: int
    key: str
    parent_key: str
    args_hash: bytes
    lane: str
    started_seq: int
    ended_seq: int = 0
    is_completed: bool = False
    """Durable, and its result was recorded: a retry does not run it again."""


@dataclass(frozen=True, slots=True)
class _Placed:
    """Where a part began."""

    ordinal: int
    seq: int
    scope: str


class Steps:
    """All steps of the run, and the parts since the last retry with the scope that each belongs to."""

    def __init__(self, keys: Mapping[int, StepKey]) -> None:
        self.keys = dict(keys)
        """By the seq of StepStarted."""
        self.open: dict[int, Step] = {}
        self.last_number = 0
        self.loop_count = 0
        """Turns of the agent's loop so far, of all attempts."""
        self._by_key: dict[str, Step] = {}
        self._lane_scopes: dict[str, str] = {}
        self._parts: list[_Placed] = []
        self._questions: list[tuple[int, str]] = []
        """Seq and scope of each InputRequested."""

    def get(self, key: str) -> Step | None:
        """Return the newest step with this key."""
        return self._by_key.get(key)

    def newest_loop_step(self, lane: str) -> Step | None:
        """Return the loop step that an end without a key means."""
        return next((s for s in reversed(self.open.values()) if not s.key and s.lane == lane), None)

    def start(self, event: StepStarted, seq: int) -> None:
        key = self.keys.get(seq, StepKey(""))
        step = Step(event.step, key.key, key.parent_key, key.args_hash, event.lane, seq)
        self.loop_count += event.number > 0
        self.open[step.number] = step
        self.last_number = step.number
        if step.key:
            self._by_key[step.key] = step

    def end(self, event: StepEnded, seq: int) -> Step:
        step = self.open.pop(event.step)
        step.ended_seq = seq
        step.is_completed = event.durable and event.completion == Completion.COMPLETION_COMPLETE
        return step

    # ── scopes ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def scope(self, lane: str) -> str:
        """Return the scope that output in this lane belongs to: the innermost open durable step of the lane."""
        open_here = (s.key for s in reversed(self.open.values()) if s.key and s.lane == lane)
        return next(open_here, self._lane_scopes.get(lane, HANDLER))

    def start_child(self, child_lane: str, caller_lane: str) -> None:
        """A child run speaks in the scope of its caller."""
        self._lane_scopes[child_lane] = self.scope(caller_lane)

    def place_part(self, ordinal: int, lane: str, seq: int) -> None:
        self._parts.append(_Placed(ordinal, seq, self.scope(lane)))

    def place_question(self, ask_key: str, seq: int) -> None:
        """A question is a child of the step whose key and "/" its own key begins with."""
        inside = [key for key in self._by_key if ask_key.startswith(f"{key}/")]
        self._questions.append((seq, max(inside, key=len, default=HANDLER)))

    # ── retries ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def retracted(self) -> list[int]:
        """Return the parts that a retry now takes back, ascending (ENGINE.md E5).

        Kept: what lies inside a completed step, and in every other scope its direct parts before its last anchored
        child. Steps are never un-anchored, so what one retry kept every later one keeps, and it is not asked again.
        """
        borders = self._borders()
        return [
            part.ordinal
            for part in self._parts
            if part.seq > borders.get(part.scope, 0) and not self._is_inside_completed(part.scope)
        ]

    def abandoned(self) -> list[Step]:
        """Return the open steps that a retry ends; an anchored one stays open and goes on in the next attempt (E6)."""
        borders = self._borders()
        return [step for step in self.open.values() if not step.key or step.key not in borders]

    def retry(self) -> None:
        """Everything so far is decided for good."""
        self._parts.clear()

    def _borders(self) -> dict[str, int]:
        """Return for each scope with an anchored child the seq where the last one began."""
        borders: dict[str, int] = {}
        for started_seq, scope in self._anchors():
            borders[scope] = max(started_seq, borders.get(scope, 0))
        return borders

    def _anchors(self) -> Iterator[tuple[int, str]]:
        """Yield (seq, scope) of every anchored child: questions, completed steps, and all steps around them.

        A question anchors from the moment it is asked, not from its answer: the answer may come while no handler runs,
        and the next one is then not going to repeat what was said before the question.
        """
        completed = [step for step in self._by_key.values() if step.is_completed]
        leaves = self._questions + [(step.started_seq, step.parent_key) for step in completed]
        for started_seq, scope in leaves:
            yield started_seq, scope
            for around in self._around(scope):
                yield around.started_seq, around.parent_key

    def _around(self, scope: str) -> Iterator[Step]:
        """Yield the step of this scope and those around it, innermost first."""
        seen: set[str] = set()
        while (step := self._by_key.get(scope)) is not None and scope not in seen:
            seen.add(scope)
            yield step
            scope = step.parent_key

    def _is_inside_completed(self, scope: str) -> bool:
        return any(step.is_completed for step in self._around(scope))
