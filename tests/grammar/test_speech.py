"""Text, reasoning and whole parts: the exact events of each (rules 4–9, 20 and 21)."""

from __future__ import annotations

import pytest

from core_service.domain.errors import InvalidOutput
from penstock.v1.message_pb2 import FilePart, Part, TextPart
from penstock.v1.worker_service_pb2 import Output
from tests.grammar.outputs import call, data, end, file, message, reasoning, result, signature, source, text, turn
from tests.grammar.script import Script

LIMIT = 64 * 1024


def said(*outputs: Output) -> list[str]:
    return Script().begin().say(*outputs).lines()


def test_text_opens_a_message_and_a_part_and_the_end_closes_both() -> None:
    assert said(text("Good "), text("morning."), end()) == [
        "message+ msg_1 assistant",
        "part+ 1 text",
        "text 1 'Good '",
        "text 1 'morning.'",
        "part- 1 text 'Good morning.'",
        "message- msg_1",
        "ended completed",
    ]


def test_reasoning_and_text_end_each_other_in_one_message() -> None:
    assert said(reasoning("Hm. "), text("Yes. "), reasoning("Or?")) == [
        "message+ msg_1 assistant",
        "part+ 1 reasoning",
        "reasoning 1 'Hm. '",
        "part- 1 reasoning 'Hm. '",
        "part+ 2 text",
        "text 2 'Yes. '",
        "part- 2 text 'Yes. '",
        "part+ 3 reasoning",
        "reasoning 3 'Or?'",
    ]


def test_empty_text_writes_nothing() -> None:
    assert said(text(""), reasoning(""), text("", "side")) == []


def test_lanes_interleave_and_each_has_its_own_message() -> None:
    assert said(text("a"), text("x", "side"), text("b"), text("y", "side")) == [
        "message+ msg_1 assistant",
        "part+ 1 text",
        "text 1 'a'",
        "message+ msg_2 assistant lane=side",
        "part+ 2 text",
        "text 2 'x'",
        "text 1 'b'",
        "text 2 'y'",
    ]


def test_a_full_part_ends_and_the_rest_goes_on_in_a_new_one() -> None:
    script = Script().begin().say(text("a" * (LIMIT - 1)), text("bcd"))

    pieces = [(e.part_delta.part, len(e.part_delta.text)) for e in script.events() if e.HasField("part_delta")]
    assert pieces == [(1, LIMIT - 1), (1, 1), (2, 2)]
    assert [len(part.text.text) for part in script.grammar.messages()[0].parts] == [LIMIT, 2]


def test_a_piece_larger_than_a_part_becomes_several() -> None:
    script = Script().begin().say(text("é" * (2 * LIMIT + 1)), end())

    assert [len(part.text.text) for part in script.grammar.history()[0].parts] == [LIMIT, LIMIT, 1]


def test_files_and_data_end_the_open_text_but_a_source_cites_it() -> None:
    assert said(text("See"), source("https://a"), text(" [1]."), file("https://b"), data("chart", '{"n": 1}')) == [
        "message+ msg_1 assistant",
        "part+ 1 text",
        "text 1 'See'",
        "part+ 2 source",
        "part- 2 source https://a cites 1",
        "text 1 ' [1].'",
        "part- 1 text 'See [1].'",
        "part+ 3 file image/png",
        "part- 3 file image/png https://b",
        "part+ 4 data chart",
        'part- 4 data chart {"n":1}',
    ]


def test_a_signature_ends_the_reasoning_before_it_and_comes_out_with_it() -> None:
    assert said(reasoning("Hm."), signature('{"s": 1}')) == [
        "message+ msg_1 assistant",
        "part+ 1 reasoning",
        "reasoning 1 'Hm.'",
        "part- 1 reasoning 'Hm.' signed {\"s\":1}",
    ]


def test_encrypted_reasoning_without_text_is_a_part_without_deltas() -> None:
    assert said(signature('"opaque"')) == [
        "message+ msg_1 assistant",
        "part+ 1 reasoning",
        'part- 1 reasoning signed "opaque"',
    ]


def test_a_signature_belongs_to_a_part_that_is_just_full() -> None:
    lines = said(reasoning("a" * LIMIT), signature("1"))

    assert [line[-10:] for line in lines if line.startswith("part")] == ["1 reasoning"[-10:], "' signed 1"]


def test_text_that_comes_whole_is_a_part_of_its_own() -> None:
    whole = Output(part=Part(ordinal=9, text=TextPart(text="All of it.")))

    assert said(text("Before. "), call("c1", "{}", done=True), whole, text("After."))[6:] == [
        "part- 2 call c1 search {}",
        "part+ 3 text",
        "text 3 'All of it.'",
        "part- 3 text 'All of it.'",
        "part+ 4 text",
        "text 4 'After.'",
    ]


def test_a_message_boundary_ends_the_message_and_names_the_author_of_the_next() -> None:
    assert said(text("a"), message("critic"), text("b"), message(), text("c"))[3:] == [
        "part- 1 text 'a'",
        "message- msg_1",
        "message+ msg_2 assistant critic",
        "part+ 2 text",
        "text 2 'b'",
        "part- 2 text 'b'",
        "message- msg_2",
        "message+ msg_3 assistant",
        "part+ 3 text",
        "text 3 'c'",
    ]


def test_a_name_is_that_of_one_message() -> None:
    script = Script().begin().say(message("critic"), text("a"), turn(1), text("b"))

    assert [m.author.name for m in script.grammar.messages()] == ["critic", ""]


def test_a_name_that_was_not_used_yet_is_lost_with_its_core_but_the_boundary_is_not() -> None:
    script = Script().begin().say(text("a"), message("critic"))
    twin = script.twin().say(text("b"))

    assert [m.author.name for m in twin.grammar.messages()] == ["", ""]


def test_output_after_a_result_opens_a_new_message() -> None:
    lines = said(call("c1", "{}", done=True), result("c1", "1"), text("So."))

    assert [line for line in lines if line.startswith("message")] == [
        "message+ msg_1 assistant",
        "message- msg_1",
        "message+ msg_2 tool",
        "message- msg_2",
        "message+ msg_3 assistant",
    ]


REFUSED = {
    "data without name": data("", "1"),
    "data without value": data("chart", ""),
    "data with bad JSON": data("chart", "{"),
    "file without source": Output(part=Part(file=FilePart(name="a.png"))),
    "bad signature": signature("{"),
    "long lane": text("a", "x" * 300),
    "long name": message("x" * 300),
    "empty part": Output(part=Part()),
    "data over 1 MiB": data("chart", '"' + "x" * (1 << 20) + '"'),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_log_cannot_hold_is_refused_and_changes_nothing(name: str) -> None:
    script = Script().begin().say(text("a"))

    with pytest.raises(InvalidOutput):
        script.say(REFUSED[name])

    assert script.say(text("b")).lines()[-2:] == ["text 1 'a'", "text 1 'b'"]
