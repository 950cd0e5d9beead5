"""Percentiles of what was measured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence


def percentile(values: Iterable[float], percent: float) -> float:
    """Return the smallest value that at least so many percent of all do not exceed (nearest rank).

    It is one of the values, never something between two. Raises ValueError when there is none.
    """
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values, no percentile")
    return ordered[max(math.ceil(len(ordered) * percent / 100), 1) - 1]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return p50, p99 and the maximum."""
    return {"p50": percentile(values, 50), "p99": percentile(values, 99), "max": max(values)}
