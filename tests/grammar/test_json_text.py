"""JSON texts are checked and made compact, and nothing in them is touched."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_service.domain.json_text import MAX_DEPTH, compact, is_object

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (' { "b" : [ 1.0 , 1e5,-0 ],\n"a": "x  y" } ', '{"b":[1.0,1e5,-0],"a":"x  y"}'),
        ("9007199254740993", "9007199254740993"),
        ("0.1000000000000000055511151231257827", "0.1000000000000000055511151231257827"),
        ('"\\u00e9\\n\\u0000"', '"\\u00e9\\n\\u0000"'),
        ("\r\n\ttrue ", "true"),
        ('{"a":1,"a":2}', '{"a":1,"a":2}'),
    ],
)
def test_only_white_space_between_tokens_goes(text: str, expected: str) -> None:
    assert compact(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "{", "[1,]", '{"a":1,}', "{'a':1}", "[1}", '{"a":1} x', "[1] [2]", "/* no */ 1", "\ufeff1"),
        *("01", "1.", "+1", "nul", "NaN", "Infinity", "-Infinity"),
        *('"a\nb"', '"\x00"', '"\\x"', '"\\ud800"', '"\ud800"', '"open'),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="JSON"):
        compact(text)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"[":', "}]")])
def test_depth_is_refused_before_a_parser_recurses(opening: str, closing: str) -> None:
    levels = opening.replace('"[', "").count("[") + opening.count("{")
    fits = MAX_DEPTH // levels

    assert compact(opening * fits + "1" + closing * fits)
    for depth in (fits + 1, 100_000):
        with pytest.raises(ValueError, match="deeper"):
            compact(opening * depth + "1" + closing * depth)
        with pytest.raises(ValueError, match="deeper"):
            compact(opening * depth)


def test_brackets_inside_strings_are_no_levels() -> None:
    text = json.dumps(["[" * 200, '\\"{[' * 200, "]" * 200])

    assert json.loads(compact(text)) == json.loads(text)


@pytest.mark.parametrize("text", ['"' + '\\"' * 400_000, "[" * 70 + '"' + "\\" * 399_999, "[]," * 300_000])
def test_a_hostile_megabyte_takes_no_long_time(text: str) -> None:
    began = time.process_time()

    with pytest.raises(ValueError, match="JSON"):
        compact(text)

    assert time.process_time() - began < 2


@settings(deadline=None)
@given(values, st.sampled_from([None, 1, "\t"]))
def test_the_value_stays_the_same_and_compacting_again_changes_nothing(value: object, indent: int | str | None) -> None:
    text = json.dumps(value, indent=indent)

    once = compact(text)

    assert json.loads(once) == value
    assert compact(once) == once
    assert is_object(once) == isinstance(value, dict)
