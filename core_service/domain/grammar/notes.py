"""What the grammar decides that is no event, or not only one: for the store, in the transaction of the events.

Steering messages are named by their ids; their places in the inbox are the store's affair.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from core_service.domain.records import QuestionRow, StepRow


@dataclass(slots=True)
class Notes:
    """Collected until taken."""

    steps: dict[str, StepRow] = field(default_factory=dict)
    """By key."""
    asked: list[QuestionRow] = field(default_factory=list)
    resolved: list[tuple[str, int]] = field(default_factory=list)
    """(input id, seq)"""
    received: list[tuple[str, int]] = field(default_factory=list)
    """(message id, seq)"""
    read: list[tuple[str, int]] = field(default_factory=list)
    """(message id, number of the read)"""

    def __bool__(self) -> bool:
        return bool(self.steps or self.asked or self.resolved or self.received or self.read)
