"""One response: the leg of a run that it stands for, folded from the run's first event to the end of that leg.

Owns what this protocol remembers beside the shared fold: when the leg began and ended, what its request said, which
result belongs to which call, which source to which text. It refuses to know frames; `encoder.py` streams what is summed
up here.
"""

from __future__ import annotations

from edge.fold import Fold
from edge.protocols.openai_responses import ids
from edge.protocols.openai_responses.origin import Origin, is_instructions, read_origin
from penstock.v1.event_pb2 import Event, InputRequested, RunQueued
from penstock.v1.message_pb2 import Completion, Part, SourcePart, ToolCallPart, ToolRunner
from penstock.v1.run_pb2 import EndReason, InputKind, InputRequest, RunState

INCOMPLETE_REASONS: dict[int, str] = {
    EndReason.END_REASON_LENGTH: "max_output_tokens",
    EndReason.END_REASON_CONTENT_FILTER: "content_filter",
}

_STATUS_BY_STATE: dict[int, str] = {
    RunState.RUN_STATE_SUCCEEDED: "completed",
    RunState.RUN_STATE_CANCELLED: "cancelled",
}


class Leg:
    """A response, as far as it has come. Attributes are for reading; only `feed` changes them."""

    def __init__(self, number: int = 0, origin: Origin | None = None) -> None:
        self.number = number
        self.fold = Fold()
        self.origin = origin or Origin()
        """That of the log, once the leg has begun."""
        self.instructions: str | None = None
        self.create_time = 0
        """Seconds since 1970."""
        self.end_time = 0
        """Seconds since 1970, once it has ended."""
        self.approvals: dict[str, str] = {}
        """Call id → id of the request to approve it."""
        self._calls: dict[str, int] = {}  # call id → ordinal
        self._citations: dict[int, list[int]] = {}  # ordinal of a text → ordinals of the sources that it cites
        self._results: dict[str, list[int]] = {}  # call id → ordinals of its whole results, retracted ones included

    @property
    def id(self) -> str:
        """The response id."""
        return ids.ResponseRef(self.fold.run.id, self.number).id

    @property
    def has_begun(self) -> bool:
        """False while an earlier leg goes on, or waits."""
        return bool(self.fold.run.id) and self.fold.leg == self.number

    @property
    def has_ended(self) -> bool:
        """True when nothing more is added to this response."""
        return self.has_begun and self.fold.has_leg_ended

    @property
    def status(self) -> str:
        """OpenAI's word for where it stands."""
        if not self.has_ended:
            is_queued = not self.has_begun or not self.fold.attempt
            return "queued" if is_queued else "in_progress"
        end = self.fold.end
        if end is None:  # it waits: the answer begins another response
            return "completed"
        if end.reason in INCOMPLETE_REASONS:
            return "incomplete"
        return _STATUS_BY_STATE.get(end.state, "failed")

    def call(self, call_id: str) -> Part | None:
        """Return a call of the main lane that has ended and counts."""
        ordinal = self._calls.get(call_id)
        return None if ordinal is None or ordinal in self.fold.retracted else self.fold.parts[ordinal].part

    def result(self, call_id: str) -> Part | None:
        """Return the result of a call that counts."""
        counted = [ordinal for ordinal in self._results.get(call_id, ()) if ordinal not in self.fold.retracted]
        return self.fold.parts[counted[-1]].part if counted else None

    def home(self, result: Part) -> int:
        """Return the ordinal of the item that shows a result: that of its call, or its own when that item is over."""
        call_id = result.tool_result.call_id
        call = self._calls.get(call_id, result.ordinal)
        in_leg = [ordinal for ordinal in self._results[call_id] if self.fold.parts[ordinal].leg == self.number]
        is_open = self.fold.parts[call].leg == self.number and in_leg[0] == result.ordinal
        return call if is_open else result.ordinal

    def cited(self, text: int) -> list[SourcePart]:
        """Return the sources that a text of the main lane cites and that count."""
        counted = [ordinal for ordinal in self._citations.get(text, ()) if ordinal not in self.fold.retracted]
        return [self.fold.parts[ordinal].part.source for ordinal in counted]

    def questions(self) -> list[InputRequest]:
        """Return what this leg ends with: the open questions, but for calls that the client was handed already."""
        return [question for question in self.fold.open_inputs.values() if not self._is_handed_over(question)]

    def feed(self, event: Event) -> None:
        """Add the next event. What follows the end of the leg belongs to another response."""
        if self.has_ended:
            return
        self.fold.feed(event)
        match event.WhichOneof("payload"):
            case "run_queued":
                self._create(event.run_queued)
            case "part_ended":
                self._note(event.part_ended.part)
            case "input_requested":
                self._ask(event.input_requested)
            case "run_resumed":
                self._resume(event)
            case "run_waiting" | "run_ended":
                self.end_time = event.create_time.seconds
            case _:
                pass  # says nothing that the fold does not keep

    def _create(self, queued: RunQueued) -> None:
        self.create_time = queued.run.create_time.seconds
        if not self.number:
            self.origin = read_origin(queued.run.origin_json)
        said = [part.text.text for message in queued.input if is_instructions(message) for part in message.parts]
        self.instructions = "".join(said) or None

    def _resume(self, event: Event) -> None:
        self.create_time = event.create_time.seconds
        self.origin = read_origin(event.run_resumed.origin_json)

    def _note(self, part: Part) -> None:
        if self.fold.parts[part.ordinal].message.lane:
            return
        match part.WhichOneof("content"):
            case "tool_call":
                self._calls[part.tool_call.call_id] = part.ordinal
            case "tool_result" if part.completion == Completion.COMPLETION_COMPLETE:
                self._results.setdefault(part.tool_result.call_id, []).append(part.ordinal)
            case "source":
                self._citations.setdefault(part.source.cited_ordinal, []).append(part.ordinal)
            case _:
                pass

    def _ask(self, asked: InputRequested) -> None:
        question = asked.input
        if question.kind == InputKind.INPUT_KIND_APPROVAL and question.call_id:
            self.approvals[question.call_id] = ids.approval_id(self.fold.run.id, question.id)

    def _is_handed_over(self, question: InputRequest) -> bool:
        ordinal = self._calls.get(question.call_id)
        is_here = ordinal is not None and self.fold.parts[ordinal].leg == self.number
        return question.kind == InputKind.INPUT_KIND_CLIENT_TOOL and is_here


def is_of_client(call: ToolCallPart) -> bool:
    """Tell whether the client runs the tool."""
    return call.runner == ToolRunner.TOOL_RUNNER_CLIENT
