"""The golden run is what its users take it for: well-formed, complete, and the same on every machine."""

from __future__ import annotations

import pytest

from core_service.domain.grammar import Grammar
from penstock.v1.event_pb2 import Event
from penstock.v1.run_pb2 import EndReason
from tests.golden.golden import VARIANTS, everything
from tests.grammar.checker import violations

PAYLOADS = [field.name for field in Event.DESCRIPTOR.oneofs_by_name["payload"].fields]


@pytest.mark.parametrize("name", VARIANTS)
def test_each_variant_is_well_formed(name: str) -> None:
    assert violations(VARIANTS[name], is_whole=name != "waiting") == []


def test_everything_holds_every_kind_of_event() -> None:
    held = {event.WhichOneof("payload") for event in VARIANTS["everything"]}

    assert sorted(set(PAYLOADS) - held) == []


def test_every_ending_that_a_protocol_tells_apart_is_there() -> None:
    ends = {EndReason.Name(events[-1].run_ended.reason).removeprefix("END_REASON_") for events in VARIANTS.values()}

    told_apart = "COMPLETED LENGTH CONTENT_FILTER CLIENT_TOOLS AGENT_ERROR REJECTED TIMEOUT WORKER_LOST USER"
    assert set(told_apart.split()) <= ends
    assert VARIANTS["waiting"][-1].HasField("run_waiting")


def test_it_is_the_same_every_time() -> None:
    assert everything().events() == VARIANTS["everything"]


@pytest.mark.parametrize("name", VARIANTS)
def test_each_variant_can_be_rebuilt(name: str) -> None:
    rebuilt = Grammar.rebuild(VARIANTS[name])

    assert rebuilt.seq == len(VARIANTS[name])
    assert (rebuilt.ended is None) == (name == "waiting")
