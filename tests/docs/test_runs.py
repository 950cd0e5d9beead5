"""docs/runs.md, held against the contract: its tables are complete. That its blocks run is tested with all pages."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

from core_service.domain.runs import end_state
from penstock.flat_json import enum_names
from penstock.v1.run_pb2 import BusyPolicy, EndReason, RetryPolicy, RunState, UnreadPolicy
from tests.cli.up import ROOT

PAGE = (ROOT / "docs" / "runs.md").read_text(encoding="utf-8")


def rows(head: str) -> Mapping[str, str]:
    """The first two columns of the table that begins with this one, without backticks and remarks."""
    _, _, rest = PAGE.partition(f"\n| {head} ")
    assert rest, f"no table begins with {head}"
    lines = rest.partition("\n\n")[0].splitlines()[2:]
    cells = [[re.sub(r"\(.*\)|`", "", cell).strip() for cell in line.split("|")[1:3]] for line in lines]
    return dict(cells)


def test_every_reason_to_end_is_told_with_its_state() -> None:
    assert rows("reason") == {
        name.removeprefix("END_REASON_"): RunState.Name(end_state(number)).removeprefix("RUN_STATE_")
        for name, number in EndReason.items()
        if number
    }


@pytest.mark.parametrize(
    ("head", "policy"),
    [("`busy_policy`", BusyPolicy), ("`retry_policy`", RetryPolicy), ("`unread_policy`", UnreadPolicy)],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_policy_is_told(head: str, policy: EnumTypeWrapper) -> None:
    assert set(rows(head)) == {name for number, name in enum_names(policy.DESCRIPTOR).items() if number}
