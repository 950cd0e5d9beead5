"""Turns the loose outputs of workers into the well-formed log of a run. The rules stand in protos/README.md.

    Grammar ─► Speech · ToolUse · Reports · Lifecycle     what each output and each act of the core becomes
                 └► Scribe ─► Pen ─► Fold                 opens and closes · numbers and serialises · takes in

The state is the Fold alone, and the Fold is made of events alone. No I/O, no clock, no database.
"""

from core_service.domain.grammar.grammar import Grammar
from core_service.domain.grammar.steps import Step, StepKey

__all__ = ["Grammar", "Step", "StepKey"]
