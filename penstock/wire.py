"""What a worker sends, as bytes: one output as a record, records as a message, messages as a request.

Nothing here knows runs or handlers. It writes protobuf by hand because that is where a worker spends its time: from
`yield` to the wire an output costs 580 ns as an object and 66 ns so, and an output that waits for its acknowledgement
takes the room that it takes on the wire. Tags come from the descriptors: a changed contract is followed.

A *record* is one element of `Outputs.outputs` with its tag and length, so that joined records are that field.
"""

from __future__ import annotations

from google.protobuf.message import Message

from penstock.v1.worker_service_pb2 import ConnectRequest, Output, Outputs, WorkerMessage

MAX_OUTPUT = 256 << 10
"""Bytes of one output."""
MAX_ADDRESS = 4 << 10
"""Bytes that the keys and the lane of a step add to it."""
MAX_REQUEST = 1 << 20
"""Bytes of one message on the stream."""


def varint(number: int) -> bytes:
    """`number`, not negative, as protobuf writes it."""
    if number < 0x80:
        return bytes((number,))
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _tag(message: type[Message], field: str, wire_type: int) -> bytes:
    return varint(message.DESCRIPTOR.fields_by_name[field].number << 3 | wire_type)


_VARINT, _BYTES = 0, 2
_RECORD = _tag(Outputs, "outputs", _BYTES)
_TEXT = _tag(Output, "text", _BYTES)
_FIRST = _tag(Outputs, "first", _VARINT)
_OUTPUTS = _tag(WorkerMessage, "outputs", _BYTES)
_MESSAGE = _tag(ConnectRequest, "messages", _BYTES)

_SHORT = 126  # a text shorter than this has lengths of one byte each
_SHORT_HEADS = [_RECORD + varint(length + 2) + _TEXT + varint(length) for length in range(_SHORT)]


def text_record(text: bytes) -> bytes:
    """The record of `Output(text=text)`."""
    length = len(text)
    if length < _SHORT:
        return _SHORT_HEADS[length] + text
    return record(_TEXT + varint(length) + text)


def record(output: bytes) -> bytes:
    """The record of a serialised Output."""
    return _RECORD + varint(len(output)) + output


def skip(records: bytes, count: int) -> int:
    """The offset behind the first `count` records."""
    offset = 0
    for _ in range(count):
        offset += 1  # the tag: field 4 has one byte
        length = shift = 0
        while True:
            byte = records[offset]
            offset += 1
            length |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
        offset += length
    return offset


def outputs_head(run_id: str, attempt: int) -> bytes:
    """What all Outputs messages of an attempt begin with."""
    return Outputs(run_id=run_id, attempt=attempt).SerializeToString() + _FIRST


def outputs_message(head: bytes, first: int, records: bytes) -> bytes:
    """Records, numbered from `first`, as a piece of a request."""
    outputs = head + varint(first) + records
    body = _OUTPUTS + varint(len(outputs)) + outputs
    return _MESSAGE + varint(len(body)) + body


def message(said: WorkerMessage) -> bytes:
    """Anything else that a worker says, as a piece of a request. Joined pieces are a ConnectRequest."""
    body = said.SerializeToString()
    return _MESSAGE + varint(len(body)) + body
