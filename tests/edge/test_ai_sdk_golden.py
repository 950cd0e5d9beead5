"""The golden run as UI message streams: what each variant says, in every window, and the same at every cut."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from edge.protocols.ai_sdk import MessageEncoder
from edge.protocols.ai_sdk.encoder import Prelude
from edge.protocols.ai_sdk.text import TextEncoder
from edge.protocols.ai_sdk.window import Window
from penstock.v1.event_pb2 import Event
from tests.golden.golden import VARIANTS

Said = list[str]

START = 'start run_1 {"runId":"run_1","threadId":"thr_1","agentId":"agent"}'
STEP, END_STEP = "start-step", "finish-step"
EMPTY_STEP = [STEP, END_STEP, 'message-metadata {"runId":"run_1"}']  # a client keeps a step only with what follows it


def text(part: int, *pieces: str, kind: str = "text") -> Said:
    mark = f'{{"penstock":{{"part":{part}}}}}'
    deltas = [f"{kind}-delta {part} {piece}" for piece in pieces]
    return [f"{kind}-start {part} {mark}", *deltas, f"{kind}-end {part}"]


def call(call_id: str, tool: str, *pieces: str, given: str = "", kind: str = " true") -> Said:
    deltas = [f"tool-input-delta {call_id} {piece}" for piece in pieces]
    whole = f"tool-input-available {call_id} {tool} {given or ''.join(pieces)}{kind}"
    return [f"tool-input-start {call_id} {tool}{kind}", *deltas, whole]


def usage(read: int, written: int) -> str:
    tokens = f'"inputTokens":{read},"outputTokens":{written},"totalTokens":{read + written}'
    return f'"usage":{{{tokens},"reasoningTokens":0,"cachedInputTokens":0}}'


HELLO = [START, STEP, *text(1, "Good ", "morning."), END_STEP]
WEATHER_CALL = ("call_weather", "weather", '{"city":', ' "Bern"}')
WEATHER = [
    START,
    STEP,
    *text(1, "They want ", "the weather.", kind="reasoning"),
    *text(2, "Let me look. "),
    *call(*WEATHER_CALL, given='{"city":"Bern"}', kind=" true Weather in Bern"),
    'tool-output-available call_weather {"sky":"clear"}',
    END_STEP,
]


def two_tools(first: int) -> Said:
    """Arguments interleave, and a tool runs while the other's arguments stream."""
    return [
        STEP,
        *text(first, "Both. "),
        "tool-input-start call_a search true",
        'tool-input-delta call_a {"q":',
        "tool-input-start call_b fetch true",
        "tool-input-delta call_b {",
        "tool-input-delta call_a 1}",
        'tool-input-available call_a search {"q":1} true',
        'tool-output-available call_a ["one","two"]',
        "tool-input-delta call_b }",
        "tool-input-available call_b fetch {} true",
        "tool-output-error call_b no such page",
        END_STEP,
    ]


def attachments(part: int, *before: str) -> Said:
    """A source lies inside the text that cites it; file and data end it."""
    start, *deltas, end = text(part, *before, "See [1]. ", "And the chart:")
    return [
        STEP,
        start,
        *deltas[:-1],
        "source-url https://pages.example/1 https://pages.example/1 A page",
        deltas[-1],
        end,
        "file https://files.example/chart.png image/png",
        'data-forecast bern {"days":3}',
        *call("call_draw", "draw", "{}"),
        "tool-output-available call_draw drawn",
    ]


def helper(part: int) -> Said:
    """The child speaks in a lane of its own, and is not shown."""
    given = call("call_helper", "helper", '{"task":"check"}')
    return [STEP, *text(part, "I ask a colleague. "), *given, "tool-output-available call_helper checked", END_STEP]


def retried(first: int, *, state: int, restored: str) -> Said:
    """What is taken back stays, marked."""
    return [
        STEP,
        *text(first, "First. "),
        END_STEP,
        STEP,
        *text(first + 1, "A plan. "),
        END_STEP,
        STEP,
        *text(first + 2, "Lost "),
        *call("call_again", "search", '{"n":1}'),
        f'data-penstock-state {{"snapshot":{{"lost":true}},"version":{state}}} true',
        "tool-output-error call_again The call was taken back: the agent is tried again.",
        f'message-metadata {{"retracted":[{first + 2},{first + 3}]}}',
        f'data-penstock-state {{"snapshot":{restored},"version":{state + 1}}} true',
        END_STEP,
        STEP,
        *call("call_again-2", "search", '{"n":1}'),
        "tool-output-available call_again-2 1",
        END_STEP,
    ]


BOOK = call("call_book", "book", '{"seats":2}')
PROPOSED = [START, STEP, *text(1, "May I book? "), *BOOK]
ASKED = [*PROPOSED, "tool-approval-request inp_2 call_book", END_STEP, "finish tool-calls"]
BOOKED = ['tool-output-available call_book {"booking":"B7"}', STEP, *text(4, "Booked."), END_STEP, "finish stop"]
THEN_NOT = ["tool-output-denied call_book", STEP, *text(4, "Then not."), END_STEP, "finish stop"]

EXPECTED: dict[str, Said] = {
    "everything": [
        *WEATHER,
        *two_tools(5),
        *attachments(10, "Done."),
        'data-penstock-state {"snapshot":{"cities":["Bern"]},"version":1} true',
        'data-penstock-state {"patch":[{"op":"add","path":"/cities/-","value":"Basel"}],"version":2} true',
        'data-progress {"percent":50} true',
        END_STEP,
        *helper(16),
        STEP,
        *text(20, "Hurrying. "),
        END_STEP,
        *retried(21, state=3, restored='{"cities":["Bern","Basel"]}'),
        STEP,
        *text(27, "Found.", "May I book? "),
        *BOOK,
        "tool-approval-request inp_18 call_book",
        END_STEP,
        f"finish tool-calls {{{usage(120, 30)}}}",
    ],
    "succeeded": [*HELLO, f"finish stop {{{usage(7, 3)}}}"],
    "silent": [START, 'data-penstock-result {"answer":42}', "finish stop"],
    "tool": [*WEATHER, STEP, *text(5, "Clear."), END_STEP, f"finish stop {{{usage(120, 30)}}}"],
    "two_tools": [START, *two_tools(1), STEP, *text(6, "Done."), END_STEP, "finish stop"],
    "attachments": [START, *attachments(1), END_STEP, *EMPTY_STEP, "finish stop"],
    "child": [START, *helper(1), STEP, *text(5, "Thanks."), END_STEP, "finish stop"],
    "length": [*HELLO, "finish length"],
    "content_filter": [*HELLO, "finish content-filter"],
    "client_tools": [
        START,
        STEP,
        *text(1, "Look: "),
        *call("call_map", "show_map", '{"zoom":', "3}", kind=""),
        END_STEP,
        "finish tool-calls",
    ],
    "failed": [
        *WEATHER,
        STEP,
        *text(5, "Now the "),
        "tool-input-start call_cut weather true",
        'tool-input-delta call_cut {"ci',
        'tool-input-error call_cut weather {"ci true The call was cut off.',
        END_STEP,
        *EMPTY_STEP,
        f'message-metadata {{{usage(120, 30)},"error":{{"code":"TOOL_BROKEN","retryable":true}}}}',
        "error The weather service does not answer.",
    ],
    "rejected": [
        START,
        'message-metadata {"error":{"code":"OFF_TOPIC","retryable":false}}',
        "error I only talk about the weather.",
    ],
    "cancelled": [
        START,
        STEP,
        *text(1, "Wait. "),
        *call("call_slow", "slow", "{}"),
        "tool-output-error call_slow The run ended before this call had a result.",
        END_STEP,
        *EMPTY_STEP,
        "abort",
    ],
    "timeout": [
        *HELLO,
        'message-metadata {"error":{"code":"TIMEOUT","retryable":false}}',
        "error The run failed: TIMEOUT.",
    ],
    "queue_timeout": [
        START,
        'message-metadata {"error":{"code":"QUEUE_TIMEOUT","retryable":false}}',
        "error The run failed: QUEUE_TIMEOUT.",
    ],
    "worker_lost": [
        *WEATHER,
        STEP,
        *text(5, "Cle"),
        END_STEP,
        f'message-metadata {{{usage(120, 30)},"error":{{"code":"WORKER_LOST","retryable":false}}}}',
        "error The run failed: WORKER_LOST.",
    ],
    "waiting": ASKED,
    "resumed": ASKED,
    "released": ASKED,
    "denied": ASKED,
    "input_expired": ASKED,
    "cancelled_while_waiting": ASKED,
    "retry": [START, *retried(1, state=1, restored="{}"), STEP, *text(7, "Found."), END_STEP, "finish stop"],
}
"""One entry per frame before `[DONE]`: its type, then its fields' values in order."""

ANSWERED: dict[str, Said] = {
    "resumed": [START, *BOOKED],
    "released": [START, *BOOKED],
    "denied": [START, *THEN_NOT],
    "input_expired": [
        START,
        "tool-output-error call_book The run ended before this call had a result.",
        *EMPTY_STEP,
        'message-metadata {"error":{"code":"INPUT_EXPIRED","retryable":false}}',
        "error The run failed: INPUT_EXPIRED.",
    ],
    "cancelled_while_waiting": [
        START,
        "tool-output-error call_book The run ended before this call had a result.",
        *EMPTY_STEP,
        "abort",
    ],
}
"""What the response to the answer says: the leg behind it."""

REPLAYED: dict[str, Said] = {
    "resumed": [*PROPOSED, *BOOKED[:1], END_STEP, *BOOKED[1:]],
    "released": [*PROPOSED, *BOOKED[:1], END_STEP, *BOOKED[1:]],
    "denied": [*PROPOSED, *THEN_NOT[:1], END_STEP, *THEN_NOT[1:]],
}
"""What a client that comes back in the second leg is told: everything, without questions that were settled."""

Make = Callable[[], MessageEncoder]

MAKERS: dict[str, Make] = {
    "created": MessageEncoder,
    "answered": lambda: MessageEncoder(Window(behind=frozenset({"inp_2"}))),
    "replayed": lambda: MessageEncoder(Window(last_leg=1)),
    "prelude": Prelude,
}


def stream(events: Sequence[Event], make: Make = MessageEncoder, *, after: int = 0) -> bytes:
    encoder = make()
    made = [(event.seq, encoder.feed(event)) for event in events]
    return b"".join(frames for seq, frames in made if seq > after)


def said(frame: str) -> str:
    """Read one frame as `EXPECTED` writes it."""
    chunk: dict[str, Any] = json.loads(frame.removeprefix("data: "))
    return " ".join(value if isinstance(value, str) else compact(value) for value in chunk.values())


def compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def frames_of(name: str, make: Make = MessageEncoder) -> Said:
    *frames, done, end = stream(VARIANTS[name], make).decode().split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    return [said(frame) for frame in frames]


@pytest.mark.parametrize("name", VARIANTS)
def test_each_variant_says_what_is_expected(name: str) -> None:
    assert frames_of(name) == EXPECTED[name]


@pytest.mark.parametrize("name", ANSWERED)
def test_the_response_to_an_answer_tells_what_follows_it(name: str) -> None:
    assert frames_of(name, MAKERS["answered"]) == ANSWERED[name]


@pytest.mark.parametrize("name", REPLAYED)
def test_a_replay_in_a_later_leg_tells_the_whole_message(name: str) -> None:
    assert frames_of(name, MAKERS["replayed"]) == REPLAYED[name]


@pytest.mark.parametrize("name", ["client_tools", "resumed", "tool"])
def test_a_prelude_is_the_message_without_its_beginning_and_its_end(name: str) -> None:
    whole = REPLAYED.get(name, EXPECTED[name])

    assert [said(frame) for frame in stream(VARIANTS[name], Prelude).decode().split("\n\n")[:-1]] == whole[1:-1]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("name", VARIANTS)
def test_the_frames_are_the_same_at_every_cut(name: str, make: str) -> None:
    events = VARIANTS[name]
    whole = stream(events, MAKERS[make])

    for cut in range(len(events) + 1):
        assert stream(events[:cut], MAKERS[make]) + stream(events, MAKERS[make], after=cut) == whole


def test_frames_are_exact_to_the_byte() -> None:
    lines = [
        '{"type":"start","messageId":"run_1","messageMetadata":{"runId":"run_1","threadId":"thr_1","agentId":"agent"}}',
        '{"type":"start-step"}',
        '{"type":"text-start","id":"1","providerMetadata":{"penstock":{"part":1}}}',
        '{"type":"text-delta","id":"1","delta":"Look: "}',
        '{"type":"text-end","id":"1"}',
        '{"type":"tool-input-start","toolCallId":"call_map","toolName":"show_map"}',
        '{"type":"tool-input-delta","toolCallId":"call_map","inputTextDelta":"{\\"zoom\\":"}',
        '{"type":"tool-input-delta","toolCallId":"call_map","inputTextDelta":"3}"}',
        '{"type":"tool-input-available","toolCallId":"call_map","toolName":"show_map","input":{"zoom":3}}',
        '{"type":"finish-step"}',
        '{"type":"finish","finishReason":"tool-calls"}',
        "[DONE]",
    ]
    assert stream(VARIANTS["client_tools"]).decode() == "".join(f"data: {line}\n\n" for line in lines)


TEXTS = {
    "succeeded": "Good morning.",
    "silent": '{"answer":42}',
    "tool": "Let me look. Clear.",
    "child": "I ask a colleague. Thanks.",
    "cancelled": "Wait. ",
    "rejected": "",
    "waiting": "May I book? \n\nBook two seats?",
    "retry": "First. A plan. Lost Found.",
}


@pytest.mark.parametrize("name", TEXTS)
def test_plain_text_is_the_text_of_the_run_or_what_a_person_can_read_instead(name: str) -> None:
    encoder = TextEncoder(Window())

    assert b"".join(map(encoder.feed, VARIANTS[name])).decode() == TEXTS[name]
    assert (encoder.ended, encoder.has_failed) == (True, name == "rejected")


def test_plain_text_behind_an_answer_is_that_of_the_next_leg() -> None:
    encoder = TextEncoder(Window(behind=frozenset({"inp_2"})))

    assert b"".join(map(encoder.feed, VARIANTS["resumed"])).decode() == "Booked."
