"""A run's log, written by hand: well-formed by CONTRACT.md 2.6, one line of a test per part."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest

from google.protobuf.message import Message as AnyMessage

from penstock.v1.event_pb2 import (
    ChildEnded,
    ChildStarted,
    Custom,
    Event,
    InputRequested,
    InputResolved,
    MessageEnded,
    MessageReceived,
    MessageStarted,
    PartDelta,
    PartEnded,
    PartStarted,
    RunEnded,
    RunQueued,
    RunResumed,
    RunRetrying,
    RunStarted,
    RunWaiting,
    StatePatched,
    StepEnded,
    StepStarted,
    UsageReported,
)
from penstock.v1.message_pb2 import (
    Completion,
    Message,
    Part,
    PartKind,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolOutcome,
    ToolResultPart,
    ToolRunner,
)
from penstock.v1.run_pb2 import EndReason, InputRequest, Run, RunError, RunState, Usage

RUN = Run(id="run_1", agent_id="echo", thread_id="thr_1")
RUN.create_time.seconds = 1_700_000_000

_FIELD_OF = {field.message_type.name: field.name for field in Event.DESCRIPTOR.oneofs[0].fields if field.message_type}
_COMPLETE = Completion.COMPLETION_COMPLETE


class HandmadeLog:
    """The events so far. Every part gets a message of its own, unless `calls` puts several into one."""

    def __init__(self, run: Run = RUN, *input: Message) -> None:
        self.events: list[Event] = []
        self._ordinal = 0
        self._open_inputs: tuple[InputRequest, ...] = ()
        self.add(RunQueued(run=run, input=input or [Message(role=Role.ROLE_USER)]))
        self.add(RunStarted(attempt=1))

    def add(self, payload: AnyMessage) -> None:
        """Append any payload."""
        event = Event(seq=len(self.events) + 1)
        getattr(event, _FIELD_OF[type(payload).__name__]).CopyFrom(payload)
        self.events.append(event)

    def text(self, *pieces: str, lane: str = "") -> int:
        message_id = self._open(Role.ROLE_ASSISTANT, lane)
        part = self._start(message_id, Part(text=TextPart()))
        self._stream(part, PartKind.PART_KIND_TEXT, pieces)
        part.text.text = "".join(pieces)
        return self._end_alone(message_id, part)

    def reasoning(self, *pieces: str) -> int:
        message_id = self._open(Role.ROLE_ASSISTANT, "")
        part = self._start(message_id, Part(reasoning=ReasoningPart()))
        self._stream(part, PartKind.PART_KIND_REASONING, pieces)
        part.reasoning.text = "".join(pieces)
        return self._end_alone(message_id, part)

    def calls(
        self, calls: dict[str, tuple[str, ...]], runner: ToolRunner.ValueType = ToolRunner.TOOL_RUNNER_CLIENT
    ) -> list[int]:
        """Calls of one message, by id: the tool's name and the pieces of the arguments, which come in turn."""
        message_id = self._open(Role.ROLE_ASSISTANT, "")
        parts = []
        for call_id, (tool, *_) in calls.items():
            call = ToolCallPart(call_id=call_id, tool_name=tool, runner=runner)
            parts.append(self._start(message_id, Part(tool_call=call)))
        for row in zip_longest(*(pieces[1:] for pieces in calls.values())):
            for part, piece in zip(parts, row, strict=True):
                self._stream(part, PartKind.PART_KIND_TOOL_CALL, [piece] if piece else [])
        for part, (_, *pieces) in zip(parts, calls.values(), strict=True):
            part.tool_call.arguments_json = "".join(pieces)
            self._end(message_id, part)
        self._close(message_id)
        return [part.ordinal for part in parts]

    def result(self, call_id: str, tool: str, output_json: str) -> int:
        message_id = self._open(Role.ROLE_TOOL, "")
        part = self._start(message_id, Part(tool_result=ToolResultPart(call_id=call_id, tool_name=tool)))
        self._stream(part, PartKind.PART_KIND_TOOL_RESULT, [output_json])
        part.tool_result.output_json = output_json
        part.tool_result.outcome = ToolOutcome.TOOL_OUTCOME_SUCCEEDED
        return self._end_alone(message_id, part)

    def whole(self, part: Part, role: Role.ValueType = Role.ROLE_ASSISTANT, *, lane: str = "") -> int:
        """A part that comes whole, complete unless it says otherwise; its ordinal is the next one."""
        completion = part.completion
        message_id = self._open(role, lane)
        part.ClearField("completion")
        self._start(message_id, part)
        part.completion = completion or _COMPLETE
        self.add(PartEnded(message_id=message_id, part=part))
        self._close(message_id)
        return part.ordinal

    def step(self, number: int) -> None:
        self.add(StepStarted(step=number, number=number))

    def step_end(self, number: int) -> None:
        self.add(StepEnded(step=number, completion=_COMPLETE))

    def usage(self, *, read: int, written: int) -> None:
        self.add(UsageReported(usage=Usage(model="m", input_tokens=read, output_tokens=written)))

    def asides(self) -> None:
        """What only some protocols show, and a payload that only a newer core knows."""
        self.add(Custom(name="progress", value_json="1"))
        self.add(StatePatched(snapshot_json="{}", version=1))
        self.add(MessageReceived(message=Message(id="msg_steer", role=Role.ROLE_USER)))
        self.add(ChildStarted(child_run_id="run_2", agent_id="think"))
        self.add(ChildEnded(child_run_id="run_2"))
        self.events.append(Event(seq=len(self.events) + 1))

    def waiting(self, *questions: InputRequest) -> None:
        for question in questions:
            self.add(InputRequested(input=question))
        self._open_inputs = questions
        self.add(RunWaiting(inputs=questions))

    def resumed(self, leg: int = 1, *, origin_json: str = "", answer_json: str = "") -> None:
        for question in self._open_inputs:
            self.add(InputResolved(input_id=question.id, answer_json=answer_json))
        self.add(RunResumed(leg=leg, origin_json=origin_json))

    def retrying(self, *retracted: int) -> None:
        self.add(RunRetrying(attempt=1, retracted_ordinals=retracted))
        self.add(RunStarted(attempt=2))

    def ended(
        self,
        reason: EndReason.ValueType = EndReason.END_REASON_COMPLETED,
        *,
        error: RunError | None = None,
        result_json: str = "",
        usage: Iterable[Usage] = (),
    ) -> None:
        state = _state_after(reason)
        self.add(RunEnded(state=state, reason=reason, error=error, result_json=result_json, usage=usage))

    def _open(self, role: Role.ValueType, lane: str) -> str:
        message_id = f"msg_{len(self.events)}"
        self.add(MessageStarted(message=Message(id=message_id, role=role), lane=lane))
        return message_id

    def _start(self, message_id: str, part: Part) -> Part:
        self._ordinal += 1
        part.ordinal = self._ordinal
        self.add(PartStarted(message_id=message_id, part=part))
        return part

    def _stream(self, part: Part, kind: PartKind.ValueType, pieces: Iterable[str]) -> None:
        for piece in pieces:
            self.add(PartDelta(part=part.ordinal, kind=kind, text=piece))

    def _end(self, message_id: str, part: Part) -> None:
        part.completion = _COMPLETE
        self.add(PartEnded(message_id=message_id, part=part))

    def _close(self, message_id: str) -> None:
        self.add(MessageEnded(message_id=message_id, completion=_COMPLETE))

    def _end_alone(self, message_id: str, part: Part) -> int:
        self._end(message_id, part)
        self._close(message_id)
        return part.ordinal


def _state_after(reason: EndReason.ValueType) -> RunState.ValueType:
    if reason >= EndReason.END_REASON_USER:
        return RunState.RUN_STATE_CANCELLED
    is_failure = reason >= EndReason.END_REASON_AGENT_ERROR
    return RunState.RUN_STATE_FAILED if is_failure else RunState.RUN_STATE_SUCCEEDED
