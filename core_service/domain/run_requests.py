"""What a request to create a run must look like; everything is checked before anything happens.

The result is normalised: JSON texts are compact, ids of the core's own are set, what only the core may set is cleared.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence

from google.protobuf.message import Message as ProtoMessage

from core_service.domain.errors import InvalidArgument, InvalidOutput
from core_service.domain.grammar.limits import MAX_STATE_BYTES
from core_service.domain.ids import new_id
from core_service.domain.json_text import compact, is_object
from penstock.v1.message_pb2 import Message, Part, Role
from penstock.v1.run_pb2 import RunOptions
from penstock.v1.run_service_pb2 import CreateRunRequest

MAX_REQUEST_BYTES = 1 << 20
MAX_MESSAGES = 1_000
MAX_LABELS = 64
MAX_ORIGIN_BYTES = 16 << 10

_THREAD_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")

MAX_START_DELAY = 366 * 24 * 3600
"""Seconds that a run's start may lie ahead."""

_ROLES = frozenset({Role.ROLE_USER, Role.ROLE_ASSISTANT, Role.ROLE_TOOL, Role.ROLE_SYSTEM})
_DURATIONS = ("run_timeout", "queue_timeout", "disconnect_grace")
_COUNTS = ("max_steps", "token_budget")


def check_request_id(request_id: str) -> None:
    """Refuse a request id that is not up to 128 printable ASCII characters without blanks. Empty is none."""
    if request_id and not _REQUEST_ID.fullmatch(request_id):
        raise InvalidArgument(
            "request_id must be 1 to 128 printable ASCII characters without blanks.", field="request_id"
        )


def check_thread_id(thread_id: str) -> None:
    """Refuse a thread id that a client may not choose. Empty is none."""
    if thread_id and not _THREAD_ID.fullmatch(thread_id):
        raise InvalidArgument(
            "thread_id must be 1 to 128 of letters, digits, '.', '_', ':' and '-', and begin with a letter or digit.",
            field="thread_id",
        )


def check_origin(origin_json: str) -> None:
    """Refuse an adapter's memory that is too large or no JSON. Empty is none."""
    if len(origin_json.encode()) > MAX_ORIGIN_BYTES:
        raise InvalidArgument("origin_json may have 16 KiB.", field="origin_json")
    _json(origin_json, "origin_json")


def check_labels(labels: Mapping[str, str]) -> None:
    """Refuse metadata that is too large or holds a NUL."""
    if len(labels) > MAX_LABELS:
        raise InvalidArgument(f"metadata may have {MAX_LABELS} entries, not {len(labels)}.", field="metadata")
    for key, value in labels.items():
        if not 0 < len(key) <= 64 or len(value) > 1_024 or "\0" in key or "\0" in value:
            raise InvalidArgument(
                "metadata has keys of 1 to 64 and values of up to 1,024 characters, without NUL.", field="metadata"
            )


def fingerprint(request: CreateRunRequest, *, tenant: str) -> bytes:
    """Return what tells two requests with the same request id apart: a hash of everything but that id."""
    bare = CreateRunRequest()
    bare.CopyFrom(request)
    bare.request_id = ""
    return digest(bare, tenant=tenant)


def digest(bare: ProtoMessage, *, tenant: str) -> bytes:
    """Return the hash of a request without its id."""
    return hashlib.sha256(tenant.encode() + b"\0" + bare.SerializeToString(deterministic=True)).digest()


def check_create(request: CreateRunRequest) -> None:
    """Refuse a malformed request to create a run. Its input is checked by `new_messages`."""
    if (size := request.ByteSize()) > MAX_REQUEST_BYTES:
        raise InvalidArgument(f"The request has {size:,} bytes; {MAX_REQUEST_BYTES:,} are allowed.", field="input")
    check_request_id(request.request_id)
    check_thread_id(request.thread_id)
    check_labels(request.metadata)
    check_origin(request.origin_json)
    if request.state_json:
        _check_state(request.state_json)
    if not request.input:
        raise InvalidArgument("input must hold at least one message.", field="input")
    if len(request.input) > MAX_MESSAGES:
        raise InvalidArgument(f"input may hold {MAX_MESSAGES:,} messages.", field="input")


def _check_state(text: str) -> None:
    state = _json(text, "state_json")
    if not is_object(state) or len(state.encode()) > MAX_STATE_BYTES:
        raise InvalidArgument(f"state_json must be an object of up to {MAX_STATE_BYTES:,} bytes.", field="state_json")


def normalised_options(options: RunOptions) -> RunOptions:
    """Return the options with compact JSON. Refuses values out of range; webhooks are checked elsewhere."""
    if not -100 <= options.priority <= 100:
        raise InvalidArgument("options.priority must lie between -100 and 100.", field="options.priority")
    if not 0 <= options.max_attempts <= 100:
        raise InvalidArgument("options.max_attempts must lie between 0 and 100.", field="options.max_attempts")
    _check_limits(options)
    normal = RunOptions()
    normal.CopyFrom(options)
    normal.agent_options_json = _json(options.agent_options_json, "options.agent_options_json")
    names = [tool.name for tool in normal.tools]
    if not all(names) or len(set(names)) != len(names):
        raise InvalidArgument("options.tools must have names, each once.", field="options.tools")
    for tool in normal.tools:
        tool.schema_json = _json(tool.schema_json, f"options.tools[{tool.name}].schema_json")
    return normal


def _check_limits(options: RunOptions) -> None:
    for name in _DURATIONS:
        if getattr(options, name).ToNanoseconds() < 0:
            raise InvalidArgument(f"options.{name} must not be negative.", field=f"options.{name}")
    if options.HasField("run_timeout") and options.run_timeout.ToNanoseconds() == 0:
        raise InvalidArgument("options.run_timeout must be more than nothing.", field="options.run_timeout")
    for name in _COUNTS:
        if getattr(options, name) < 0:
            raise InvalidArgument(f"options.{name} must not be negative.", field=f"options.{name}")


def is_delayed(options: RunOptions, now: int) -> bool:
    """Tell whether a run is to start later. Refuses a time that lies too far ahead. `now` in microseconds."""
    if not options.HasField("start_time"):
        return False
    delay = (options.start_time.ToMicroseconds() - now) / 1_000_000
    if delay > MAX_START_DELAY:
        raise InvalidArgument("options.start_time lies more than a year ahead.", field="options.start_time")
    return delay > 0


def new_messages(input: Sequence[Message], *, run_id: str, now: int) -> list[Message]:
    """Return the input with ids and times of the core's own and compact JSON. Refuses malformed messages."""
    messages = []
    for index, given in enumerate(input):
        where = f"input[{index}]"
        if given.role not in _ROLES:
            raise InvalidArgument(f"{where}.role must be user, assistant, tool or system.", field=f"{where}.role")
        if not given.parts:
            raise InvalidArgument(f"{where} has no parts.", field=f"{where}.parts")
        if len(given.client_id) > 256 or "\0" in given.client_id:
            raise InvalidArgument(f"{where}.client_id may have 256 characters.", field=f"{where}.client_id")
        message = Message(id=new_id("msg"), role=given.role, client_id=given.client_id, run_id=run_id)
        message.create_time.FromMicroseconds(now)
        message.metadata_json = _json(given.metadata_json, f"{where}.metadata_json")
        message.parts.extend(_part(part, f"{where}.parts[{i}]") for i, part in enumerate(given.parts))
        messages.append(message)
    return messages


def _part(given: Part, where: str) -> Part:
    part = Part()
    part.CopyFrom(given)
    part.ClearField("ordinal")
    part.ClearField("completion")
    part.provider_json = _json(given.provider_json, f"{where}.provider_json")
    match given.WhichOneof("content"):
        case "tool_call":
            part.tool_call.arguments_json = _json(given.tool_call.arguments_json or "{}", f"{where}.arguments_json")
        case "tool_result":
            part.tool_result.output_json = _json(given.tool_result.output_json, f"{where}.output_json")
        case "data":
            part.data.value_json = _json(given.data.value_json, f"{where}.value_json")
        case "file" if given.file.WhichOneof("source") is None:
            raise InvalidArgument(f"{where} is a file without url, data or file_id.", field=where)
        case None:
            raise InvalidArgument(f"{where} has no content.", field=where)
    return part


def _json(text: str, where: str) -> str:
    if not text:
        return ""
    try:
        return compact(text)
    except (InvalidOutput, ValueError) as error:
        raise InvalidArgument(f"{where} is not JSON: {error}", field=where) from error
