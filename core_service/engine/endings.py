"""The ends of owned runs: the owner decides, and its first terminal event is the one (ENGINE.md D2)."""

from __future__ import annotations

from core_service.engine.journal import Journal
from core_service.engine.owned import OwnedRun
from core_service.ports import Clock
from penstock.v1.run_pb2 import EndReason, RunError


class Endings:
    """Ends runs on their grammars; the journal commits it."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock

    def end(self, owned: OwnedRun, reason: EndReason.ValueType, error: RunError | None = None) -> None:
        """End a run, unless it has ended."""
        if owned.grammar.ended is None:
            owned.grammar.end(reason, self._clock.now(), error=error)
        self._journal.mark(owned)

    def fail(self, owned: OwnedRun, reason: EndReason.ValueType, message: str) -> None:
        """End a run FAILED, with the reason's name as its code."""
        code = EndReason.Name(reason).removeprefix("END_REASON_")
        self.end(owned, reason, RunError(code=code, message=message))
