"""RFC 6902 on JSON text: the examples of its appendix A, and what must not happen to numbers and memory."""

from __future__ import annotations

import json

import pytest

from core_service.domain.grammar.json_patch import patched
from core_service.domain.json_text import compact

LIMIT = 100_000


def apply(document: str, *operations: dict[str, object]) -> str:
    return patched(compact(document), json.dumps(operations, separators=(",", ":")), max_bytes=LIMIT)


@pytest.mark.parametrize(
    ("document", "operation", "expected"),
    [
        ('{"foo":"bar"}', {"op": "add", "path": "/baz", "value": "qux"}, '{"foo":"bar","baz":"qux"}'),
        ('{"foo":["bar","baz"]}', {"op": "add", "path": "/foo/1", "value": "qux"}, '{"foo":["bar","qux","baz"]}'),
        ('{"baz":"qux","foo":"bar"}', {"op": "remove", "path": "/baz"}, '{"foo":"bar"}'),
        ('{"foo":["bar","qux","baz"]}', {"op": "remove", "path": "/foo/1"}, '{"foo":["bar","baz"]}'),
        ('{"baz":"qux"}', {"op": "replace", "path": "/baz", "value": "boo"}, '{"baz":"boo"}'),
        ('{"a":{"b":1},"c":{}}', {"op": "move", "from": "/a/b", "path": "/c/d"}, '{"a":{},"c":{"d":1}}'),
        ('{"foo":["all","grass","cows"]}', {"op": "move", "from": "/foo/1", "path": "/foo/2"}, None),
        ('{"a":{"b":1}}', {"op": "copy", "from": "/a", "path": "/c"}, '{"a":{"b":1},"c":{"b":1}}'),
        ('{"foo":["a",2,"c"]}', {"op": "test", "path": "/foo/1", "value": 2}, '{"foo":["a",2,"c"]}'),
        ('{"foo":["bar"]}', {"op": "add", "path": "/foo/-", "value": ["abc"]}, '{"foo":["bar",["abc"]]}'),
        ('{"/":9,"~1":10}', {"op": "test", "path": "/~01", "value": 10}, '{"/":9,"~1":10}'),
        ('{"foo":1}', {"op": "add", "path": "", "value": [1]}, "[1]"),
        ('{"foo":1}', {"op": "replace", "path": "", "value": 2}, "2"),
        ('{"":1}', {"op": "replace", "path": "/", "value": 2}, '{"":2}'),
        ('{"foo":null}', {"op": "add", "path": "/bar", "value": None}, '{"foo":null,"bar":null}'),
    ],
)
def test_each_operation(document: str, operation: dict[str, object], expected: str | None) -> None:
    assert apply(document, operation) == (expected or '{"foo":["all","cows","grass"]}')


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "add", "path": "/a/b/c", "value": 1},
        {"op": "add", "path": "/list/3", "value": 1},
        {"op": "add", "path": "/list/01", "value": 1},
        {"op": "add", "path": "/list/-1", "value": 1},
        {"op": "add", "path": "a", "value": 1},
        {"op": "add", "path": "/a"},
        {"op": "remove", "path": "/none"},
        {"op": "remove", "path": "/list/2"},
        {"op": "remove", "path": "/list/-"},
        {"op": "remove", "path": ""},
        {"op": "replace", "path": "/none", "value": 1},
        {"op": "test", "path": "/n", "value": 2},
        {"op": "move", "path": "/n"},
        {"op": "move", "from": "/list", "path": "/list/0"},
        {"op": "copy", "from": "/none", "path": "/n"},
        {"op": "spam", "path": "/n"},
        {"path": "/n"},
    ],
)
def test_what_does_not_fit_is_refused(operation: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="JSON"):
        apply('{"n":1,"list":[1,2]}', operation)


def test_numbers_and_order_elsewhere_stay_as_written() -> None:
    document = '{"zebra":1.0,"big":9007199254740993,"deep":{"e":1e5,"n":0}}'

    assert apply(document, {"op": "replace", "path": "/deep/n", "value": 1}) == document.replace('"n":0', '"n":1')


def test_tests_compare_numbers_by_value() -> None:
    assert apply('{"n":1}', {"op": "test", "path": "/n", "value": 1.0}) == '{"n":1}'


def test_copies_of_the_document_into_itself_do_not_fill_the_memory() -> None:
    doublings: list[dict[str, object]] = [{"op": "copy", "from": "", "path": f"/{number}"} for number in range(64)]

    with pytest.raises(ValueError, match="larger than"):
        apply('{"text":"0123456789"}', *doublings)
