"""The golden run as chat completions: what each variant says, and the same frames at every cut."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from edge.fold import Fold
from edge.protocols.openai_chat import ChatEncoder
from edge.protocols.openai_chat.answer import completion
from penstock.v1.event_pb2 import Event
from tests.golden.golden import VARIANTS

Said = list[str]

THOUGHT: Said = ["(They want )", "(the weather.)", "Let me look. "]
HELLO: Said = ["Good ", "morning."]
ASKED: Said = ["May I book? ", "\n\nBook two seats?", "stop"]

EXPECTED: dict[str, Said] = {
    "everything": [
        *THOUGHT,
        "Both. ",
        "Done.",
        "See [1]. ",
        "And the chart:",
        "I ask a colleague. ",
        "Hurrying. ",
        "First. ",
        "A plan. ",
        "Lost ",  # retracted later: it stays
        "Found.",
        *ASKED,
    ],
    "succeeded": [*HELLO, "stop"],
    "silent": ['{"answer":42}', "stop"],
    "tool": [*THOUGHT, "Clear.", "stop"],
    "two_tools": ["Both. ", "Done.", "stop"],
    "attachments": ["See [1]. ", "And the chart:", "stop"],
    "child": ["I ask a colleague. ", "Thanks.", "stop"],
    "length": [*HELLO, "length"],
    "content_filter": [*HELLO, "content_filter"],
    "client_tools": ["Look: ", "0 call_map show_map ", '0 {"zoom":', "0 3}", "tool_calls"],
    "failed": [*THOUGHT, "Now the ", "server_error TOOL_BROKEN"],
    "rejected": ["invalid_request_error OFF_TOPIC"],
    "cancelled": ["Wait. ", "stop"],
    "timeout": [*HELLO, "server_error TIMEOUT"],
    "queue_timeout": ["server_error QUEUE_TIMEOUT"],
    "worker_lost": [*THOUGHT, "Cle", "server_error WORKER_LOST"],
    "waiting": ASKED,
    "resumed": ASKED,
    "released": ASKED,
    "denied": ASKED,
    "input_expired": ASKED,
    "cancelled_while_waiting": ASKED,
    "retry": ["First. ", "A plan. ", "Lost ", "Found.", "stop"],
}
"""One entry per frame between the role and `[DONE]`; reasoning in brackets, calls as index and what is new."""


NEXT_LEG: dict[str, Said] = {
    "everything": ["Booked.", "stop"],
    "resumed": ["Booked.", "stop"],
    "released": ["Booked.", "stop"],
    "denied": ["Then not.", "stop"],
    "input_expired": ["server_error INPUT_EXPIRED"],
    "cancelled_while_waiting": ["stop"],
}
"""The same of the completion that begins with the answer."""


def stream(events: Sequence[Event], *, leg: int = 0, after: int = 0) -> bytes:
    encoder = ChatEncoder(leg=leg, includes_usage=True)
    made = [(event.seq, encoder.feed(event)) for event in events]
    return b"".join(frames for seq, frames in made if seq > after)


def said(frame: str) -> str:
    """Read one frame as `EXPECTED` writes it."""
    chunk: dict[str, Any] = json.loads(frame.removeprefix("data: "))
    if error := chunk.get("error"):
        return f"{error['type']} {error['code']}"
    [choice] = chunk["choices"]
    delta = choice["delta"]
    if calls := delta.get("tool_calls"):
        new = [str(calls[0]["index"]), calls[0].get("id"), calls[0]["function"].get("name")]
        return " ".join([*filter(None, new), calls[0]["function"]["arguments"]])
    if "reasoning_content" in delta:
        return f"({delta['reasoning_content']})"
    return str(choice["finish_reason"] or delta["content"])


@pytest.mark.parametrize(("name", "leg"), [*((name, 0) for name in VARIANTS), *((name, 1) for name in NEXT_LEG)])
def test_each_variant_says_what_is_expected(name: str, leg: int) -> None:
    role, *frames, done, end = stream(VARIANTS[name], leg=leg).decode().split("\n\n")
    if "error" not in frames[-1]:
        usage = json.loads(frames.pop().removeprefix("data: "))
        assert (usage["choices"], usage["usage"]["total_tokens"] >= 0) == ([], True)

    assert json.loads(role.removeprefix("data: "))["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [said(frame) for frame in frames] == (NEXT_LEG if leg else EXPECTED)[name]
    assert (done, end) == ("data: [DONE]", "")


@pytest.mark.parametrize(("name", "leg"), [*((name, 0) for name in VARIANTS), *((name, 1) for name in NEXT_LEG)])
def test_the_frames_are_the_same_at_every_cut(name: str, leg: int) -> None:
    events = VARIANTS[name]
    whole = stream(events, leg=leg)

    for cut in range(len(events) + 1):
        assert stream(events[:cut], leg=leg) + stream(events, leg=leg, after=cut) == whole


def test_every_later_leg_is_expected() -> None:
    assert NEXT_LEG.keys() == {name for name, log in VARIANTS.items() if any(e.HasField("run_resumed") for e in log)}


@pytest.mark.parametrize("name", sorted(VARIANTS.keys() - {"everything", "retry"}))  # these take text back
def test_a_blocking_answer_says_the_same_as_the_stream(name: str) -> None:
    *pieces, end = EXPECTED[name]
    fold = Fold()
    for event in VARIANTS[name]:
        fold.feed(event)
        if fold.has_leg_ended:
            break

    choice: Any = json.loads(json.dumps(completion(fold, shows_reasoning=True)))["choices"][0]

    shown = "".join(piece for piece in pieces if piece[0] not in "(0")
    assert (choice["message"]["content"] or "") == shown
    if " " not in end:
        assert choice["finish_reason"] == end


def test_a_blocking_answer_leaves_out_what_was_taken_back() -> None:
    fold = Fold()
    for event in VARIANTS["retry"]:
        fold.feed(event)

    choice: Any = completion(fold, shows_reasoning=True)["choices"]

    assert choice[0]["message"]["content"] == "First. A plan. Found."
