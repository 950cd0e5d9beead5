"""Opens and closes messages, parts and steps so that rules 4–9, 13, 14 and 16 hold, whoever asks for it.

Knows the order of events; knows neither outputs nor what makes a run wait, retry or end.
"""

from __future__ import annotations

from collections.abc import Callable

from core_service.domain import runs
from core_service.domain.grammar.calls import Call
from core_service.domain.grammar.fold import Fold
from core_service.domain.grammar.pen import Pen, set_time
from core_service.domain.grammar.steps import Step
from core_service.domain.grammar.transcript import REASONING, TEXT, TOOL_CALL, TOOL_RESULT, Entry, OpenPart
from core_service.domain.json_text import compact, is_object
from penstock.v1.event_pb2 import (
    Event,
    MessageEnded,
    MessageStarted,
    PartEnded,
    PartStarted,
    RunResumed,
    StepEnded,
)
from penstock.v1.message_pb2 import (
    Author,
    Completion,
    Message,
    Part,
    Role,
    ToolOutcome,
    ToolResultPart,
    ToolRunner,
)

COMPLETE = Completion.COMPLETION_COMPLETE
INCOMPLETE = Completion.COMPLETION_INCOMPLETE

NO_ARGUMENTS = "{}"
ABANDONED_TEXT = "The run ended before this call had a result."


def completion(*, cut_off: bool) -> Completion.ValueType:
    """Return COMPLETE, or INCOMPLETE for what a failure cuts off (rule 16)."""
    return INCOMPLETE if cut_off else COMPLETE


class Scribe:
    """Writes well-formed structure with a pen."""

    def __init__(self, fold: Fold, pen: Pen, new_id: Callable[[str], str]) -> None:
        self._fold = fold
        self._pen = pen
        self._new_id = new_id
        self.authors: dict[str, str] = {}
        """By lane: who was announced to speak next. Not in the log yet, so lost with the core (protos/README.md)."""

    # ── opening ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def say(self, event: Event) -> None:
        """Write what the agent does. While the run is waiting that means that it goes on."""
        self.go_on()
        self._pen.write(event)

    def go_on(self) -> None:
        """Leave WAITING, if the run is there."""
        if self._fold.state == runs.WAITING:
            self.resume("")

    def resume(self, origin_json: str) -> None:
        self._pen.write(Event(run_resumed=RunResumed(leg=self._fold.leg + 1, origin_json=origin_json)))

    def open_assistant(self, lane: str) -> Entry:
        """Return the lane's open assistant message, opening one if needed (rule 5)."""
        entry = self._fold.transcript.assistant.get(lane)
        return entry or self._open_message(lane, Role.ROLE_ASSISTANT)

    def open_part(self, entry: Entry, part: Part) -> OpenPart:
        """Start a part and number it."""
        transcript = self._fold.transcript
        part.ordinal = transcript.last_ordinal + 1
        part.completion = Completion.COMPLETION_UNSPECIFIED
        self.say(Event(part_started=PartStarted(message_id=entry.header.id, part=part)))
        return transcript.open_parts[part.ordinal]

    def open_result(self, lane: str, call: Call) -> OpenPart:
        """Start the tool message of a result. It ends its call, and the message of that once no call is open in it."""
        if call.open_part is not None:
            self.end_part(call.open_part)
        if not call.entry.header.completion and not call.entry.open_calls():
            self.end_message(call.entry)
        result = ToolResultPart(call_id=call.call_id, tool_name=call.tool_name)
        return self.open_part(self._open_message(lane, Role.ROLE_TOOL), Part(tool_result=result))

    def _open_message(self, lane: str, role: Role.ValueType) -> Entry:
        fold = self._fold
        header = Message(id=self._new_id("msg"), role=role, author=self._author(lane, role), run_id=fold.run.id)
        set_time(header.create_time, self._pen.time)
        self.say(Event(message_started=MessageStarted(message=header, lane=lane)))
        return fold.transcript.open_entries[header.id]

    def _author(self, lane: str, role: Role.ValueType) -> Author:
        child = self._fold.children.get(lane)
        name = self.authors.pop(lane, "") if role == Role.ROLE_ASSISTANT else ""
        return Author(
            agent_id=child.agent_id if child else self._fold.run.agent_id,
            name=name or (child.name if child else ""),
            child_run_id=lane if child else "",
        )

    # ── closing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def end_part(self, part: OpenPart, *, cut_off: bool = False, extra: Part | None = None) -> None:
        """End a part with what was streamed, and with fields that became known only now."""
        whole = Part()
        whole.CopyFrom(part.header)
        whole.completion = completion(cut_off=cut_off)
        if extra is not None:
            whole.MergeFrom(extra)
        if part.kind == TEXT:
            whole.text.text = part.text()
        elif part.kind == REASONING:
            whole.reasoning.text = part.text()
        elif part.kind == TOOL_CALL:
            self._finish_arguments(part, whole)
        elif part.kind == TOOL_RESULT:
            whole.completion = INCOMPLETE  # only its `done` makes a result one that counts
        self._write_end(part, whole)

    def end_whole(self, part: OpenPart, whole: Part) -> None:
        """End a part with content that did not come in pieces."""
        whole.ordinal = part.ordinal
        whole.completion = COMPLETE
        self._write_end(part, whole)

    def _write_end(self, part: OpenPart, whole: Part) -> None:
        self.say(Event(part_ended=PartEnded(message_id=part.entry.header.id, part=whole)))

    def _finish_arguments(self, part: OpenPart, whole: Part) -> None:
        """Rule 16: arguments that are cut off, or no JSON object, leave the call incomplete."""
        if whole.completion == COMPLETE and not part.length:
            self._pen.write_delta(part, NO_ARGUMENTS)
        try:
            arguments = compact(part.text())
        except ValueError:
            arguments = ""
        if whole.completion == COMPLETE and is_object(arguments):
            whole.tool_call.arguments_json = arguments
        else:
            whole.completion = INCOMPLETE
            whole.tool_call.raw_arguments = part.text()

    def settle(self, entry: Entry) -> None:
        """End a message one of whose calls has a result, once none of its calls is open (rule 9)."""
        if entry.has_result and not entry.header.completion and not entry.open_calls():
            self.end_message(entry)

    def end_message(self, entry: Entry, *, cut_off: bool = False) -> None:
        """End a message and its open parts, in order of start."""
        for part in list(entry.open_parts.values()):
            self.end_part(part, cut_off=cut_off)
        ended = MessageEnded(message_id=entry.header.id, completion=completion(cut_off=cut_off))
        self.say(Event(message_ended=ended))

    def end_turn(self, lane: str) -> None:
        """End the lane's open assistant message, if there is one."""
        entry = self._fold.transcript.assistant.get(lane)
        if entry is not None:
            self.end_message(entry)

    def end_messages(self, *, cut_off: bool) -> None:
        """End all messages, in order of start (rule 14)."""
        for entry in list(self._fold.transcript.open_entries.values()):
            self.end_message(entry, cut_off=cut_off)

    def end_step(self, step: Step, *, cut_off: bool, durable: bool = False) -> None:
        ended = StepEnded(step=step.number, completion=completion(cut_off=cut_off), durable=durable)
        self.say(Event(step_ended=ended))

    def abandon_calls(self) -> None:
        """Give every whole call that the agent should have run the result it lacks (rule 13)."""
        for call in self._fold.calls.unanswered():
            if call.is_complete and call.runner != ToolRunner.TOOL_RUNNER_CLIENT:
                part = self.open_result(call.entry.lane, call)
                whole = Part()
                whole.CopyFrom(part.header)
                whole.tool_result.outcome = ToolOutcome.TOOL_OUTCOME_ABANDONED
                whole.tool_result.error_text = ABANDONED_TEXT
                self.end_whole(part, whole)
                self.end_message(part.entry)
