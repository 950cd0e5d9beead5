"""docs/retention.md and docs/schedules.md name the bounds that the code has."""

from __future__ import annotations

from core_service.adapters.sql import expiry
from core_service.config import CoreSettings
from core_service.domain.schedules import LABEL
from core_service.engine import retention
from core_service.ports import Kept
from tests.cli.up import ROOT


def page(name: str) -> str:
    """A page of docs/ in one line."""
    return " ".join((ROOT / "docs" / name).read_text(encoding="utf-8").split())


def test_the_bounds_of_a_portion_are_those_of_the_page() -> None:
    text = page("retention.md")

    assert f"about every {retention.PAUSE_SECONDS:.0f} s" in text
    assert f"at most {retention.RUNS_PER_PORTION} runs, {expiry.ROWS:,} rows and {expiry.BYTES >> 20} MiB" in text
    assert ", ".join(f"`{what.value}`" for what in (Kept.EVENTS, Kept.MESSAGES, Kept.RUNS)) in text


def test_the_settings_that_the_pages_name_exist() -> None:
    for name in ("keep_events", "keep_messages", "keep_runs", "request_retention"):
        assert f"`{name}`" in page("retention.md")
        assert name in CoreSettings.model_fields
    assert CoreSettings.model_fields["request_retention"].default == 86_400.0
    assert f"the label `{LABEL}`" in page("schedules.md")
