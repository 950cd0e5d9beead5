"""Durations as people write them."""

from __future__ import annotations

from datetime import timedelta

import click
import pytest

from penstock.cli.durations import DurationType, shown


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("30d", timedelta(days=30)),
        ("12h", timedelta(hours=12)),
        ("90m", timedelta(minutes=90)),
        ("1.5s", timedelta(seconds=1.5)),
        ("2w", timedelta(weeks=2)),
        ("forever", timedelta(0)),
    ],
)
def test_a_number_with_a_unit_is_a_duration(text: str, duration: timedelta) -> None:
    assert DurationType().convert(text, None, None) == duration
    assert shown(duration) == text


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1y", "1 d", "0d", "0.0000001s", "1e3s", "never"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        DurationType().convert(text, None, None)


def test_a_duration_is_shown_in_the_largest_unit_that_takes_it_whole() -> None:
    assert shown(timedelta(days=14)) == "2w"
    assert shown(timedelta(days=15)) == "15d"
    assert shown(timedelta(days=1, seconds=1)) == "86401s"
