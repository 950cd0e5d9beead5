"""What a handler can yield besides text: one class per kind of output, each able to say itself in the contract.

What becomes of each is told in protos/README.md ("Outputs → events"); the core decides it. Values that are to be JSON
(`arguments`, `output`, `value` …) may be anything that `json_text.to_json` takes. `lane` is the stream of output that
something belongs to: empty for the handler itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Literal, TypeAlias

from penstock.json_text import to_json
from penstock.parts import Data, File, Source
from penstock.v1 import run_pb2
from penstock.v1.message_pb2 import Completion, ToolOutcome, ToolRunner
from penstock.v1.worker_service_pb2 import (
    CustomOutput,
    MessageOutput,
    Output,
    StateOutput,
    StepEndedOutput,
    StepStartedOutput,
    ToolCallOutput,
    ToolResultOutput,
)


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer; the same as yielding a string."""

    text: str
    _: KW_ONLY
    lane: str = ""

    def to_proto(self) -> Output:
        return Output(lane=self.lane, text=self.text)


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of what the model thinks before it answers."""

    text: str
    _: KW_ONLY
    lane: str = ""

    def to_proto(self) -> Output:
        return Output(lane=self.lane, reasoning=self.text)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A whole tool call. The call id is unique in the run: `[A-Za-z0-9_-]`, at most 64 characters."""

    call_id: str
    tool_name: str
    arguments: Mapping[str, object]
    _: KW_ONLY
    title: str = ""
    """A line for people: what the call does."""
    runner: Literal["agent", "client"] | None = None
    """Who runs it. Unless said: the client when the tool is among its own (`run.tools`), else the agent."""
    lane: str = ""

    def to_proto(self) -> Output:
        call = ToolCallOutput(
            call_id=self.call_id,
            tool_name=self.tool_name,
            runner=_RUNNERS[self.runner],
            arguments_delta=to_json(self.arguments),
            done=True,
            title=self.title,
        )
        return Output(lane=self.lane, tool_call=call)


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a tool call, as a model streams it. Only the first needs the name; the last has `done`."""

    call_id: str
    arguments: str = ""
    """The next piece of the arguments' JSON text."""
    _: KW_ONLY
    tool_name: str = ""
    title: str = ""
    runner: Literal["agent", "client"] | None = None
    done: bool = False
    lane: str = ""

    def to_proto(self) -> Output:
        call = ToolCallOutput(
            call_id=self.call_id,
            tool_name=self.tool_name,
            runner=_RUNNERS[self.runner],
            arguments_delta=self.arguments,
            done=self.done,
            title=self.title,
        )
        return Output(lane=self.lane, tool_call=call)


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The whole result of a tool call. With an `error` the call failed, and there is no output."""

    call_id: str
    output: object = None
    _: KW_ONLY
    error: str = ""
    """What went wrong, for people and for the model."""
    denied: bool = False
    """A human said no."""
    tool_name: str = ""
    """Needed only when the call itself was never sent."""
    content: Sequence[File | Data | Source] = ()
    """Images and files besides."""
    duration_ms: int = 0
    lane: str = ""

    def to_proto(self) -> Output:
        result = ToolResultOutput(
            call_id=self.call_id,
            tool_name=self.tool_name,
            done=True,
            outcome=ToolOutcome.TOOL_OUTCOME_DENIED if self.denied else ToolOutcome.TOOL_OUTCOME_UNSPECIFIED,
            output_json="" if self.error or self.denied else to_json(self.output),
            error_text=self.error,
            content=[item.to_part() for item in self.content],
            duration_ms=self.duration_ms,
        )
        return Output(lane=self.lane, tool_result=result)


@dataclass(frozen=True, slots=True)
class ToolResultDelta:
    """A piece of a result, as a tool streams it. The pieces joined are JSON text; the last has `done`."""

    call_id: str
    output: str = ""
    _: KW_ONLY
    tool_name: str = ""
    done: bool = False
    lane: str = ""

    def to_proto(self) -> Output:
        result = ToolResultOutput(call_id=self.call_id, tool_name=self.tool_name, delta=self.output, done=self.done)
        return Output(lane=self.lane, tool_result=result)


@dataclass(frozen=True, slots=True)
class Message:
    """A new message begins with what follows; `name` is a display name of its author."""

    name: str = ""
    _: KW_ONLY
    lane: str = ""

    def to_proto(self) -> Output:
        return Output(lane=self.lane, message=MessageOutput(name=self.name))


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A turn of the agent's loop begins."""

    number: int
    """From 1."""
    _: KW_ONLY
    name: str = ""
    max_steps: int = 0
    tokens_used: int = 0
    token_limit: int = 0
    lane: str = ""

    def to_proto(self) -> Output:
        step = StepStartedOutput(
            number=self.number,
            name=self.name,
            max_steps=self.max_steps,
            tokens_used=self.tokens_used,
            token_limit=self.token_limit,
        )
        return Output(lane=self.lane, step_started=step)


@dataclass(frozen=True, slots=True)
class StepEnded:
    """The newest open turn of the loop has ended."""

    _: KW_ONLY
    complete: bool = True
    lane: str = ""

    def to_proto(self) -> Output:
        completion = Completion.COMPLETION_COMPLETE if self.complete else Completion.COMPLETION_INCOMPLETE
        return Output(lane=self.lane, step_ended=StepEndedOutput(completion=completion))


@dataclass(frozen=True, slots=True)
class State:
    """The thread's state changed: the whole new state, or an RFC 6902 patch of it."""

    snapshot: Mapping[str, object] | None = None
    _: KW_ONLY
    patch: Sequence[Mapping[str, object]] | None = None
    lane: str = ""

    def to_proto(self) -> Output:
        if (self.snapshot is None) == (self.patch is None):
            raise ValueError("a state is either a snapshot or a patch")
        state = StateOutput()
        if self.patch is None:
            state.snapshot_json = to_json(self.snapshot)
        else:
            state.patch_json = to_json(self.patch)
        return Output(lane=self.lane, state=state)


@dataclass(frozen=True, slots=True)
class Usage:
    """What one call of a model used; an increment, never a total."""

    input_tokens: int = 0
    output_tokens: int = 0
    _: KW_ONLY
    provider: str = ""
    model: str = ""
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: float = 0.0
    lane: str = ""

    def to_proto(self) -> Output:
        usage = run_pb2.Usage(
            provider=self.provider,
            model=self.model,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            cached_input_tokens=self.cached_input_tokens,
            cache_write_tokens=self.cache_write_tokens,
            reasoning_tokens=self.reasoning_tokens,
            cost_usd=self.cost_usd,
        )
        return Output(lane=self.lane, usage=usage)


@dataclass(frozen=True, slots=True)
class Custom:
    """Something of the application's own: shown to watchers, not kept in the thread."""

    name: str
    value: object = None
    _: KW_ONLY
    lane: str = ""

    def to_proto(self) -> Output:
        return Output(lane=self.lane, custom=CustomOutput(name=self.name, value_json=to_json(self.value)))


AnyOutput: TypeAlias = (
    Text
    | Reasoning
    | ToolCall
    | ToolCallDelta
    | ToolResult
    | ToolResultDelta
    | File
    | Data
    | Source
    | Message
    | StepStarted
    | StepEnded
    | State
    | Usage
    | Custom
)

_RUNNERS = {
    None: ToolRunner.TOOL_RUNNER_UNSPECIFIED,
    "agent": ToolRunner.TOOL_RUNNER_AGENT,
    "client": ToolRunner.TOOL_RUNNER_CLIENT,
}
