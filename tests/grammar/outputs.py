"""Short names for the outputs of workers, so that a test reads like what the agent did."""

from __future__ import annotations

from penstock.v1.message_pb2 import (
    Completion,
    DataPart,
    FilePart,
    Part,
    ReasoningPart,
    SourcePart,
    ToolOutcome,
    ToolRunner,
)
from penstock.v1.run_pb2 import EndReason, InputKind, RunError, RunState, Usage
from penstock.v1.worker_service_pb2 import (
    AskOutput,
    ChildEndedOutput,
    ChildStartedOutput,
    CustomOutput,
    EndOutput,
    MessageOutput,
    Output,
    StateOutput,
    StepEndedOutput,
    StepStartedOutput,
    ToolCallOutput,
    ToolResultOutput,
    WaitOutput,
)

AGENT = ToolRunner.TOOL_RUNNER_AGENT
INCOMPLETE = Completion.COMPLETION_INCOMPLETE


def text(said: str, lane: str = "") -> Output:
    return Output(lane=lane, text=said)


def reasoning(said: str, lane: str = "") -> Output:
    return Output(lane=lane, reasoning=said)


def call(
    call_id: str,
    arguments: str = "",
    *,
    tool: str = "search",
    done: bool = False,
    lane: str = "",
    runner: ToolRunner.ValueType = ToolRunner.TOOL_RUNNER_UNSPECIFIED,
    title: str = "",
) -> Output:
    given = ToolCallOutput(
        call_id=call_id, tool_name=tool, arguments_delta=arguments, done=done, runner=runner, title=title
    )
    return Output(lane=lane, tool_call=given)


def result(
    call_id: str,
    output: str = "",
    *,
    tool: str = "search",
    lane: str = "",
    error: str = "",
    outcome: ToolOutcome.ValueType = ToolOutcome.TOOL_OUTCOME_UNSPECIFIED,
    content: tuple[Part, ...] = (),
    duration_ms: int = 0,
) -> Output:
    """A result that comes whole."""
    given = ToolResultOutput(
        call_id=call_id,
        tool_name=tool,
        output_json=output,
        error_text=error,
        outcome=outcome,
        content=content,
        duration_ms=duration_ms,
        done=True,
    )
    return Output(lane=lane, tool_result=given)


def result_piece(call_id: str, delta: str, *, done: bool = False, tool: str = "search", lane: str = "") -> Output:
    return Output(lane=lane, tool_result=ToolResultOutput(call_id=call_id, tool_name=tool, delta=delta, done=done))


def file(url: str, *, name: str = "", media_type: str = "image/png", lane: str = "") -> Output:
    return Output(lane=lane, part=Part(file=FilePart(name=name, media_type=media_type, url=url)))


def data(name: str, value: str, *, key: str = "", lane: str = "") -> Output:
    return Output(lane=lane, part=Part(data=DataPart(name=name, key=key, value_json=value)))


def source(url: str, *, title: str = "", lane: str = "") -> Output:
    return Output(lane=lane, part=Part(source=SourcePart(source_id=url, url=url, title=title)))


def signature(provider_json: str, lane: str = "") -> Output:
    """The provider's signature of the reasoning before it."""
    return Output(lane=lane, part=Part(reasoning=ReasoningPart(), provider_json=provider_json))


def message(name: str = "", lane: str = "") -> Output:
    return Output(lane=lane, message=MessageOutput(name=name))


def step(key: str, *, parent: str = "", lane: str = "", name: str = "") -> Output:
    return Output(lane=lane, step_started=StepStartedOutput(key=key, parent_key=parent, name=name or key))


def step_done(key: str, result_json: str = "null", lane: str = "") -> Output:
    return Output(lane=lane, step_ended=StepEndedOutput(key=key, durable=True, result_json=result_json))


def step_failed(key: str, lane: str = "") -> Output:
    return Output(lane=lane, step_ended=StepEndedOutput(key=key, completion=INCOMPLETE))


def turn(number: int, *, max_steps: int = 0, lane: str = "") -> Output:
    return Output(lane=lane, step_started=StepStartedOutput(number=number, max_steps=max_steps))


def turn_done(lane: str = "") -> Output:
    return Output(lane=lane, step_ended=StepEndedOutput())


def snapshot(state: str) -> Output:
    return Output(state=StateOutput(snapshot_json=state))


def patch(operations: str) -> Output:
    return Output(state=StateOutput(patch_json=operations))


def usage(input_tokens: int, output_tokens: int, *, model: str = "model-1", cost_usd: float = 0.0) -> Output:
    return Output(
        usage=Usage(
            provider="maker",
            model=model,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cost_usd=cost_usd,
        )
    )


def custom(name: str, value: str = "") -> Output:
    return Output(custom=CustomOutput(name=name, value_json=value))


def child(run_id: str, *, agent: str = "helper", name: str = "Helper", call_id: str = "") -> Output:
    given = ChildStartedOutput(child_run_id=run_id, agent_id=agent, name=name, call_id=call_id)
    return Output(child_started=given)


def child_done(
    run_id: str,
    state: RunState.ValueType = RunState.RUN_STATE_SUCCEEDED,
    reason: EndReason.ValueType = EndReason.END_REASON_COMPLETED,
) -> Output:
    return Output(child_ended=ChildEndedOutput(child_run_id=run_id, state=state, reason=reason))


def ask(
    key: str,
    question: str = "Go on?",
    *,
    kind: InputKind.ValueType = InputKind.INPUT_KIND_QUESTION,
    call_id: str = "",
    schema: str = "",
    lane: str = "",
) -> Output:
    given = AskOutput(key=key, kind=kind, message=question, call_id=call_id, schema_json=schema)
    return Output(lane=lane, ask=given)


def wait() -> Output:
    return Output(wait=WaitOutput())


def end(
    reason: EndReason.ValueType = EndReason.END_REASON_UNSPECIFIED,
    *,
    error: RunError | None = None,
    result_json: str = "",
) -> Output:
    return Output(end=EndOutput(reason=reason, error=error, result_json=result_json))
