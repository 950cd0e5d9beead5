"""What the log can hold of an output. Everything here raises InvalidOutput and changes nothing but what it returns."""

from __future__ import annotations

import math
import re
from typing import Literal

import msgspec

from core_service.domain.answers import schema_problem
from core_service.domain.errors import InvalidOutput
from core_service.domain.grammar.fold import TOKENS
from core_service.domain.grammar.limits import (
    DEFAULT_EXPIRY,
    EVENT_OVERHEAD,
    MAX_EVENT_BYTES,
    MAX_EXPIRY,
    MAX_NAME_CHARACTERS,
    MAX_STATE_BYTES,
)
from core_service.domain.grammar.shared_state import SharedState
from core_service.domain.json_text import compact
from penstock.v1.message_pb2 import Part
from penstock.v1.run_pb2 import Usage
from penstock.v1.worker_service_pb2 import AskOutput, Output


class _ObjectSchema(msgspec.Struct):
    type: Literal["object"]


_OBJECT_SCHEMA = msgspec.json.Decoder(_ObjectSchema)
_CALL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def check_size(output: Output) -> None:
    """Every event that an output becomes is smaller than the output and what the core adds to it."""
    if output.ByteSize() > MAX_EVENT_BYTES - EVENT_OVERHEAD:
        raise InvalidOutput(f"an output of {output.ByteSize()} bytes does not fit into an event")


def checked_call_id(call_id: str) -> str:
    if not _CALL_ID.fullmatch(call_id):
        raise InvalidOutput(f"call id {call_id[:80]!r} is not 1 to 64 of A-Z, a-z, 0-9, _ and -")
    return call_id


def checked_name(name: str, what: str) -> str:
    """Return a name that may be empty."""
    if len(name) > MAX_NAME_CHARACTERS:
        raise InvalidOutput(f"{what} is longer than {MAX_NAME_CHARACTERS} characters")
    return name


def required_name(name: str, what: str) -> str:
    if not name:
        raise InvalidOutput(f"{what} is missing")
    return checked_name(name, what)


def checked_json(text: str, what: str) -> str:
    """Return `text` compact; empty stays empty."""
    try:
        return compact(text) if text else ""
    except ValueError as error:
        raise InvalidOutput(f"{what}: {error}") from error


def required_json(text: str, what: str) -> str:
    if not text:
        raise InvalidOutput(f"{what} is missing")
    return checked_json(text, what)


def checked_schema(text: str) -> str:
    """Return a schema of type object."""
    schema = checked_json(text, "schema_json")
    try:
        _OBJECT_SCHEMA.decode(schema)
    except msgspec.MsgspecError as error:
        raise InvalidOutput("schema_json is not a schema of type object") from error
    if problem := schema_problem(schema):
        raise InvalidOutput(f"schema_json is not a JSON schema: {problem}")
    return schema


def checked_expiry(given: AskOutput) -> int:
    """Return how long a question stays open, in microseconds."""
    if not given.HasField("expire_in"):
        return DEFAULT_EXPIRY
    expiry = given.expire_in.seconds * 1_000_000 + given.expire_in.nanos // 1000
    if not 0 < expiry <= MAX_EXPIRY:
        raise InvalidOutput("expire_in is not between 0 and a year")
    return expiry


def checked_part(given: Part) -> Part:
    """Return a copy of a file, data or source part that has nothing of the core's own."""
    part = Part()
    part.CopyFrom(given)
    part.ClearField("ordinal")
    part.ClearField("completion")
    part.provider_json = checked_json(part.provider_json, "provider_json")
    match part.WhichOneof("content"):
        case "file":
            if part.file.WhichOneof("source") is None:
                raise InvalidOutput("a file needs a url, data or file_id")
        case "data":
            required_name(part.data.name, "the name of a data part")
            part.data.value_json = required_json(part.data.value_json, "value_json")
        case "source":
            pass
        case other:
            raise InvalidOutput(f"a part of kind {other} cannot be sent whole")
    return part


def checked_usage(usage: Usage) -> Usage:
    checked_name(usage.provider, "provider")
    checked_name(usage.model, "model")
    if any(getattr(usage, name) < 0 for name in TOKENS):
        raise InvalidOutput("usage counts less than nothing")
    if not math.isfinite(usage.cost_usd) or usage.cost_usd < 0:
        raise InvalidOutput("cost_usd is not an amount")
    return usage


def checked_snapshot(text: str) -> str:
    snapshot = required_json(text, "snapshot_json")
    if len(snapshot.encode()) > MAX_STATE_BYTES:
        raise InvalidOutput(f"the state is larger than {MAX_STATE_BYTES} bytes")
    return snapshot


def checked_patch(text: str, shared: SharedState) -> str:
    """Return a patch that fits the state as it is now."""
    patch = required_json(text, "patch_json")
    try:
        shared.after(patch)
    except ValueError as error:
        raise InvalidOutput(f"patch_json: {error}") from error
    return patch
