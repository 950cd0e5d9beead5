"""What handlers may yield, and the outputs it becomes."""

from dataclasses import dataclass

import pytest
from google.protobuf.message import Message as ProtoMessage

import penstock
from penstock import InvalidOutput, wire
from penstock.encoding import records
from penstock.v1.message_pb2 import (
    Completion,
    DataPart,
    FilePart,
    Part,
    SourcePart,
    ToolOutcome,
    ToolRunner,
)
from penstock.v1.run_pb2 import Usage
from penstock.v1.worker_service_pb2 import (
    CustomOutput,
    MessageOutput,
    Output,
    Outputs,
    StateOutput,
    StepEndedOutput,
    StepStartedOutput,
    ToolCallOutput,
    ToolResultOutput,
)


def outputs(value: object) -> list[Output]:
    """What a yielded value becomes."""
    return list(Outputs.FromString(b"".join(records(value))).outputs)


CASES: list[tuple[object, object, Output]] = [
    ("word ", {"type": "text", "text": "word "}, Output(text="word ")),
    (
        penstock.Text("a", lane="run_2"),
        {"type": "text", "text": "a", "lane": "run_2"},
        Output(text="a", lane="run_2"),
    ),
    (penstock.Reasoning("hm"), {"type": "reasoning", "text": "hm"}, Output(reasoning="hm")),
    (
        penstock.ToolCall("c1", "look", {"at": ["ü", 1]}, title="Looks"),
        {"type": "tool_call", "call_id": "c1", "tool_name": "look", "arguments": {"at": ["ü", 1]}, "title": "Looks"},
        Output(
            tool_call=ToolCallOutput(
                call_id="c1", tool_name="look", arguments_delta='{"at":["ü",1]}', done=True, title="Looks"
            )
        ),
    ),
    (
        penstock.ToolCallDelta("c1", '{"a', tool_name="look", runner="client"),
        {"type": "tool_call_delta", "call_id": "c1", "arguments": '{"a', "tool_name": "look", "runner": "client"},
        Output(
            tool_call=ToolCallOutput(
                call_id="c1", tool_name="look", arguments_delta='{"a', runner=ToolRunner.TOOL_RUNNER_CLIENT
            )
        ),
    ),
    (
        penstock.ToolResult("c1", None),
        {"type": "tool_result", "call_id": "c1"},
        Output(tool_result=ToolResultOutput(call_id="c1", done=True, output_json="null")),
    ),
    (
        penstock.ToolResult("c1", error="no such place", duration_ms=3),
        {"type": "tool_result", "call_id": "c1", "error": "no such place", "duration_ms": 3},
        Output(tool_result=ToolResultOutput(call_id="c1", done=True, error_text="no such place", duration_ms=3)),
    ),
    (
        penstock.ToolResult("c1", denied=True),
        {"type": "tool_result", "call_id": "c1", "denied": True},
        Output(tool_result=ToolResultOutput(call_id="c1", done=True, outcome=ToolOutcome.TOOL_OUTCOME_DENIED)),
    ),
    (
        penstock.ToolResultDelta("c1", "[1,", done=False),
        {"type": "tool_result_delta", "call_id": "c1", "output": "[1,"},
        Output(tool_result=ToolResultOutput(call_id="c1", delta="[1,")),
    ),
    (
        penstock.File("image/png", data=b"\x89", name="a.png"),
        {"type": "file", "media_type": "image/png", "data": b"\x89", "name": "a.png"},
        Output(part=Part(file=FilePart(name="a.png", media_type="image/png", data=b"\x89"))),
    ),
    (
        penstock.Data("chart", {"x": 1}, key="k"),
        {"type": "data", "name": "chart", "value": {"x": 1}, "key": "k"},
        Output(part=Part(data=DataPart(name="chart", key="k", value_json='{"x":1}'))),
    ),
    (
        penstock.Source("s1", url="https://example.org", title="Example"),
        {"type": "source", "source_id": "s1", "url": "https://example.org", "title": "Example"},
        Output(part=Part(source=SourcePart(source_id="s1", url="https://example.org", title="Example"))),
    ),
    (penstock.Message("critic"), {"type": "message", "name": "critic"}, Output(message=MessageOutput(name="critic"))),
    (
        penstock.StepStarted(2, max_steps=5),
        {"type": "step_started", "number": 2, "max_steps": 5},
        Output(step_started=StepStartedOutput(number=2, max_steps=5)),
    ),
    (
        penstock.StepEnded(complete=False),
        {"type": "step_ended", "complete": False},
        Output(step_ended=StepEndedOutput(completion=Completion.COMPLETION_INCOMPLETE)),
    ),
    (
        penstock.State({"a": None}),
        {"type": "state", "snapshot": {"a": None}},
        Output(state=StateOutput(snapshot_json='{"a":null}')),
    ),
    (
        penstock.State(patch=[{"op": "remove", "path": "/a"}]),
        {"type": "state", "patch": [{"op": "remove", "path": "/a"}]},
        Output(state=StateOutput(patch_json='[{"op":"remove","path":"/a"}]')),
    ),
    (
        penstock.Usage(3, 4, model="m", cost_usd=0.5),
        {"type": "usage", "input_tokens": 3, "output_tokens": 4, "model": "m", "cost_usd": 0.5},
        Output(usage=Usage(input_tokens=3, output_tokens=4, model="m", cost_usd=0.5)),
    ),
    (
        penstock.Custom("progress", 0.5),
        {"type": "custom", "name": "progress", "value": 0.5},
        Output(custom=CustomOutput(name="progress", value_json="0.5")),
    ),
]


@pytest.mark.parametrize(
    ("value", "as_dict", "expected"),
    CASES,
    ids=[f"{number}-{type(value).__name__}" for number, (value, _, _) in enumerate(CASES)],
)
def test_each_output_and_its_dict_become_the_same_message(value: object, as_dict: object, expected: Output) -> None:
    assert outputs(value) == [expected]
    assert outputs(as_dict) == [expected]


def test_a_result_may_bring_files_along() -> None:
    result = penstock.ToolResult("c1", 1, content=[penstock.File("image/png", url="https://example.org/a.png")])

    [output] = outputs(result)

    assert output.tool_result.content[0].file.url == "https://example.org/a.png"


@pytest.mark.parametrize("value", ["", penstock.Text(""), penstock.Reasoning(""), {"type": "text", "text": ""}])
def test_empty_text_is_no_output(value: object) -> None:
    assert outputs(value) == []


@pytest.mark.parametrize("form", [str, penstock.Text, penstock.Reasoning])
def test_long_text_is_split_between_characters(form: type) -> None:
    text = "aé漢😀" * 150_000

    pieces = outputs(form(text))

    assert "".join(piece.text or piece.reasoning for piece in pieces) == text
    assert all(piece.ByteSize() <= wire.MAX_OUTPUT for piece in pieces)


HIGH, LOW = "\ud83d", "\ude00"


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        (f"a{HIGH}b", "a\ufffdb"),
        (f"{LOW}", "\ufffd"),
        (f"{HIGH}{LOW}", "😀"),
        (f"{LOW}{HIGH}", "\ufffd\ufffd"),
        (f"{HIGH}😀{LOW}", "\ufffd😀\ufffd"),
    ],
)
def test_lone_surrogates_are_replaced_wherever_they_stand(text: str, mended: str) -> None:
    said = [
        text,
        penstock.Text(text),
        penstock.Reasoning("x", lane=text),
        penstock.ToolResult("c", {"k" + text: [text]}, error="", tool_name=text),
        penstock.ToolResult("c", 1, content=[penstock.File("a/b", url=text), penstock.Data(text, text)]),
        penstock.Custom(text, text),
        penstock.State({text: text}),
    ]

    for value in said:
        [output] = outputs(value)
        assert _strings(output) - {"x", "c", "a/b"} <= {
            mended,
            f'"{mended}"',
            f'{{"k{mended}":["{mended}"]}}',
            f'{{"{mended}":"{mended}"}}',
            "1",
        }


def _strings(message: ProtoMessage) -> set[str]:
    found: set[str] = set()
    for field, value in message.ListFields():
        for item in value if field.is_repeated else [value]:
            if isinstance(item, ProtoMessage):
                found |= _strings(item)
            elif isinstance(item, str):
                found.add(item)
    return found


@dataclass
class Point:
    x: int


def test_values_are_written_as_compact_json() -> None:
    [output] = outputs(penstock.Data("p", {"point": Point(1), "none": None, "nan": float("nan"), "big": 2**70}))

    assert output.part.data.value_json == '{"point":{"x":1},"none":null,"nan":null,"big":1180591620717411303424}'


CIRCLE: list[object] = []
CIRCLE.append(CIRCLE)


REFUSED: list[tuple[object, str]] = [
    (None, "not NoneType"),
    (7, "not int"),
    (b"bytes", "not bytes"),
    ({"text": "no type"}, "a dict that is yielded has a `type`"),
    ({"type": "txet", "text": "a"}, "a dict that is yielded has a `type`"),
    ({"type": "text", "txet": "a"}, "txet"),
    ({"type": "text", "text": 7}, "Text cannot be sent"),
    (penstock.Custom("c", object()), "cannot be written as JSON"),
    (penstock.Custom("c", CIRCLE), "Custom cannot be sent"),
    (penstock.Usage(2**40), "Usage cannot be sent"),
    (penstock.File("a/b"), "exactly one"),
    (penstock.State(), "either a snapshot or a patch"),
    (penstock.Data("d", "x" * wire.MAX_OUTPUT), "an output may have 262,144"),
    (penstock.ToolCall("c", "t", {"x": "x" * wire.MAX_OUTPUT}), "an output may have 262,144"),
    ({"type": "tool_call_delta", "call_id": "c", "runner": "nobody"}, "nobody"),
]


@pytest.mark.parametrize(("value", "complaint"), REFUSED, ids=map(str, range(len(REFUSED))))
def test_what_cannot_be_sent_is_refused(value: object, complaint: str) -> None:
    with pytest.raises(InvalidOutput, match=complaint):
        records(value)
