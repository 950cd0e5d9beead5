"""What a run's events add up to, as far as any protocol needs it to go on from the middle.

Owns the running sum of a log: parts, open steps and questions, the leg, what was retracted, usage, the end. It
refuses to know any protocol, and it does no I/O: an encoder feeds it the events from seq 1 on and asks it what it
must know to write the next frame. It keeps what parts became, not how they were streamed: deltas leave no trace, so
an encoder may keep them to itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar, assert_never

from google.protobuf.message import Message

from penstock.v1.event_pb2 import Event, MessageStarted, PartStarted, RunEnded, RunResumed, StepStarted
from penstock.v1.message_pb2 import Part
from penstock.v1.run_pb2 import InputRequest, Run, Usage

Kept = TypeVar("Kept", bound=Message)


@dataclass(frozen=True, slots=True)
class FoldedPart:
    """A part of the run's output: as it started while it is open, whole once it has ended."""

    part: Part
    message: MessageStarted
    leg: int
    is_open: bool


class Fold:
    """The sum of all events fed so far. Attributes are for reading; only `feed` changes them."""

    def __init__(self) -> None:
        self.run = Run()  # as created, from the first event
        self.attempt = 0
        self.leg = 0
        self.parts: dict[int, FoldedPart] = {}  # by ordinal, retracted ones included
        self.retracted: set[int] = set()
        self.open_steps: dict[int, StepStarted] = {}
        self.step_count = 0
        self.open_inputs: dict[str, InputRequest] = {}
        self.reported: list[Usage] = []  # one per model call
        self.is_waiting = False
        self.end: RunEnded | None = None
        self._messages: dict[str, MessageStarted] = {}  # the open ones
        self._used_before = Usage()  # in earlier legs

    @property
    def has_leg_ended(self) -> bool:
        """True when nothing more comes before somebody answers, or ever."""
        return self.is_waiting or self.end is not None

    @property
    def usage(self) -> Usage:
        """All tokens of all models and attempts: what the end says, before it the sum of what was reported."""
        return _total(self.reported if self.end is None else self.end.usage)

    @property
    def leg_usage(self) -> Usage:
        """The same of this leg alone, for protocols whose answer is one leg: clients add answers up."""
        used, before = self.usage, self._used_before
        used.input_tokens -= before.input_tokens
        used.output_tokens -= before.output_tokens
        used.cached_input_tokens -= before.cached_input_tokens
        used.cache_write_tokens -= before.cache_write_tokens
        used.reasoning_tokens -= before.reasoning_tokens
        used.cost_usd -= before.cost_usd
        return used

    def said(self, *, leg: int | None = None) -> Iterator[Part]:
        """Yield the parts that count and lie in the main lane, by ordinal; those of one leg when it is given."""
        for ordinal, folded in sorted(self.parts.items()):
            in_leg = leg is None or folded.leg == leg
            if in_leg and not folded.message.lane and ordinal not in self.retracted:
                yield folded.part

    def feed(self, event: Event) -> None:
        """Add the next event."""
        match event.WhichOneof("payload"):
            case "part_delta":
                pass
            case "part_started":
                self._start(event.part_started)
            case "part_ended":
                self._finish(event.part_ended.part)
            case "message_started":
                self._messages[event.message_started.message.id] = _own(event.message_started)
            case "message_ended":
                del self._messages[event.message_ended.message_id]
            case "step_started":
                self.open_steps[event.step_started.step] = _own(event.step_started)
                self.step_count += 1
            case "step_ended":
                del self.open_steps[event.step_ended.step]
            case "usage_reported":
                self.reported.append(_own(event.usage_reported.usage))
            case "input_requested":
                self.open_inputs[event.input_requested.input.id] = _own(event.input_requested.input)
            case "input_resolved":
                del self.open_inputs[event.input_resolved.input_id]
            case "run_queued":
                self.run = _own(event.run_queued.run)
            case "run_started":
                self.attempt = event.run_started.attempt
            case "run_waiting":
                self.is_waiting = True
            case "run_resumed":
                self._resume(event.run_resumed)
            case "run_retrying":
                self.retracted.update(event.run_retrying.retracted_ordinals)
            case "run_ended":
                self.end = _own(event.run_ended)
            case "message_received" | "state_patched" | "child_started" | "child_ended" | "custom" | None:
                pass
            case unheard_of:
                assert_never(unheard_of)

    def _resume(self, resumed: RunResumed) -> None:
        self.is_waiting = False
        self.leg = resumed.leg
        self._used_before = self.usage

    def _start(self, started: PartStarted) -> None:
        message = self._messages[started.message_id]
        self.parts[started.part.ordinal] = FoldedPart(_own(started.part), message, self.leg, is_open=True)

    def _finish(self, whole: Part) -> None:
        started = self.parts[whole.ordinal]
        self.parts[whole.ordinal] = FoldedPart(_own(whole), started.message, started.leg, is_open=False)


def _own(message: Kept) -> Kept:
    """Return a copy. A part of an event would keep the memory of all events that were decoded with it."""
    own = type(message)()
    own.CopyFrom(message)
    return own


def _total(usages: Iterable[Usage]) -> Usage:
    total = Usage()
    for usage in usages:
        total.input_tokens += usage.input_tokens
        total.output_tokens += usage.output_tokens
        total.cached_input_tokens += usage.cached_input_tokens
        total.cache_write_tokens += usage.cache_write_tokens
        total.reasoning_tokens += usage.reasoning_tokens
        total.cost_usd += usage.cost_usd
    return total
