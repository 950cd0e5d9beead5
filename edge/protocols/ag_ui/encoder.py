"""A run as the events of AG-UI: a stream that shows one leg of it, from its start or from the middle on.

Owns the frames, and what the client's verification demands: what was opened is closed before the end, also at a pause,
and opened again after it. A child run is a subagent; what other lanes say stays out of sight, as in all protocols. It
refuses to know HTTP and the core.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

import msgspec

from edge.fold import Fold, FoldedPart
from edge.protocols.ag_ui import parts
from edge.protocols.ag_ui.activity import activity_of
from edge.protocols.ag_ui.conversation import NOTHING, Earlier, entries_of, messages_snapshot, public_id
from edge.protocols.ag_ui.dialect import CURRENT, Dialect
from edge.protocols.ag_ui.frames import frame, to_json
from edge.protocols.ag_ui.origin import RunIds, ids_of
from edge.protocols.ag_ui.outcome import calls_to_run, error_fields, finished_fields, has_failed, usage_of
from edge.protocols.ag_ui.said import Said
from edge.protocols.ag_ui.scopes import Owner, Scopes
from penstock.flat_json import inline
from penstock.v1.event_pb2 import Custom, Event, RunRetrying, StatePatched
from penstock.v1.message_pb2 import Completion, Message, Part


@dataclass(frozen=True, slots=True)
class View:
    """Which part of a run is shown to whom, and what its client holds already."""

    thread_id: str
    """As the client calls the thread."""
    dialect: Dialect = CURRENT
    leg: int = 0
    """The leg that is shown from its start."""
    joins_at: int = 0
    """If set, the stream begins behind this seq instead, with all that came before it in snapshots."""
    earlier: Earlier = NOTHING
    """The conversation before the run's own messages."""
    state_json: str = ""
    """The thread's state, when the client may not have it."""
    state_version: int = 0
    """Changes up to this version are in `state_json`."""


class AgUiEncoder:
    """Folds a run into events, from the start of one leg, or from a seq in the middle, to the end of that leg."""

    def __init__(self, view: View) -> None:
        self.ended = False
        self._view = view
        self._fold = Fold()
        self._said = Said(self._fold)
        self._scopes = Scopes(self._fold)
        self._ids = RunIds("")
        self._usage_from = 0  # of the leg, among the reports of the run
        self._is_open = False
        self._missed: list[StatePatched] = []  # changes before the stream begins, if its client may not have them
        self._state_json = ""  # the whole state, as long as the log tells it whole
        self._pieces: dict[int, tuple[bytes, bytes]] = {}  # what stands around a piece, by ordinal of the open part

    def feed(self, event: Event) -> bytes:
        """Fold one event and return the frames it makes."""
        payload = event.WhichOneof("payload")
        if payload == "part_delta":  # nearly all events: a few look-ups and a concatenation
            delta = event.part_delta
            if self._is_open:
                around = self._pieces.get(delta.part)
                return around[0] + to_json(delta.text) + around[1] if around else b""
            self._said.add_piece(delta)
            return self._open() if self._begins_at(event, payload) else b""
        if self.ended:
            return b""
        self._fold.feed(event)
        self._said.feed(event, payload)
        scope = self._scopes.feed(event, payload)
        if self._is_open:
            return scope or self._tell(event)
        self._prepare(event, payload)
        return self._open() if self._begins_at(event, payload) else b""

    def _begins_at(self, event: Event, payload: str | None) -> bool:
        if self._view.joins_at:
            return event.seq >= self._view.joins_at
        if payload == "run_resumed":
            return event.run_resumed.leg == self._view.leg
        return payload == "run_queued" and self._view.leg == 0

    def _prepare(self, event: Event, payload: str | None) -> None:
        """Keep what a stream that begins later has to know."""
        run_id = self._fold.run.id
        match payload:
            case "run_queued":
                self._ids = ids_of(event.run_queued.run.origin_json, otherwise=run_id)
            case "run_resumed":
                resumed = event.run_resumed
                self._ids = ids_of(resumed.origin_json, otherwise=f"{run_id}.{resumed.leg}")
                self._usage_from = len(self._fold.reported)
            case "state_patched" if self._may_miss(event.state_patched):
                missed = StatePatched()
                missed.CopyFrom(event.state_patched)
                self._missed.append(missed)
            case _:
                pass

    def _may_miss(self, patched: StatePatched) -> bool:
        """True for a change that a client does not have, who has the state of the view or came from elsewhere."""
        has_seen_all = not (self._view.joins_at or self._view.state_json)
        return not has_seen_all and patched.version > self._view.state_version

    def _open(self) -> bytes:
        self._is_open = True
        self._state_json = self._view.state_json
        frames = [self._run_started()]
        if self._state_json:
            frames.append(frame("STATE_SNAPSHOT", {"snapshot": inline(self._state_json)}))
        frames += map(self._patch, self._missed)
        self._missed.clear()
        if self._view.joins_at:
            frames.append(self._messages())
        frames.append(self._scopes.open())
        frames += [self._start(folded) for folded in self._fold.parts.values() if folded.is_open]
        if self._fold.end is not None or (self._fold.open_inputs and self._fold.is_waiting):
            frames.append(self._finish(restates=False))  # else all is answered, and the run is about to go on
        return b"".join(frames)

    def _tell(self, event: Event) -> bytes:
        match event.WhichOneof("payload"):
            case "part_started":
                return self._start(self._fold.parts[event.part_started.part.ordinal])
            case "part_ended":
                return self._end(self._fold.parts[event.part_ended.part.ordinal])
            case "state_patched":
                return self._patch(event.state_patched)
            case "custom":
                return _custom(event.custom)
            case "message_received":
                return _received(event.message_received.message)
            case "run_retrying":
                return self._retract(event.run_retrying)
            case "run_waiting" | "run_ended":
                return self._finish(restates=True)
            case "run_queued" | "run_started" | "run_resumed" | "message_started" | "message_ended" | "part_delta":
                return b""
            case "usage_reported" | "input_requested" | "input_resolved":
                return b""
            case "step_started" | "step_ended" | "child_started" | "child_ended" | None:
                return b""
            case unheard_of:
                assert_never(unheard_of)

    def _start(self, folded: FoldedPart) -> bytes:
        owner = self._owner(folded)
        if owner is None:
            return b""
        frames, around = parts.started(folded.part, folded.message.message, owner)
        if around is not None:
            self._pieces[folded.part.ordinal] = around
        return frames

    def _end(self, folded: FoldedPart) -> bytes:
        owner = self._owner(folded)
        if owner is None:
            return b""
        self._pieces.pop(folded.part.ordinal, None)
        return parts.ended(folded.part, folded.message.message, owner, self._view.dialect)

    def _owner(self, folded: FoldedPart) -> Owner | None:
        """Return whose part this is; None when it is not shown. A result is shown wherever its call is."""
        owner = self._scopes.owner_of(folded.message.lane)
        if owner is None and folded.part.HasField("tool_result"):
            call = self._scopes.call(folded.part.tool_result.call_id)
            return None if call is None else self._scopes.owner_of(call.message.lane)
        return owner

    def _run_started(self) -> bytes:
        version = self._view.dialect.version
        fields = {**self._run(), "protocolVersion": version, "parentRunId": self._ids.parent_run_id}
        return frame("RUN_STARTED", fields)

    def _run(self) -> dict[str, object]:
        return {"threadId": self._view.thread_id, "runId": self._ids.run_id}

    def _patch(self, patched: StatePatched) -> bytes:
        if patched.version <= self._view.state_version:
            return b""  # the state that was sent first has it
        self._state_json = patched.snapshot_json
        if patched.WhichOneof("change") == "patch_json":
            return frame("STATE_DELTA", {"delta": inline(patched.patch_json)})
        return frame("STATE_SNAPSHOT", {"snapshot": inline(patched.snapshot_json)})

    def _retract(self, retrying: RunRetrying) -> bytes:
        """Restate the conversation without what was taken back: the protocol has no smaller word for it."""
        if not retrying.retracted_ordinals:
            return b""
        taken_back = [self._fold.parts[ordinal] for ordinal in retrying.retracted_ordinals]
        activities = (activity_of(folded.part, folded.message.message) for folded in taken_back)
        kinds = [activity.kind for activity in activities if activity is not None]
        return b"".join(map(self._withdraw, taken_back)) + self._messages(*kinds)

    def _withdraw(self, folded: FoldedPart) -> bytes:
        """Answer a call that was taken back, and that the snapshot drops: unanswered it would wait for the client."""
        owner, call_id = self._owner(folded), folded.part.tool_call.call_id
        if owner is None or not call_id or any(_is_result(other.part, call_id) for other in self._fold.parts.values()):
            return b""
        return parts.withdrawn(folded.part, folded.message.message, owner)

    def _messages(self, *taken_back: str) -> bytes:
        said = self._said.messages(lambda folded: self._owner(folded) is not None)
        return messages_snapshot(self._view.earlier, entries_of(said, self._view.dialect), taken_back=taken_back)

    def _finish(self, *, restates: bool) -> bytes:
        self.ended = True
        end = self._fold.end
        usage = {"usage": usage_of(self._fold.reported[self._usage_from :])}
        if end is not None and has_failed(end):
            return frame("RUN_ERROR", {**error_fields(end), **usage})
        finished = frame("RUN_FINISHED", {**self._run(), **finished_fields(self._fold, self._view.dialect), **usage})
        asks = end is None and not calls_to_run(self._fold)
        return self._scopes.close() + (self._restated() if asks and restates else b"") + finished

    def _restated(self) -> bytes:
        """Return what AG-UI's pages want before an interrupt. A state that was patched its client has put together."""
        state = frame("STATE_SNAPSHOT", {"snapshot": inline(self._state_json)}) if self._state_json else b""
        return state + self._messages()


def _is_result(part: Part, call_id: str) -> bool:
    """True for a result that was told, even if it was taken back."""
    return part.tool_result.call_id == call_id and part.completion == Completion.COMPLETION_COMPLETE


def _custom(custom: Custom) -> bytes:
    value = inline(custom.value_json) if custom.value_json else msgspec.Raw(b"null")
    return frame("CUSTOM", {"name": custom.name, "value": value})


def _received(message: Message) -> bytes:
    """Show a message that reached the run from elsewhere: its text, which is all that can be streamed."""
    message_id: dict[str, object] = {"messageId": public_id(message)}
    text = "".join(part.text.text for part in message.parts)
    start = frame("TEXT_MESSAGE_START", {**message_id, "role": "user"})
    return start + frame("TEXT_MESSAGE_CONTENT", {**message_id, "delta": text}) + frame("TEXT_MESSAGE_END", message_id)
