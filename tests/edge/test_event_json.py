import json

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from edge.event_json import EVENT_NAMES, NativeEncoder, event_object
from penstock.flat_json import instant
from penstock.v1.event_pb2 import (
    Custom,
    Event,
    InputRequested,
    MessageStarted,
    PartDelta,
    PartEnded,
    RunEnded,
    RunQueued,
    RunRetrying,
    StatePatched,
    UsageReported,
)
from penstock.v1.message_pb2 import (
    Completion,
    FilePart,
    Message,
    Part,
    PartKind,
    Role,
    TextPart,
    ToolCallPart,
    ToolOutcome,
    ToolResultPart,
    ToolRunner,
)
from penstock.v1.run_pb2 import (
    BusyPolicy,
    EndReason,
    InputKind,
    InputRequest,
    Run,
    RunError,
    RunOptions,
    RunState,
    Usage,
)

FIRST_SECOND, LAST_SECOND = -62_135_596_800, 253_402_300_799  # of the years 1 and 9999
TIME = Timestamp(seconds=1_700_000_000, nanos=250_000_000)


def delta(text: str, kind: PartKind.ValueType = PartKind.PART_KIND_TEXT) -> Event:
    return Event(seq=7, part_delta=PartDelta(part=2, kind=kind, text=text))


def test_a_delta_is_the_frame_of_the_contract() -> None:
    assert NativeEncoder().feed(delta("It ")) == (
        b'id: 7\nevent: part.delta\ndata: {"type":"part.delta","seq":7,"part":2,"kind":"text","text":"It "}\n\n'
    )


@pytest.mark.parametrize("seconds", [FIRST_SECOND, -1, 0, 951_782_400, 1_700_000_000, LAST_SECOND])
@pytest.mark.parametrize("nanos", [0, 1, 999, 1_000, 250_000, 1_000_000, 250_000_000, 123_456_789, 999_999_999])
def test_an_instant_is_written_as_protobuf_writes_it(seconds: int, nanos: int) -> None:
    stamp = Timestamp(seconds=seconds, nanos=nanos)

    assert instant(stamp) == stamp.ToJsonString()


@pytest.mark.parametrize("text", ["a\nb\r\n\r", 'say "hi" \\ ', "\x00\x1f\t", "π 🎉 \u2028\u2029", "data: x\n\nid: 9"])
def test_any_text_of_a_delta_stays_on_one_line_and_comes_back(text: str) -> None:
    frame = NativeEncoder().feed(delta(text))

    lines = frame.decode().split("\n")
    assert [line[:5] for line in lines] == ["id: 7", "event", "data:", "", ""]
    assert "\r" not in frame.decode()
    assert json.loads(lines[2].removeprefix("data: "))["text"] == text


def test_the_kinds_of_deltas_have_short_names_and_an_unknown_one_raises_nothing() -> None:
    kinds = [json.loads(event_object(delta("x", kind)))["kind"] for kind in PartKind.values()]
    assert kinds == ["unspecified", "text", "reasoning", "tool_call", "tool_result"]

    from_newer_core = Event.FromString(Event(seq=1, part_delta=PartDelta(part=1, text="x")).SerializeToString())
    from_newer_core.part_delta.kind = 99  # type: ignore[assignment]
    assert json.loads(event_object(from_newer_core))["kind"] == "unknown"


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            Event(
                seq=1,
                create_time=TIME,
                run_queued=RunQueued(
                    run=Run(
                        id="run_1",
                        state=RunState.RUN_STATE_QUEUED,
                        metadata={"k": "v"},
                        origin_json='{"a": [1.0]}',
                        options=RunOptions(busy_policy=BusyPolicy.BUSY_POLICY_REJECT, retry_after_output=False),
                    ),
                    input=[
                        Message(
                            role=Role.ROLE_USER,
                            parts=[Part(text=TextPart(text="Hi"))],
                            metadata_json='{"x":1}',
                        )
                    ],
                ),
            ),
            {
                "type": "run.queued",
                "seq": 1,
                "time": "2023-11-14T22:13:20.250Z",
                "run": {
                    "id": "run_1",
                    "state": "queued",
                    "options": {"busy_policy": "reject", "retry_after_output": False},
                    "metadata": {"k": "v"},
                    "origin": {"a": [1.0]},
                },
                "input": [{"role": "user", "parts": [{"kind": "text", "text": "Hi"}], "metadata": {"x": 1}}],
            },
        ),
        (
            Event(
                seq=2,
                part_ended=PartEnded(
                    message_id="msg_1",
                    part=Part(
                        ordinal=2,
                        completion=Completion.COMPLETION_COMPLETE,
                        provider_json='"sig"',
                        tool_call=ToolCallPart(
                            call_id="c1",
                            tool_name="add",
                            runner=ToolRunner.TOOL_RUNNER_CLIENT,
                            arguments_json='{"n":12345678901234567890}',
                        ),
                    ),
                ),
            ),
            {
                "type": "part.ended",
                "seq": 2,
                "message_id": "msg_1",
                "part": {
                    "ordinal": 2,
                    "kind": "tool_call",
                    "call_id": "c1",
                    "tool_name": "add",
                    "runner": "client",
                    "arguments": {"n": 12345678901234567890},
                    "completion": "complete",
                    "provider": "sig",
                },
            },
        ),
        (
            Event(
                seq=3,
                part_ended=PartEnded(
                    part=Part(
                        ordinal=3,
                        tool_result=ToolResultPart(
                            call_id="c1",
                            outcome=ToolOutcome.TOOL_OUTCOME_SUCCEEDED,
                            output_json='"3"',
                            content=[Part(file=FilePart(name="a.png", data=b"\x00\xff"))],
                        ),
                    )
                ),
            ),
            {
                "type": "part.ended",
                "seq": 3,
                "part": {
                    "ordinal": 3,
                    "kind": "tool_result",
                    "call_id": "c1",
                    "outcome": "succeeded",
                    "output": "3",
                    "content": [{"kind": "file", "name": "a.png", "data": "AP8="}],
                },
            },
        ),
        (
            Event(
                seq=4,
                run_retrying=RunRetrying(
                    error=RunError(code="BOOM", retryable=True),
                    attempt=1,
                    retry_time=TIME,
                    retracted_ordinals=[1, 3],
                ),
            ),
            {
                "type": "run.retrying",
                "seq": 4,
                "error": {"code": "BOOM", "retryable": True},
                "attempt": 1,
                "retry_time": "2023-11-14T22:13:20.250Z",
                "retracted_ordinals": [1, 3],
            },
        ),
        (
            Event(seq=5, state_patched=StatePatched(patch_json='[{"op":"remove","path":"/a"}]', version=2)),
            {"type": "state.patched", "seq": 5, "patch": [{"op": "remove", "path": "/a"}], "version": 2},
        ),
        (
            Event(seq=6, usage_reported=UsageReported(usage=Usage(model="m", input_tokens=3, cost_usd=0.5))),
            {"type": "usage.reported", "seq": 6, "usage": {"model": "m", "input_tokens": 3, "cost_usd": 0.5}},
        ),
        (
            Event(
                seq=7,
                input_requested=InputRequested(
                    input=InputRequest(
                        id="inp_1",
                        kind=InputKind.INPUT_KIND_APPROVAL,
                        schema_json='{"type":"object"}',
                    )
                ),
            ),
            {
                "type": "input.requested",
                "seq": 7,
                "input": {"id": "inp_1", "kind": "approval", "schema": {"type": "object"}},
            },
        ),
        (
            Event(seq=8, custom=Custom(name="progress", value_json="[1,\n 2]")),
            {"type": "custom", "seq": 8, "name": "progress", "value": [1, 2]},
        ),
        (
            Event(seq=9, message_started=MessageStarted(message=Message(id="msg_1"), lane="run_2")),
            {"type": "message.started", "seq": 9, "message": {"id": "msg_1"}, "lane": "run_2"},
        ),
        (
            Event(
                seq=10,
                run_ended=RunEnded(
                    state=RunState.RUN_STATE_SUCCEEDED,
                    reason=EndReason.END_REASON_CLIENT_TOOLS,
                    result_json="null",
                    pending_call_ids=["c1"],
                ),
            ),
            {
                "type": "run.ended",
                "seq": 10,
                "state": "succeeded",
                "reason": "client_tools",
                "result": None,
                "pending_call_ids": ["c1"],
            },
        ),
    ],
)
def test_events_are_flat_json_in_one_line(event: Event, expected: dict[str, object]) -> None:
    frame = NativeEncoder().feed(event).decode()

    head, data = frame.removesuffix("\n\n").split("\ndata: ")
    assert head == f"id: {event.seq}\nevent: {expected['type']}"
    assert json.loads(data) == expected
    assert "\n" not in data
    assert json.loads(event_object(event)) == expected


def test_numbers_in_json_are_shown_as_they_were_written() -> None:
    event = Event(seq=1, custom=Custom(name="n", value_json='{"z":1.0,"a":1e400,"big":12345678901234567890123}'))

    assert b'"value":{"z":1.0,"a":1e400,"big":12345678901234567890123}' in event_object(event)


def test_every_payload_has_the_name_that_the_contract_lists() -> None:
    runs = {f"run.{name}" for name in ("queued", "started", "waiting", "resumed", "retrying", "ended")}
    messages = {"message.received", "message.started", "message.ended", "part.started", "part.delta", "part.ended"}
    rest = {"step.started", "step.ended", "state.patched", "usage.reported", "custom"}
    others = {"input.requested", "input.resolved", "child.started", "child.ended"}
    assert set(EVENT_NAMES.values()) == runs | messages | rest | others


def test_a_payload_of_a_newer_core_makes_no_frame() -> None:
    encoder = NativeEncoder()

    assert encoder.feed(Event(seq=5)) == b""
    assert json.loads(event_object(Event(seq=5))) == {"type": "unknown", "seq": 5}
    assert not encoder.ended


def test_only_the_end_of_the_run_ends_the_encoder() -> None:
    encoder = NativeEncoder()
    encoder.feed(delta("x"))
    assert not encoder.ended
    encoder.feed(Event(seq=8, run_ended=RunEnded()))
    assert encoder.ended
