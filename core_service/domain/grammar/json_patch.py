"""RFC 6902 patches on JSON text. Only the path to each change is decoded: everything else stays as written.

All functions raise ValueError on a patch that is malformed or does not fit the document.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

Node = dict[str, msgspec.Raw] | list[msgspec.Raw]
Edit = Callable[[Node, str], None]


class Operation(msgspec.Struct):
    """One operation of a patch."""

    op: Literal["add", "remove", "replace", "move", "copy", "test"]
    path: str
    value: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    source: str | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="from")


_PATCH = msgspec.json.Decoder(list[Operation])


def patched(document_json: str, patch_json: str, *, max_bytes: int) -> str:
    """Return the document after the patch, compact when both are; at no point is it larger than `max_bytes`."""
    try:
        operations = _PATCH.decode(patch_json)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a JSON patch: {error}") from error
    document = msgspec.Raw(document_json.encode())
    for operation in operations:
        document = _apply(document, operation)
        if len(bytes(document)) > max_bytes:  # a few copies of the document into itself would fill the memory
            raise ValueError(f"the patched JSON is larger than {max_bytes} bytes")
    return bytes(document).decode()


def _apply(document: msgspec.Raw, operation: Operation) -> msgspec.Raw:
    match operation.op:
        case "add":
            return _add(document, operation.path, _value(operation))
        case "remove":
            return _edit(document, operation.path, _remove)
        case "replace":
            value = _value(operation)
            _get(document, operation.path)
            return (
                _edit(document, operation.path, lambda node, key: _replace(node, key, value))
                if operation.path
                else value
            )
        case "move":
            source = _source(operation)
            if operation.path.startswith(f"{source}/"):
                raise ValueError("JSON patch moves a value into itself")
            value = _get(document, source)
            return _add(_edit(document, source, _remove) if source else document, operation.path, value)
        case "copy":
            return _add(document, operation.path, _get(document, _source(operation)))
        case "test":
            if not _equal(_get(document, operation.path), _value(operation)):
                raise ValueError(f"JSON patch test failed at {operation.path!r}")
            return document


def _value(operation: Operation) -> msgspec.Raw:
    if isinstance(operation.value, msgspec.UnsetType):
        raise ValueError(f"JSON patch {operation.op} needs a value")
    return operation.value


def _source(operation: Operation) -> str:
    if isinstance(operation.source, msgspec.UnsetType):
        raise ValueError(f"JSON patch {operation.op} needs from")
    return operation.source


def _tokens(pointer: str) -> list[str]:
    """Split an RFC 6901 pointer."""
    if pointer and not pointer.startswith("/"):
        raise ValueError(f"{pointer!r} is not a JSON pointer")
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:]]


def _opened(value: msgspec.Raw) -> Node:
    text = bytes(value).lstrip()
    if text.startswith(b"{"):
        return msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    if text.startswith(b"["):
        return msgspec.json.decode(text, type=list[msgspec.Raw])
    raise ValueError("JSON pointer leads through a value that is neither object nor array")


def _child(node: Node, key: str) -> msgspec.Raw:
    if isinstance(node, list):
        return node[_index(key, len(node) - 1)]
    if key not in node:
        raise ValueError(f"JSON pointer: no member {key!r}")
    return node[key]


def _index(key: str, last: int) -> int:
    if not (key.isascii() and key.isdigit()) or (key != "0" and key.startswith("0")) or int(key) > last:
        raise ValueError(f"JSON pointer: no element {key!r}")
    return int(key)


def _get(document: msgspec.Raw, pointer: str) -> msgspec.Raw:
    for token in _tokens(pointer):
        document = _child(_opened(document), token)
    return document


def _edit(document: msgspec.Raw, pointer: str, edit: Edit) -> msgspec.Raw:
    """Return the document with the container that the pointer's last token lies in edited."""
    tokens = _tokens(pointer)
    if not tokens:
        raise ValueError("JSON patch cannot remove the whole document")
    return _edited(document, tokens, edit)


def _edited(value: msgspec.Raw, tokens: list[str], edit: Edit) -> msgspec.Raw:
    node = _opened(value)
    if len(tokens) == 1:
        edit(node, tokens[0])
    else:
        _replace(node, tokens[0], _edited(_child(node, tokens[0]), tokens[1:], edit))
    return msgspec.Raw(msgspec.json.encode(node))


def _add(document: msgspec.Raw, pointer: str, value: msgspec.Raw) -> msgspec.Raw:
    if not pointer:
        return value

    def insert(node: Node, key: str) -> None:
        if isinstance(node, list):
            node.insert(len(node) if key == "-" else _index(key, len(node)), value)
        else:
            node[key] = value

    return _edit(document, pointer, insert)


def _put(document: msgspec.Raw, pointer: str, value: msgspec.Raw) -> msgspec.Raw:
    if not pointer:
        return value
    return _edit(document, pointer, lambda node, key: _replace(node, key, value))


def _replace(node: Node, key: str, value: msgspec.Raw) -> None:
    if isinstance(node, list):
        node[_index(key, len(node) - 1)] = value
    else:
        node[key] = value


def _remove(node: Node, key: str) -> None:
    _child(node, key)
    if isinstance(node, list):
        del node[int(key)]
    else:
        del node[key]


def _equal(one: msgspec.Raw, other: msgspec.Raw) -> bool:
    """Compare as Python does: numbers by value. (True equals 1, which no sensible `test` relies on.)"""
    return bool(msgspec.json.decode(one) == msgspec.json.decode(other))
