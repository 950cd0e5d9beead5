"""Messages of the contract as AG-UI shows them, and the snapshot that replaces a client's conversation.

Owns the ids under which a client knows what was said: they are the same in the stream, in every snapshot, and in the
history that the client sends back.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import msgspec

from edge.protocols.ag_ui.activity import activity_of
from edge.protocols.ag_ui.content import from_files, from_parts, text_piece
from edge.protocols.ag_ui.dialect import Dialect
from edge.protocols.ag_ui.frames import given, to_json
from penstock.v1.message_pb2 import Message, Part, Role, ToolCallPart, ToolResultPart

Entry = dict[str, object]
"""A message as AG-UI has it."""

_NO_NAME = msgspec.Raw(b"null")

_OWNED = "@ag-ui/client"
"""Metadata by which the client lets a snapshot drop activities of the types it names, and of no other."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """The conversation before a run, put aside for a snapshot that may never be sent: a stream is long, and waits."""

    packed: bytes = b""
    activity_types: frozenset[str] = frozenset()


NOTHING = Earlier()


def put_aside(entries: Iterable[Entry | msgspec.Raw]) -> Earlier:
    """Pack messages, which may be JSON already."""
    listed = list(entries)
    types = {str(entry["activityType"]) for entry in listed if isinstance(entry, dict) and "activityType" in entry}
    return Earlier(zlib.compress(b",".join(map(to_json, listed)), 1) if listed else b"", frozenset(types))


def messages_snapshot(earlier: Earlier, entries: Iterable[Entry], *, taken_back: Iterable[str] = ()) -> bytes:
    """Return MESSAGES_SNAPSHOT. `taken_back` names types of activities that are gone and are to go there too."""
    listed = list(entries)
    types = {str(entry["activityType"]) for entry in listed if "activityType" in entry}
    types |= earlier.activity_types | set(taken_back)
    known = [zlib.decompress(earlier.packed)] if earlier.packed else []
    messages = b",".join([*known, *map(to_json, listed)])
    owned = {"metadata": {_OWNED: {"authoritativeActivityTypes": sorted(types)}}} if types else {}
    rest = to_json(owned)[1:-1]
    return b'data: {"type":"MESSAGES_SNAPSHOT","messages":[%b]%b}\n\n' % (messages, b"," + rest if rest else b"")


def entries_of(messages: Iterable[Message], dialect: Dialect) -> Iterator[Entry]:
    """Return all messages, each id once: a question that was asked again stands where it stood first.

    Results stand behind the message that holds their call, where the client puts them too.
    """
    by_id: dict[object, Entry] = {}
    for message in messages:
        for entry in _entries(message, dialect):
            if entry["role"] == "activity":  # the same name and key again: the newest counts
                by_id[entry["id"]] = entry
            else:
                by_id.setdefault(entry["id"], entry)
    holders = {call["id"]: entry["id"] for entry in by_id.values() for call in _calls_of(entry)}
    results: dict[object, list[Entry]] = {}
    for entry in by_id.values():
        if entry["role"] == "tool" and entry["toolCallId"] in holders:
            results.setdefault(holders[entry["toolCallId"]], []).append(entry)
    for entry in by_id.values():
        if entry["role"] != "tool" or entry["toolCallId"] not in holders:
            yield entry
        yield from results.get(entry["id"], ())


def public_id(message: Message) -> str:
    """Return the id of a message: its sender's own, when it has one."""
    return message.client_id or message.id


def reasoning_id(message: Message, part: Part) -> str:
    """Return the id of reasoning, which is a message of its own. Parts of the input have no ordinal, nor company."""
    return f"{public_id(message)}.{part.ordinal}" if part.ordinal else public_id(message)


def result_content(result: ToolResultPart, dialect: Dialect) -> str | list[Entry]:
    """Return what a tool returned, for the client to read."""
    text = result_text(result)
    files = from_files(result.content, dialect) if dialect.has_result_parts else []
    return [*([text_piece(text)] if text else []), *files] if files else text


def result_text(result: ToolResultPart) -> str:
    """Return the text of a result: what went wrong, else a string as it is and other JSON as JSON."""
    if result.error_text:
        return result.error_text
    output = result.output_json
    return msgspec.json.decode(output, type=str) if output.startswith('"') else output


def _entries(message: Message, dialect: Dialect) -> Iterable[Entry]:
    match message.role:
        case Role.ROLE_USER:
            return [_spoken(message, "user", dialect)]
        case Role.ROLE_SYSTEM:
            return [_spoken(message, "system", dialect)]
        case Role.ROLE_TOOL:
            return [
                _result(message, part.tool_result, dialect) for part in message.parts if part.HasField("tool_result")
            ]
        case Role.ROLE_ASSISTANT:
            return _answer(message).values()
        case _:
            return []


def _spoken(message: Message, role: str, dialect: Dialect) -> Entry:
    content = from_parts(message.parts, dialect)
    if role == "system" and not isinstance(content, str):
        content = "".join(part.text.text for part in message.parts)
    return {"id": public_id(message), "role": role, "content": content, **_given_by_sender(message)}


def _result(message: Message, result: ToolResultPart, dialect: Dialect) -> Entry:
    entry: Entry = {"id": public_id(message), "role": "tool", "toolCallId": result.call_id}
    error = result.error_text or None
    content = result_content(result, dialect)
    return given({**entry, "content": content, "error": error, **_given_by_sender(message), **_owner(message)})


def _answer(message: Message) -> Mapping[str, Entry]:
    """Return what an assistant message is here: one message for text and calls, one for each other part."""
    entries: dict[str, Entry] = {}
    calls: list[Entry] = []
    for part in message.parts:
        encrypted = {"encryptedValue": part.provider_json} if part.provider_json else {}
        match part.WhichOneof("content"):
            case "reasoning":
                entry_id = reasoning_id(message, part)
                entries[entry_id] = {"id": entry_id, "role": "reasoning", "content": part.reasoning.text, **encrypted}
                entries[entry_id] |= _owner(message)
            case "text":
                entry = _spoken_entry(entries, message)
                entry["content"] = f"{entry.get('content', '')}{part.text.text}"
                entry |= encrypted
            case "tool_call":
                calls.append(_call(part.tool_call) | encrypted)
                _spoken_entry(entries, message)["toolCalls"] = calls
            case _:
                _add_activity(entries, message, part)
    return entries


def _spoken_entry(entries: dict[str, Entry], message: Message) -> Entry:
    entry_id = public_id(message)
    name = {"name": message.author.name} if message.author.name else {}
    around = {**_given_by_sender(message), **name, **_owner(message)}
    return entries.setdefault(entry_id, {"id": entry_id, "role": "assistant", **around})


def _calls_of(entry: Entry) -> list[Entry]:
    calls = entry.get("toolCalls", [])
    return calls if isinstance(calls, list) else []


def _call(call: ToolCallPart) -> Entry:
    function = {"name": call.tool_name, "arguments": call.arguments_json or call.raw_arguments}
    return {"id": call.call_id, "type": "function", "function": function}


def _add_activity(entries: dict[str, Entry], message: Message, part: Part) -> None:
    activity = activity_of(part, message)
    if activity is not None:
        entry: Entry = {"id": activity.id, "role": "activity", "activityType": activity.kind}
        entries[activity.id] = {**entry, "content": activity.content, **_owner(message)}


def _given_by_sender(message: Message) -> Entry:
    """Return the name and the metadata that `messages.py` put together."""
    if not message.metadata_json:
        return {}
    metadata = msgspec.json.decode(message.metadata_json, type=dict[str, msgspec.Raw])
    name = metadata.pop("name") if bytes(metadata.get("name", _NO_NAME)).startswith(b'"') else None
    return given({"name": name, "metadata": metadata or None})


def _owner(message: Message) -> Entry:
    child = message.author.child_run_id
    return {"subagentRunId": child} if child else {}
