"""Percentiles and verdicts."""

from __future__ import annotations

import pytest

from bench.report import verdict
from bench.stats import percentile
from bench.targets import Target


@pytest.mark.parametrize(
    ("percent", "expected"), [(0, 1), (1, 1), (50, 50), (50.1, 51), (98.9, 99), (99, 99), (99.1, 100), (100, 100)]
)
def test_a_percentile_is_the_nearest_rank(percent: float, expected: float) -> None:
    assert percentile(range(100, 0, -1), percent) == expected


@pytest.mark.parametrize(("values", "p50", "p99"), [([7.0], 7, 7), ([1.0, 9.0], 1, 9), ([3.0, 1.0, 2.0], 2, 3)])
def test_few_values_have_percentiles_too(values: list[float], p50: float, p99: float) -> None:
    assert (percentile(values, 50), percentile(values, 99)) == (p50, p99)


def test_no_values_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


@pytest.mark.parametrize(
    ("target", "value", "words"),
    [
        (Target("rate", "/s", 60, 120), 120, "aim"),
        (Target("rate", "/s", 60, 120), 119, "must"),
        (Target("rate", "/s", 60, 120), 59, "missed"),
        (Target("rate", "/s", 60, 120).on("postgresql"), 36, "must"),
        (Target("rate", "/s", 60, 120).on("postgresql"), 96, "aim"),
        (Target("time", "ms", 5, 2, better="less"), 2, "aim"),
        (Target("time", "ms", 6, 2, better="less").on("postgresql"), 10, "must"),
        (Target("time", "ms", 6, 2, better="less").on("postgresql"), 10.1, "missed"),
        (Target("rate", "/s", None, 120), 119, "below aim"),
        (Target("time", "ms"), 3, ""),
    ],
)
def test_a_figure_is_held_against_must_and_aim(target: Target, value: float, words: str) -> None:
    assert verdict(target, value) == words
