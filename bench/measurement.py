"""What a scenario brings back."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Measurement:
    """Figures by the names that `targets.py` knows, without the scenario's own."""

    figures: dict[str, float]
    unit: str = "event"
    """What the CPU time is divided by: an event, or a run."""
    cpu_micros: dict[str, float] = field(default_factory=dict)
    """CPU time of each process per unit."""
    elsewhere: float = 0.0
    """Cores that were busy with something else meanwhile."""
    detail: dict[str, float] = field(default_factory=dict)
    """What helps to read the figures; only in the JSON."""
