"""The scopes of one attempt, the handler and its durable steps: what each says, where, and what it may not say now.

Owns keys (ENGINE.md E1), lanes (E2), the silence of a scope beside its own steps (E3), the borders of parts (E4),
and what a replay does not say again (E6). It runs no code, and does not know what becomes of a step or a question.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Self

from penstock.encoding import output_records, text_records, to_output
from penstock.errors import InvalidOutput, NonDeterministic, OutputDuringStep
from penstock.json_text import mend
from penstock.v1.message_pb2 import Completion
from penstock.v1.worker_service_pb2 import MessageOutput, Output, StepEndedOutput, StepStartedOutput

if TYPE_CHECKING:
    from penstock.attempt import Attempt

MAX_KEY = 256
"""Characters of a key, names and ordinals of all steps around included."""

current: ContextVar[Scope | None] = ContextVar("penstock_scope", default=None)
"""The scope whose code runs here: a step that is called from inside another one is a step of that one."""


class Scope:
    """The handler, or one call of a step's function."""

    def __init__(self, attempt: Attempt, key: str = "", lane: str = "", around: Scope | None = None) -> None:
        self.attempt = attempt
        self.key = key
        self.lane = lane
        self.around = around
        self.runner: object = None
        """The task or the thread that its code runs in; a step that another one awaits runs beside it."""
        self.is_plain = False
        """Nothing to mind: text goes straight into the outbox. Only ever true for the handler."""
        self.running: set[Scope] = set()
        """Its steps whose functions run."""
        self.waiting = 0
        """Questions of its own that its code waits for."""
        self.is_calling = False
        """It waits for a child run."""
        self._is_closed = False
        self._ordinals: Counter[str] = Counter()
        self._begun: dict[str, None] = {}
        """Its steps that were called and are not over."""
        self._other_lanes: set[str] = set()
        self._is_bordered = False
        """The parts in its lane were ended for a step, and it is silent since."""

    # ── what it says ─────────────────────────────────────────────────────────────────────────────────────────────────

    def records(self, value: object) -> list[bytes]:
        """What of a value is to be sent now. Raises InvalidOutput, and then nothing of it may be."""
        if self.is_plain and isinstance(value, str):
            return text_records(value)
        records = self._encode(value)
        if self._begun:
            step = next(iter(self._begun))
            raise OutputDuringStep(f"{self} says something while its step {step!r} is not over")
        if self.attempt.is_mute or self.attempt.replay.to_come(self.key):
            return []
        self.attempt.idleness.stir()
        return records

    async def say(self, value: object) -> None:
        """Send a value, and wait while there is no room."""
        outbox = self.attempt.outbox
        await outbox.room()
        for record in self.records(value):
            if not outbox.add(record):
                await outbox.room()

    def refresh(self) -> None:
        """Something that `records` minds has changed."""
        attempt = self.attempt
        self.is_plain = not (
            self.key or self._begun or attempt.is_mute or attempt.idleness.waiting or attempt.replay.to_come(self.key)
        )

    def _encode(self, value: object) -> list[bytes]:
        output = to_output(value)
        if output.lane and self.key:
            raise InvalidOutput(
                f"{self} says something in the lane {output.lane!r}; inside a step there is only its own"
            )
        if output.lane:
            self._other_lanes.add(output.lane)
        elif self.lane:
            output = replace(output, lane=self.lane)
        return output_records(output)

    @property
    def is_starting(self) -> bool:
        """A step was called that does not run yet."""
        return len(self._begun) > len(self.running)

    # ── its steps and questions ──────────────────────────────────────────────────────────────────────────────────────

    def next_key(self, name: str, *, what: str = "step") -> str:
        """The key of the next step or question of this name."""
        if not name or "/" in name:
            raise ValueError(f"{name!r} is no name of a {what}: it is not empty and has no `/`")
        number = self._ordinals[name] + 1
        key = self.path(f"{name}#{number}")
        self._ordinals[name] = number
        return key

    def path(self, last: str) -> str:
        """A key inside this scope."""
        last = mend(last)
        key = f"{self.key}/{last}" if self.key else last
        if len(key) > MAX_KEY:
            raise ValueError(f"the key {key!r} has more than {MAX_KEY} characters: take shorter names")
        return key

    def begin(self, name: str) -> str:
        """A step is called. Until it is over, however that comes, this scope is silent."""
        self.attempt.check()
        key = self.next_key(name)
        self.attempt.replay.ask_for(key)
        self._begun[key] = None
        self.refresh()
        return key

    def over(self, key: str) -> None:
        """A step that was called has returned, or never began."""
        if key in self._begun:
            del self._begun[key]
            self._is_bordered = self._is_bordered and bool(self._begun)
            self.attempt.idleness.changed()

    def open(self, key: str, *, name: str, args_hash: bytes, caller: object, lane: str = "") -> Scope:
        """Start a step in the lane of its caller, or in one of its own: when it runs beside, or when one is given."""
        is_beside = caller != self.runner
        step = Scope(self.attempt, key, lane or (key if is_beside else self.lane), self)
        self.end_parts(own=step.lane != self.lane)
        started = StepStartedOutput(key=key, name=mend(name), parent_key=self.key, args_hash=args_hash)
        self.attempt.add(Output(lane=step.lane, step_started=started))
        self.running.add(step)
        self.attempt.idleness.changed()
        return step

    def end_parts(self, *, own: bool) -> None:
        """End what is open, so that each part lies wholly before or behind what comes now (E4).

        The core does this in the lane of a step or a question; the other lanes have to be told.
        """
        lanes = [*self._other_lanes, *([self.lane] if own and not self._is_bordered else [])]
        for lane in lanes:
            self.attempt.add(Output(lane=lane, message=MessageOutput()))
        self._other_lanes.clear()
        self._is_bordered = self._is_bordered or own

    @contextmanager
    def waits(self) -> Iterator[None]:
        """Its code waits for an answer."""
        self._wait(1)
        try:
            yield
        finally:
            self._wait(-1)

    @contextmanager
    def calling(self) -> Iterator[None]:
        """It waits for a child run."""
        self._call(1)
        try:
            yield
        finally:
            self._call(-1)

    def _wait(self, step: int) -> None:
        self.waiting += step
        self.attempt.idleness.waiting += step
        self.attempt.idleness.changed()

    def _call(self, step: int) -> None:
        self.is_calling = step > 0
        self.attempt.idleness.calling += step
        self.attempt.idleness.changed()

    # ── its end ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def check_complete(self) -> None:
        """Its code has returned: nothing that it did before may be missing (E8)."""
        if self._begun:
            raise RuntimeError(f"{self} returned before its step {next(iter(self._begun))!r}: await it")
        missing = self.attempt.replay.to_come(self.key)
        if missing:
            raise self.attempt.fail(
                NonDeterministic(
                    f"{self} was started again and did not ask for {missing!r}, which it had asked for before."
                )
            )

    def __enter__(self) -> Self:
        """The step runs; leaving ends it, without a result unless one was recorded."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._is_closed:
            self.close(None)
        if self.around is not None:
            self.around.running.discard(self)
        self.attempt.idleness.changed()

    def close(self, result_json: str | None) -> int:
        """The step is over, with a result or without. Returns the number of the output that says so."""
        self._is_closed = True
        ended = StepEndedOutput(key=self.key)
        if result_json is None:
            ended.completion = Completion.COMPLETION_INCOMPLETE
        else:
            ended.durable, ended.result_json = True, result_json
        self.attempt.replay.leave(self.key)
        return self.attempt.add(Output(lane=self.lane, step_ended=ended))

    def __str__(self) -> str:
        return f"the step {self.key!r}" if self.key else "the handler"
