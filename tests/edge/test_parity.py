"""One run, every protocol: whoever reads it has the same text, the same calls and results, and the same ending.

What native clients read is the measure. What a protocol cannot leave out or cannot say stands in its `Manner`.
"""

from __future__ import annotations

import pytest

from tests.edge import parity_readers as readers
from tests.edge.parity_readers import Manner, Told
from tests.edge.test_ag_ui_golden import legs_of, watched
from tests.golden.golden import VARIANTS

COMPLETED = ("completed", "length", "content_filter", "client_tools")

ENDINGS = {
    "chat": ("stop", "length", "content_filter", "tool_calls", "error", "stop", "stop"),
    "ai_sdk": ("stop", "length", "content-filter", "tool-calls", "error", "abort", "tool-calls"),
    "ag_ui": ("success", "success", "success", "success", "error", "cancelled", "interrupt"),
    "responses": (
        "completed",
        "incomplete max_output_tokens",
        "incomplete content_filter",
        "completed",
        "failed",
        "cancelled",
        "completed",
    ),
}
"""What each protocol calls the endings below."""

NATIVE = (*COMPLETED, "failed", "cancelled", "waiting")


def expected(name: str, protocol: str, manner: Manner) -> Told:
    told = readers.read_native(readers.native(VARIANTS[name]), manner)
    told.ending = ENDINGS[protocol][NATIVE.index(told.ending)]
    return told


def test_every_ending_is_compared() -> None:
    endings = {readers.read_native(readers.native(events), Manner()).ending for events in VARIANTS.values()}

    assert endings == set(NATIVE)


def test_the_measure_says_what_the_run_said() -> None:
    told = readers.read_native(readers.native(VARIANTS["everything"]), Manner())

    assert told.text == (
        "Let me look. Both. Done.See [1]. And the chart:I ask a colleague. Hurrying. First. A plan. Found."
        "May I book? Booked."
    )
    assert [(call.tool, call.arguments, call.result) for call in told.calls] == [
        ("weather", {"city": "Bern"}, '{"sky":"clear"}'),
        ("search", {"q": 1}, '["one","two"]'),
        ("fetch", {}, readers.FAILED),
        ("draw", {}, "drawn"),
        ("helper", {"task": "check"}, "checked"),
        ("search", {"n": 1}, "1"),
        ("book", {"seats": 2}, '{"booking":"B7"}'),
    ]
    assert told.ending == "completed"


@pytest.mark.parametrize("name", VARIANTS)
def test_a_socket_tells_what_a_stream_tells(name: str) -> None:
    assert readers.websocket(VARIANTS[name]) == readers.native(VARIANTS[name])


@pytest.mark.parametrize("name", VARIANTS)
def test_ag_ui_tells_the_same(name: str) -> None:
    manner = Manner(failures_are_words=True)

    assert readers.read_ag_ui(watched(VARIANTS[name])) == expected(name, "ag_ui", manner)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_ai_sdk_tells_the_same(name: str) -> None:
    manner = Manner(keeps_retracted=True)

    assert readers.read_ai_sdk(VARIANTS[name], legs_of(VARIANTS[name])) == expected(name, "ai_sdk", manner)


@pytest.mark.parametrize("name", VARIANTS)
def test_responses_tell_the_same(name: str) -> None:
    manner = Manner(result_is_text=True)

    assert readers.read_responses(VARIANTS[name], legs_of(VARIANTS[name])) == expected(name, "responses", manner)


@pytest.mark.parametrize("name", VARIANTS)
def test_chat_completions_tell_the_same(name: str) -> None:
    manner = Manner(keeps_retracted=True, asks_in_text=True, result_is_text=True, own_calls=False)
    events = VARIANTS[name]

    legs = [readers.read_chat(events, leg) for leg in range(legs_of(events))]
    whole = Told("".join(leg.text for leg in legs), [call for leg in legs for call in leg.calls], legs[-1].ending)

    assert whole == expected(name, "chat", manner)
