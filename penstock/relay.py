"""From the events of a child run to outputs of its parent: what the child says, in a lane of its own.

A fold over the child's main lane. What a retry of the child takes back stays said here: a parent cannot retract it.
"""

from __future__ import annotations

import hashlib

from penstock.v1.event_pb2 import Event, PartDelta, PartEnded, PartStarted
from penstock.v1.message_pb2 import Completion, Part, PartKind, Role, ToolCallPart, ToolResultPart, ToolRunner
from penstock.v1.worker_service_pb2 import MessageOutput, Output, ToolCallOutput, ToolResultOutput


class Relay:
    """Feed it the events of a child, from the first on. Its lane is its run id."""

    def __init__(self, run_id: str) -> None:
        self._lane = run_id
        self._main_messages: set[str] = set()
        self._parts: dict[int, Part] = {}
        """Open parts of the main lane, as announced."""
        self._pieces: dict[int, str] = {}
        """Of results: what was streamed."""

    def outputs(self, event: Event) -> list[Output]:
        """What an event means for the parent."""
        match event.WhichOneof("payload"):
            case "message_started" if not event.message_started.lane:
                message = event.message_started.message
                self._main_messages.add(message.id)
                return [self._boundary(message.author.name)] if message.role == Role.ROLE_ASSISTANT else []
            case "part_started" if event.part_started.message_id in self._main_messages:
                return self._start(event.part_started)
            case "part_delta" if event.part_delta.part in self._parts:
                return self._delta(event.part_delta)
            case "part_ended" if event.part_ended.part.ordinal in self._parts:
                return self._end(event.part_ended)
            case "run_retrying":
                return [self._boundary("")]
            case _:
                return []

    def _boundary(self, name: str) -> Output:
        return Output(lane=self._lane, message=MessageOutput(name=name))

    def _start(self, started: PartStarted) -> list[Output]:
        part = started.part
        self._parts[part.ordinal] = part
        if part.WhichOneof("content") != "tool_call":
            return []
        return [self._call(part.tool_call, title=part.tool_call.title)]

    def _delta(self, delta: PartDelta) -> list[Output]:
        match delta.kind:
            case PartKind.PART_KIND_TEXT:
                return [Output(lane=self._lane, text=delta.text)]
            case PartKind.PART_KIND_REASONING:
                return [Output(lane=self._lane, reasoning=delta.text)]
            case PartKind.PART_KIND_TOOL_CALL:
                return [self._call(self._parts[delta.part].tool_call, arguments_delta=delta.text)]
            case PartKind.PART_KIND_TOOL_RESULT:
                self._pieces[delta.part] = self._pieces.get(delta.part, "") + delta.text
                return [self._result(self._parts[delta.part].tool_result, ToolResultOutput(delta=delta.text))]
            case _:
                return []

    def _end(self, ended: PartEnded) -> list[Output]:
        part = ended.part
        del self._parts[part.ordinal]
        match part.WhichOneof("content"):
            case "tool_call":
                return [self._call(part.tool_call, done=True)]
            case "tool_result" if part.completion == Completion.COMPLETION_COMPLETE:
                return [self._result(part.tool_result, self._whole(part))]
            case "file" | "data":
                return [Output(lane=self._lane, part=part)]
            case "source":
                cited = Part()
                cited.CopyFrom(part)
                cited.source.ClearField("cited_ordinal")  # it counts the child's parts
                return [Output(lane=self._lane, part=cited)]
            case _:
                return []

    def _call(self, call: ToolCallPart, *, arguments_delta: str = "", title: str = "", done: bool = False) -> Output:
        output = ToolCallOutput(
            call_id=self._id(call.call_id),
            tool_name=call.tool_name,
            runner=ToolRunner.TOOL_RUNNER_AGENT,  # nobody who watches the parent can answer the child's client
            arguments_delta=arguments_delta,
            title=title,
            done=done,
        )
        return Output(lane=self._lane, tool_call=output)

    def _result(self, result: ToolResultPart, output: ToolResultOutput) -> Output:
        output.call_id = self._id(result.call_id)
        output.tool_name = result.tool_name
        return Output(lane=self._lane, tool_result=output)

    def _whole(self, part: Part) -> ToolResultOutput:
        result = part.tool_result
        was_streamed = self._pieces.pop(part.ordinal, "") == result.output_json
        return ToolResultOutput(
            done=True,
            outcome=result.outcome,
            output_json="" if was_streamed else result.output_json,
            error_text=result.error_text,
            content=result.content,
            duration_ms=result.duration_ms,
        )

    def _id(self, call_id: str) -> str:
        """Call ids are unique in a run, and parent and child do not know each other's."""
        return "sub_" + hashlib.sha256(f"{self._lane}/{call_id}".encode()).hexdigest()[:32]
