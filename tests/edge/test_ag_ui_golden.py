"""The golden run as AG-UI: what each variant says, the same frames at every cut, and the same end from every middle."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from core_service.domain.grammar.json_patch import patched
from edge.fold import Fold
from edge.protocols.ag_ui import View
from edge.protocols.ag_ui.dialect import CURRENT, UNDECLARED, Dialect
from penstock.v1.event_pb2 import Event
from tests.edge.ag_ui_client import AgUiClient, frames_of, stream
from tests.golden.golden import VARIANTS

Said = list[str]


def legs_of(events: Sequence[Event]) -> int:
    """How many legs these events are about: once all is answered, it is the next one."""
    fold = Fold()
    for event in events:
        fold.feed(event)
    return 1 + fold.leg + (fold.is_waiting and not fold.open_inputs)


def state_at(events: Sequence[Event]) -> tuple[str, int]:
    """The thread's state and its version, as the core has them behind these events."""
    state, version = "", 0
    for event in events:
        if event.HasField("state_patched"):
            change = event.state_patched
            state = change.snapshot_json or patched(state or "{}", change.patch_json, max_bytes=1 << 20)
            version = change.version
    return state, version


def joining(events: Sequence[Event], seq: int, *, state_at_seq: int | None = None) -> View:
    """The view of a client that connects when the run is at a seq, and the state is read at another."""
    state, version = state_at(events[: seq if state_at_seq is None else state_at_seq])
    return View("t", joins_at=seq, state_json=state, state_version=version)


def watched(events: Sequence[Event], *, legs: int | None = None, dialect: Dialect = CURRENT) -> AgUiClient:
    """A client that saw everything, leg by leg."""
    client = AgUiClient()
    for leg in range(legs_of(events) if legs is None else legs):
        client.read(stream(events, View("t", dialect, leg=leg)))
    return client


def told(client: AgUiClient) -> list[Any]:
    """The messages as far as a stream can tell them: a snapshot knows of errors, and has compact arguments."""
    messages = json.loads(json.dumps(client.messages))
    for message in messages:
        message.pop("error", None)
        for call in message.get("toolCalls", ()):
            call["function"]["arguments"] = call["function"]["arguments"].replace(" ", "")
    return list(messages)


def line(event: dict[str, Any]) -> str:
    """Read one frame as `EXPECTED` writes it."""
    fields = {key: value for key, value in event.items() if key not in ("threadId", "protocolVersion", "role")}
    kind = fields.pop("type").lower()
    outcome = fields.pop("outcome", None)
    if outcome is not None:
        fields["outcome"] = [outcome["type"], *outcome.get("pendingToolCallIds", ())]
        fields["outcome"] += [question["id"] for question in outcome.get("interrupts", ())]
    if kind == "messages_snapshot":
        fields = {"ids": [message["id"] for message in fields["messages"]]}
    return " ".join([kind, *map(_text, fields.values())])


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return " ".join(value)
    return json.dumps(value, separators=(",", ":"))


def message(message_id: str, *pieces: str, name: str = "", owner: str = "") -> Said:
    """The lines of a text message."""
    around = " ".join(filter(None, [message_id, name, owner]))
    contents = [" ".join(filter(None, [f"text_message_content {message_id} {piece}", owner])) for piece in pieces]
    ended = " ".join(filter(None, ["text_message_end", message_id, owner]))
    return [f"text_message_start {around}", *contents, ended]


def call(call_id: str, tool: str, holder: str, *pieces: str) -> Said:
    """The lines of a tool call."""
    arguments = [f"tool_call_args {call_id} {piece}" for piece in pieces]
    return [f"tool_call_start {call_id} {tool} {holder}", *arguments, f"tool_call_end {call_id}"]


def weather(first: int = 1) -> Said:
    return [
        "step_started step 1",
        f"reasoning_start msg_{first}.1",
        f"reasoning_message_start msg_{first}.1",
        f"reasoning_message_content msg_{first}.1 They want ",
        f"reasoning_message_content msg_{first}.1 the weather.",
        f"reasoning_message_end msg_{first}.1",
        f'reasoning_encrypted_value message msg_{first}.1 {{"signature":"c2ln"}}',
        f"reasoning_end msg_{first}.1",
        *message(f"msg_{first}", "Let me look. "),
        *call("call_weather", "weather", f"msg_{first}", '{"city":', ' "Bern"}'),
        f'tool_call_result msg_{first + 1} call_weather {{"sky":"clear"}}',
        "step_finished step 1",
    ]


def two_tools(first: int = 1) -> Said:
    return [
        *message(f"msg_{first}", "Both. "),
        f"tool_call_start call_a search msg_{first}",
        'tool_call_args call_a {"q":',
        f"tool_call_start call_b fetch msg_{first}",
        "tool_call_args call_b {",
        "tool_call_args call_a 1}",
        "tool_call_end call_a",
        f'tool_call_result msg_{first + 1} call_a ["one","two"]',
        "tool_call_args call_b }",
        "tool_call_end call_b",
        f"tool_call_result msg_{first + 2} call_b no such page",
    ]


def attachments(holder: str, result: str, first: int, text: int) -> Said:
    """What follows the first text; the text part of its message has this ordinal, the next part the other."""
    url = "https://pages.example/1"
    page = f'{{"sourceId":"{url}","url":"{url}","title":"A page","citedOrdinal":{text}}}'
    chart = '{"name":"chart.png","mediaType":"image/png","url":"https://files.example/chart.png"}'
    image = (
        '{"type":"image","source":{"type":"url","value":"https://files.example/chart.png","mimeType":"image/png"},'
        '"metadata":{"filename":"chart.png"}}'
    )
    return [
        f"activity_snapshot {holder}.{first} penstock:source {page}",
        f"text_message_content {holder} And the chart:",
        f"text_message_end {holder}",
        f"activity_snapshot {holder}.{first + 1} penstock:file {chart}",
        'activity_snapshot run_1.forecast.bern forecast {"days":3}',
        *call("call_draw", "draw", holder, "{}"),
        f'tool_call_result {result} call_draw [{{"type":"text","text":"drawn"}},{image}]',
    ]


def helper(first: int = 1) -> Said:
    return [
        *message(f"msg_{first}", "I ask a colleague. "),
        *call("call_helper", "helper", f"msg_{first}", '{"task":"check"}'),
        "subagent_started run_child Helper call_helper",
        *message(f"msg_{first + 1}", "Checking", " …", name="Helper", owner="run_child"),
        "subagent_finished run_child",
        f"tool_call_result msg_{first + 2} call_helper checked",
    ]


BOOK = call("call_book", "book", "msg_1", '{"seats":2}')
ASKED = [*message("msg_1", "May I book? "), *BOOK, "messages_snapshot msg_1", "run_finished run_1 interrupt inp_2"]
HELLO = message("msg_1", "Good ", "morning.")
ABANDONED = "tool_call_result msg_3 call_book The run ended before this call had a result."
WEATHER_USAGE = '[{"provider":"maker","model":"model-1","inputTokens":120,"outputTokens":30,"totalTokens":150}]'
HELLO_USAGE = '[{"provider":"maker","model":"model-1","inputTokens":7,"outputTokens":3,"totalTokens":10}]'
LAST_USAGE = (
    '[{"provider":"maker","model":"model-2","inputTokens":200,"outputTokens":50,"totalTokens":250},'
    '{"provider":"maker","model":"model-1","inputTokens":10,"outputTokens":5,"totalTokens":15}]'
)
START, NEXT, SUCCESS = "run_started run_1", "run_started run_1.1", "run_finished run_1 success"


def retried(first: int, part: int, told: Said, restored: str) -> Said:
    """An attempt that is lost, up to the text of the next one; `told` are the ids of the messages before."""
    return [
        *message(f"msg_{first}", "First. "),
        "step_started plan",
        *message(f"msg_{first + 1}", "A plan. "),
        "step_finished plan",
        *message(f"msg_{first + 2}", "Lost "),
        *call("call_again", "search", f"msg_{first + 2}", '{"n":1}'),
        'state_snapshot {"lost":true}',
        f"tool_call_result msg_{first + 2}.{part} call_again This call was taken back.",
        " ".join(["messages_snapshot", *told, f"msg_{first}", f"msg_{first + 1}"]),
        f"state_snapshot {restored}",
        *call("call_again-2", "search", f"msg_{first + 3}", '{"n":1}'),
        f"tool_call_result msg_{first + 4} call_again-2 1",
    ]


BEFORE = [
    *("msg_1.1", "msg_1", "msg_2", "msg_3", "msg_4", "msg_5", "msg_6", "msg_7"),
    *("msg_6.11", "msg_6.12", "run_1.forecast.bern", "msg_8", "msg_10", "msg_9", "msg_steer", "msg_11"),
]
BEFORE_ASKING = [*BEFORE, "msg_12", "msg_13", "msg_15", "msg_16", "msg_17"]

EXPECTED: dict[str, Said] = {
    "everything": [
        START,
        *weather(),
        *two_tools(3),
        "text_message_start msg_6",
        "text_message_content msg_6 Done.",
        "text_message_content msg_6 See [1]. ",
        *attachments("msg_6", "msg_7", 11, 10),
        'state_snapshot {"cities":["Bern"]}',
        'state_delta [{"op":"add","path":"/cities/-","value":"Basel"}]',
        'custom progress {"percent":50}',
        *helper(8),
        *message("msg_steer", "Please hurry."),
        *message("msg_11", "Hurrying. ", name="critic"),
        *retried(12, 24, BEFORE, '{"cities":["Bern","Basel"]}'),
        *message("msg_17", "Found.", "May I book? "),
        *call("call_book", "book", "msg_17", '{"seats":2}'),
        'state_snapshot {"cities":["Bern","Basel"]}',
        " ".join(["messages_snapshot", *BEFORE_ASKING]),
        f"run_finished run_1 {WEATHER_USAGE} interrupt inp_18",
        NEXT,
        'tool_call_result msg_19 call_book {"booking":"B7"}',
        *message("msg_20", "Booked."),
        f"run_finished run_1.1 {LAST_USAGE} success",
    ],
    "succeeded": [START, *HELLO, f"run_finished run_1 {HELLO_USAGE} success"],
    "silent": [START, 'run_finished run_1 {"answer":42} success'],
    "tool": [START, *weather(), *message("msg_3", "Clear."), f"run_finished run_1 {WEATHER_USAGE} success"],
    "two_tools": [START, *two_tools(), *message("msg_4", "Done."), SUCCESS],
    "attachments": [
        START,
        "text_message_start msg_1",
        "text_message_content msg_1 See [1]. ",
        *attachments("msg_1", "msg_2", 2, 1),
        SUCCESS,
    ],
    "child": [START, *helper(), *message("msg_4", "Thanks."), SUCCESS],
    "length": [START, *HELLO, 'run_finished run_1 {"penstock":{"reason":"length"}} success'],
    "content_filter": [START, *HELLO, 'run_finished run_1 {"penstock":{"reason":"content_filter"}} success'],
    "client_tools": [
        START,
        *message("msg_1", "Look: "),
        *call("call_map", "show_map", "msg_1", '{"zoom":', "3}"),
        "run_finished run_1 success call_map",
    ],
    "failed": [
        START,
        *weather(),
        *message("msg_3", "Now the "),
        *call("call_cut", "weather", "msg_3", '{"ci'),
        f"run_error The weather service does not answer. TOOL_BROKEN {WEATHER_USAGE}",
    ],
    "rejected": [START, "run_error I only talk about the weather. OFF_TOPIC"],
    "cancelled": [
        START,
        "step_started step 1",
        *message("msg_1", "Wait. "),
        *call("call_slow", "slow", "msg_1", "{}"),
        "subagent_started run_child Helper call_slow",
        *message("msg_2", "Still ", name="Helper", owner="run_child"),
        "tool_call_result msg_3 call_slow The run ended before this call had a result.",
        "step_finished step 1",
        "subagent_error run_child The agent did not finish: PARENT. PARENT",
        'run_finished run_1 {"penstock":{"reason":"user"}} cancelled',
    ],
    "timeout": [START, *HELLO, "run_error The run failed: TIMEOUT. TIMEOUT"],
    "queue_timeout": [START, "run_error The run failed: QUEUE_TIMEOUT. QUEUE_TIMEOUT"],
    "worker_lost": [
        START,
        *weather(),
        *message("msg_3", "Cle"),
        f"run_error The run failed: WORKER_LOST. WORKER_LOST {WEATHER_USAGE}",
    ],
    "waiting": [START, *ASKED],
    "resumed": [
        *(START, *ASKED, NEXT, 'tool_call_result msg_3 call_book {"booking":"B7"}'),
        *message("msg_4", "Booked."),
        "run_finished run_1.1 success",
    ],
    "released": [
        *(START, *ASKED, NEXT, 'tool_call_result msg_3 call_book {"booking":"B7"}'),
        *message("msg_4", "Booked."),
        "run_finished run_1.1 success",
    ],
    "denied": [
        *(START, *ASKED, NEXT, "tool_call_result msg_3 call_book not approved"),
        *message("msg_4", "Then not."),
        "run_finished run_1.1 success",
    ],
    "input_expired": [START, *ASKED, NEXT, ABANDONED, "run_error The run failed: INPUT_EXPIRED. INPUT_EXPIRED"],
    "cancelled_while_waiting": [
        *(START, *ASKED, NEXT, ABANDONED),
        'run_finished run_1.1 {"penstock":{"reason":"user"}} cancelled',
    ],
    "retry": [START, *retried(1, 4, [], "{}"), *message("msg_6", "Found."), SUCCESS],
}
"""One line per frame, over all legs: the type, then what the frame holds beside thread, version and role."""


@pytest.mark.parametrize("name", VARIANTS)
def test_each_variant_says_what_is_expected(name: str) -> None:
    events = VARIANTS[name]
    streams = [stream(events, View("t", leg=leg)) for leg in range(legs_of(events))]

    assert [line(frame) for frame in frames_of(b"".join(streams))] == EXPECTED[name]


@pytest.mark.parametrize("name", VARIANTS)
def test_the_frames_are_the_same_at_every_cut(name: str) -> None:
    events = VARIANTS[name]
    for leg in range(legs_of(events)):
        whole = stream(events, View("t", leg=leg))

        for cut in range(len(events) + 1):
            pieces = stream(events[:cut], View("t", leg=leg)) + stream(events, View("t", leg=leg), after=cut)
            assert pieces == whole


@pytest.mark.parametrize("dialect", [CURRENT, UNDECLARED], ids=["1.0", "0.0.59"])
@pytest.mark.parametrize("name", VARIANTS)
def test_a_client_accepts_every_leg_in_both_dialects(name: str, dialect: Dialect) -> None:
    client = watched(VARIANTS[name], dialect=dialect)

    assert client.end
    assert not client.is_running


@pytest.mark.parametrize("name", VARIANTS)
def test_who_joins_anywhere_has_what_everybody_has_at_the_end_of_the_leg(name: str) -> None:
    events = VARIANTS[name]
    for seq in range(1, len(events) + 1):
        legs = legs_of(events[:seq])
        expected = watched(events, legs=legs)

        fresh = AgUiClient().read(stream(events, joining(events, seq), after=seq - 1))

        assert told(fresh) == told(expected)
        assert fresh.state == expected.state
        assert (fresh.end["type"], fresh.end.get("outcome")) == (expected.end["type"], expected.end.get("outcome"))


@pytest.mark.parametrize("name", VARIANTS)
def test_who_lost_the_stream_and_connects_again_has_nothing_twice(name: str) -> None:
    events = VARIANTS[name]
    for lost in range(1, len(events)):
        client = AgUiClient()
        for leg in range(legs_of(events[:lost])):
            client.read(stream(events[:lost], View("t", leg=leg)))
        client.lose()
        seq = min(lost + 3, len(events))
        client.read(stream(events, joining(events, seq), after=seq - 1))

        expected = watched(events, legs=legs_of(events[:seq]))
        assert sorted(told(client), key=str) == sorted(told(expected), key=str)
        assert client.state == expected.state


def test_a_state_that_was_read_before_or_behind_the_seq_of_joining_comes_out_the_same() -> None:
    events = VARIANTS["everything"]
    changes = [event.seq for event in events if event.HasField("state_patched")]
    expected = watched(events, legs=1)

    for seq in range(changes[0] - 2, changes[-1] + 2):
        for state_seq in (seq - 2, seq + 2):
            view = joining(events, seq, state_at_seq=state_seq)
            assert AgUiClient().read(stream(events, view, after=seq - 1)).state == expected.state


@pytest.mark.parametrize("name", VARIANTS)
def test_the_older_dialect_says_nothing_that_its_client_throws_on(name: str) -> None:
    for leg in range(legs_of(VARIANTS[name])):
        for event in frames_of(stream(VARIANTS[name], View("t", UNDECLARED, leg=leg))):
            assert "protocolVersion" not in event
            assert event.get("outcome", {}).get("type") in (None, "success", "interrupt")
            assert "pendingToolCallIds" not in event.get("outcome", {})
            if event["type"] == "TOOL_CALL_RESULT":
                assert isinstance(event["content"], str)
