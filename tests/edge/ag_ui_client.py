"""A client of AG-UI, written down from the protocol's rules: it checks every frame, and builds what a client builds.

Frames are held against the models of `ag-ui-protocol`, unknown fields included, and against the order that the official
client verifies. What the official clients really do is judged in `tests/clients`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from ag_ui.core import events
from pydantic import BaseModel, TypeAdapter

from core_service.domain.grammar.json_patch import patched
from edge.protocols.ag_ui import AgUiEncoder, View
from penstock.v1.event_pb2 import Event
from tests.edge.handmade_log import HandmadeLog

Json = dict[str, Any]

_EVENT: TypeAdapter[BaseModel] = TypeAdapter(events.Event)
_OPENERS = {"TEXT_MESSAGE": "messageId", "REASONING_MESSAGE": "messageId", "TOOL_CALL": "toolCallId"}
_STREAMS = {
    f"{stream}_{act}": (stream, act)
    for stream, acts in {
        "TEXT_MESSAGE": ("START", "CONTENT", "END"),
        "REASONING_MESSAGE": ("START", "CONTENT", "END"),
        "TOOL_CALL": ("START", "ARGS", "END"),
    }.items()
    for act in acts
}


def frames_of(stream: bytes) -> list[Json]:
    """Split a stream into its events. It must end with a whole frame; comments are left out."""
    assert b"\r" not in stream
    *frames, rest = stream.decode().split("\n\n")
    assert rest == ""
    data = [frame for frame in frames if not frame.startswith(":")]
    assert all(frame.startswith("data: ") and "\n" not in frame for frame in data), frames
    return [json.loads(frame.removeprefix("data: ")) for frame in data]


def stream(events: Sequence[Event], view: View | None = None, *, after: int = 0) -> bytes:
    """Return what a fresh encoder makes of a log, behind a cursor."""
    encoder = AgUiEncoder(view or View("t"))
    made = [(event.seq, encoder.feed(event)) for event in events]
    return b"".join(frame for seq, frame in made if seq > after)


def frames(log: HandmadeLog, view: View | None = None) -> list[Json]:
    """Return the frames of a log written by hand."""
    return frames_of(stream(log.events, view))


def kinds(log: HandmadeLog, view: View | None = None) -> list[str]:
    """Return their types."""
    return [frame["type"] for frame in frames(log, view)]


def of_kind(log: HandmadeLog, kind: str, view: View | None = None) -> list[Json]:
    """Return those of one type."""
    return [frame for frame in frames(log, view) if frame["type"] == kind]


class AgUiClient:
    """What an application sees."""

    def __init__(self, *messages: Json, state: object = None) -> None:
        self.messages: list[Json] = list(messages)
        self.state: object = {} if state is None else state
        self.custom: list[Json] = []
        self.end: Json = {}
        """The last RUN_FINISHED or RUN_ERROR."""
        self.open: set[tuple[str, ...]] = set()
        self._owners: dict[tuple[str, str], object] = {}
        self._subagents: set[str] = set()

    @property
    def is_running(self) -> bool:
        return ("run",) in self.open

    def lose(self) -> None:
        """The connection breaks: what the application has stays, what was open is forgotten."""
        self.open.clear()
        self._owners.clear()
        self._subagents.clear()

    def read(self, stream: bytes) -> AgUiClient:
        """Take the frames of a stream."""
        for event in frames_of(stream):
            self.feed(event)
        return self

    def text(self) -> str:
        """All that the agent itself said."""
        own = (one for one in self.messages if one["role"] == "assistant" and "subagentRunId" not in one)
        return "".join(one.get("content", "") for one in own)

    def feed(self, event: Json) -> Json:
        """Take one event, and return it."""
        assert list(_unknown(_EVENT.validate_python(event))) == []
        assert None not in event.values() or event["type"] in ("CUSTOM", "STATE_SNAPSHOT"), event
        kind = event["type"]
        assert self.is_running or kind in ("RUN_STARTED", "RUN_ERROR"), f"{kind} outside of a run"
        if kind in _STREAMS:
            self._stream(event, *_STREAMS[kind])
        else:
            getattr(self, f"_{kind.lower()}")(event)
        return event

    # ── streams ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _stream(self, event: Json, stream: str, act: str) -> None:
        key = (stream, event[_OPENERS[stream]])
        owner = event.get("subagentRunId")
        if act == "START":
            assert key not in self.open, f"{key} is open"
            self.open.add(key)
            assert self._owners.setdefault(key, owner) == owner
            self._begin(stream, event)
            return
        assert key in self.open, f"{key} is not open"
        assert owner == self._owners[key]
        if act == "END":
            self.open.remove(key)
        else:
            self._append(stream, event)

    def _begin(self, stream: str, event: Json) -> None:
        owner = {"subagentRunId": event["subagentRunId"]} if "subagentRunId" in event else {}
        if stream == "TOOL_CALL":
            call = self._call(event["toolCallId"])
            if call is None:
                holder = self._message(event["parentMessageId"], role="assistant", **owner)
                function = {"name": event["toolCallName"], "arguments": ""}
                holder.setdefault("toolCalls", []).append(
                    {"id": event["toolCallId"], "type": "function", "function": function}
                )
            return
        name = {"name": event["name"]} if "name" in event else {}
        self._message(event["messageId"], role=event["role"], content="", **name, **owner)

    def _append(self, stream: str, event: Json) -> None:
        if stream == "TOOL_CALL":
            call = self._call(event["toolCallId"])
            assert call is not None
            call["function"]["arguments"] += event["delta"]
        else:
            message = self._message(event["messageId"])
            message["content"] = message.get("content", "") + event["delta"]

    def _reasoning_start(self, event: Json) -> None:
        assert ("span", event["messageId"]) not in self.open
        self.open.add(("span", event["messageId"]))

    def _reasoning_end(self, event: Json) -> None:
        self.open.remove(("span", event["messageId"]))

    def _reasoning_encrypted_value(self, event: Json) -> None:
        target = self._call(event["entityId"]) if event["subtype"] == "tool-call" else self._message(event["entityId"])
        assert target is not None
        target["encryptedValue"] = event["encryptedValue"]

    def _tool_call_result(self, event: Json) -> None:
        result: Json = {"id": event["messageId"], "role": "tool"}
        result |= {key: value for key, value in event.items() if key in ("toolCallId", "content", "subagentRunId")}
        holders = [place for place, one in enumerate(self.messages) if event["toolCallId"] in _call_ids(one)]
        place = holders[0] + 1 if holders else len(self.messages)
        while holders and place < len(self.messages) and self.messages[place]["role"] == "tool":
            place += 1
        self.messages.insert(place, result)

    def _activity_snapshot(self, event: Json) -> None:
        message = self._message(event["messageId"], role="activity", activityType=event["activityType"])
        message["content"] = event["content"]
        if "subagentRunId" in event:
            message["subagentRunId"] = event["subagentRunId"]

    # ── snapshots, state, the rest ───────────────────────────────────────────────────────────────────────────────────

    def _messages_snapshot(self, event: Json) -> None:
        told = {one["id"]: one for one in event["messages"]}
        assert len(told) == len(event["messages"]), "an id stands twice in a snapshot"
        has_reasoning = any(one["role"] == "reasoning" for one in event["messages"])
        owned = event.get("metadata", {}).get("@ag-ui/client", {}).get("authoritativeActivityTypes", [])

        def stays(one: Json) -> bool:
            if one["role"] == "activity":
                return one["activityType"] not in owned
            return one["role"] == "reasoning" and not has_reasoning

        kept = [told.get(one["id"], one) for one in self.messages if one["id"] in told or stays(one)]
        ids = {one["id"] for one in kept}
        self.messages = json.loads(json.dumps(kept + [one for one in event["messages"] if one["id"] not in ids]))

    def _state_snapshot(self, event: Json) -> None:
        self.state = event["snapshot"]

    def _state_delta(self, event: Json) -> None:
        self.state = json.loads(patched(json.dumps(self.state), json.dumps(event["delta"]), max_bytes=1 << 20))

    def _custom(self, event: Json) -> None:
        self.custom.append(event)

    # ── runs, steps, subagents ───────────────────────────────────────────────────────────────────────────────────────

    def _run_started(self, event: Json) -> None:
        assert not self.is_running
        self.lose()
        self.open.add(("run",))
        self.end = {}
        self._ids = (event["threadId"], event["runId"])

    def _run_finished(self, event: Json) -> None:
        assert self.open == {("run",)}, f"still open: {self.open}"
        assert (event["threadId"], event["runId"]) == self._ids
        self.open.clear()
        self.end = event

    def _run_error(self, event: Json) -> None:
        self.open.clear()
        self.end = event

    def _step_started(self, event: Json) -> None:
        key = ("step", event["stepName"], event.get("subagentRunId", ""))
        assert key not in self.open
        self.open.add(key)

    def _step_finished(self, event: Json) -> None:
        self.open.remove(("step", event["stepName"], event.get("subagentRunId", "")))

    def _subagent_started(self, event: Json) -> None:
        child = event["subagentRunId"]
        assert child not in self._subagents
        assert event.get("parentSubagentRunId", child) in {child, *self._subagents}
        self._subagents.add(child)
        self.open.add(("subagent", child))

    def _subagent_finished(self, event: Json) -> None:
        self.open.remove(("subagent", event["subagentRunId"]))

    _subagent_error = _subagent_finished

    def _message(self, message_id: str, **fresh: object) -> Json:
        for message in self.messages:
            if message["id"] == message_id:
                return message
        assert fresh, f"there is no message {message_id}"
        message = {"id": message_id, **fresh}
        self.messages.append(message)
        return message

    def _call(self, call_id: str) -> Json | None:
        calls = (call for message in self.messages for call in message.get("toolCalls", ()))
        return next((call for call in calls if call["id"] == call_id), None)


def _call_ids(message: Json) -> set[str]:
    return {call["id"] for call in message.get("toolCalls", ())}


def _unknown(model: BaseModel, path: str = "") -> Iterator[str]:
    """Yield the fields that the models do not know, which they would pass over in silence."""
    yield from (f"{path}{type(model).__name__}.{name}" for name in model.model_extra or {})
    for name in type(model).model_fields:
        value = getattr(model, name)
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, BaseModel):
                yield from _unknown(inner, f"{path}{type(model).__name__}.")
