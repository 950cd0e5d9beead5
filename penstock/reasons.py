"""The reasons of ends as people read them: `USER` for END_REASON_USER."""

from __future__ import annotations

from typing import cast

from penstock.v1.run_pb2 import EndReason


def reason_name(reason: EndReason.ValueType) -> str:
    """The name of a reason; the number of one that this SDK does not know."""
    try:
        return EndReason.Name(reason).removeprefix("END_REASON_")
    except ValueError:
        return str(reason)


def reason_number(name: str) -> EndReason.ValueType:
    """The reason that `reason_name` gave this name."""
    return cast("EndReason.ValueType", int(name)) if name.isdigit() else EndReason.Value(f"END_REASON_{name}")
