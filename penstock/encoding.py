"""From what a handler yields to records on the wire: strings, output objects and their dict forms.

Owns what may be sent: text is cut into pieces and freed of lone surrogates, anything else that is too big or cannot be
written is refused. What an output means is told by its class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import get_args

from penstock import wire
from penstock.errors import InvalidOutput
from penstock.json_text import mend
from penstock.outputs import AnyOutput, Reasoning, Text

PIECE = 60_000
"""Characters of text in one output: at most 240,000 bytes, which leaves room for the rest of it."""

_CLASSES: tuple[type[AnyOutput], ...] = get_args(AnyOutput)


def _type_name(name: str) -> str:
    """`ToolCall` → `tool_call`."""
    return "".join("_" + letter.lower() if letter.isupper() else letter for letter in name).lstrip("_")


_BY_TYPE: dict[object, type[AnyOutput]] = {_type_name(output.__name__): output for output in _CLASSES}


def records(value: object) -> list[bytes]:
    """The records of one yielded value; none for an empty text. Raises InvalidOutput, and then nothing was sent."""
    if isinstance(value, str):
        return text_records(value)
    return output_records(to_output(value))


def to_output(value: object) -> AnyOutput:
    """What a yielded value means. Raises InvalidOutput."""
    if isinstance(value, str):
        return Text(value)
    output = _from_dict(value) if isinstance(value, Mapping) else value
    if isinstance(output, _CLASSES):
        return output
    raise InvalidOutput(f"a handler yields text, outputs of penstock or their dicts, not {type(output).__name__}")


def output_records(output: AnyOutput) -> list[bytes]:
    """The records of an output. Raises InvalidOutput."""
    try:
        return _output_records(output)
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise InvalidOutput(f"{type(output).__name__} cannot be sent: {error}") from error


def text_records(text: str) -> list[bytes]:
    """The records of a text of the handler."""
    if len(text) > PIECE:
        return [wire.text_record(piece.encode()) for piece in _pieces(text)]
    try:
        return [wire.text_record(text.encode())] if text else []
    except UnicodeEncodeError:
        return [wire.text_record(mend(text).encode())]


def _pieces(text: str) -> list[str]:
    whole = mend(text)
    return [whole[start : start + PIECE] for start in range(0, len(whole), PIECE)]


def _output_records(output: AnyOutput) -> list[bytes]:
    if isinstance(output, Text) and not output.lane:
        return text_records(output.text)
    if isinstance(output, Text | Reasoning) and not 0 < len(output.text) <= PIECE:
        return [_record(replace(output, text=piece)) for piece in _pieces(output.text)]
    return [_record(output)]


def _from_dict(value: Mapping[object, object]) -> AnyOutput:
    output = _BY_TYPE.get(value.get("type"))
    if output is None:
        raise InvalidOutput(f"a dict that is yielded has a `type`: {', '.join(map(str, _BY_TYPE))}")
    given = {str(name): content for name, content in value.items() if name != "type"}
    try:
        return output(**given)  # type: ignore[arg-type]  # whatever does not fit is refused when it is written
    except (TypeError, ValueError) as error:
        raise InvalidOutput(f"dict cannot be sent: {error}") from error


def _record(output: AnyOutput) -> bytes:
    try:
        proto = output.to_proto()
    except UnicodeEncodeError:
        proto = _mended(output).to_proto()
    data = proto.SerializeToString()
    if len(data) > wire.MAX_OUTPUT:
        raise InvalidOutput(f"{type(output).__name__} has {len(data):,} bytes; an output may have {wire.MAX_OUTPUT:,}")
    return wire.record(data)


def _mended(output: AnyOutput) -> AnyOutput:
    """A copy without lone surrogates. Values that become JSON are mended when they are written."""
    texts = {field.name: getattr(output, field.name) for field in fields(output)}
    mended = {name: _mended_field(value) for name, value in texts.items()}
    return replace(output, **mended)  # type: ignore[arg-type]  # the fields as they were, with other characters


def _mended_field(value: object) -> object:
    if isinstance(value, str):
        return mend(value)
    if isinstance(value, _CLASSES):
        return _mended(value)
    if isinstance(value, tuple | list) and all(is_dataclass(item) for item in value):
        return [_mended_field(item) for item in value]
    return value
