"""What a leg of a run says to a chat client, streamed or not: text, calls of its tools, finish reason, usage.

Owns the reading of a fold in the words of this protocol, and the one object of a blocking call. A fold that is read
here has come to the end of the leg that is the answer, and not further.
"""

from __future__ import annotations

from collections.abc import Iterator

from edge.fold import Fold
from penstock.v1.event_pb2 import RunEnded
from penstock.v1.message_pb2 import Part, ToolCallPart, ToolRunner
from penstock.v1.run_pb2 import EndReason, InputKind, InputRequest, RunState

FINISH_REASONS: dict[int, str] = {
    EndReason.END_REASON_LENGTH: "length",
    EndReason.END_REASON_CONTENT_FILTER: "content_filter",
    EndReason.END_REASON_CLIENT_TOOLS: "tool_calls",
}
"""`stop` for every other reason: the protocol has no word for cancelled."""

_FAILED_REASONS = range(10, 30)  # the group of reasons that run.proto sets aside, later ones included


def has_failed(end: RunEnded) -> bool:
    """True for an end that is told as an error."""
    return end.state == RunState.RUN_STATE_FAILED or end.reason in _FAILED_REASONS


def head(fold: Fold, *, kind: str) -> dict[str, object]:
    """Return the fields that every object of one completion shares."""
    run, leg = fold.run, f"-{fold.leg}" if fold.leg else ""
    created = run.create_time.seconds
    return {"id": f"chatcmpl-{run.id}{leg}", "object": kind, "created": created, "model": run.agent_id}


def client_calls(fold: Fold) -> list[ToolCallPart]:
    """Return the calls that the client is to run. An agent's own calls have no place in this protocol."""
    calls = [part.tool_call for part in _said(fold) if part.HasField("tool_call")]
    return [call for call in calls if call.runner == ToolRunner.TOOL_RUNNER_CLIENT]


def last_words(fold: Fold) -> str:
    """Return what follows the text parts: the open questions, or a result when the agent wrote no text."""
    has_text = any(part.HasField("text") for part in _said(fold))
    if fold.end is not None:
        return "" if has_text else fold.end.result_json
    questions = [question.message or question.tool_name for question in _questions(fold)]
    return "\n\n".join([""] * has_text + questions)


def finish_reason(fold: Fold) -> str:
    """Return why the completion ends. `tool_calls` only when the client has calls to run."""
    if fold.end is not None:
        reason = FINISH_REASONS.get(fold.end.reason, "stop")
        return "stop" if reason == "tool_calls" and not client_calls(fold) else reason
    return "tool_calls" if len(_questions(fold)) < len(fold.open_inputs) else "stop"


def usage(fold: Fold) -> dict[str, object]:
    """Return the tokens of the leg; zeros when the agent reported none, since clients add them up."""
    total = fold.leg_usage
    return {
        "prompt_tokens": total.input_tokens,
        "completion_tokens": total.output_tokens,
        "total_tokens": total.input_tokens + total.output_tokens,
        "prompt_tokens_details": {"cached_tokens": total.cached_input_tokens},
        "completion_tokens_details": {"reasoning_tokens": total.reasoning_tokens},
    }


def completion(fold: Fold, *, shows_reasoning: bool) -> dict[str, object]:
    """Return the `chat.completion` object of a leg that has ended and not failed."""
    choice = {
        "index": 0,
        "message": _message(fold, shows_reasoning=shows_reasoning),
        "logprobs": None,
        "finish_reason": finish_reason(fold),
    }
    return {**head(fold, kind="chat.completion"), "choices": [choice], "usage": usage(fold)}


def _said(fold: Fold) -> Iterator[Part]:
    return fold.said(leg=fold.leg)


def _message(fold: Fold, *, shows_reasoning: bool) -> dict[str, object]:
    text = "".join(part.text.text for part in _said(fold)) + last_words(fold)
    reasoning = "".join(part.reasoning.text for part in _said(fold))
    calls = client_calls(fold)
    message: dict[str, object] = {"role": "assistant", "content": text, "refusal": None}
    if reasoning and shows_reasoning:
        message["reasoning_content"] = reasoning
    if calls:
        message["content"] = text or None
        message["tool_calls"] = [_tool_call(call) for call in calls]
    return message


def _tool_call(call: ToolCallPart) -> dict[str, object]:
    function = {"name": call.tool_name, "arguments": call.arguments_json or call.raw_arguments}
    return {"id": call.call_id, "type": "function", "function": function}


def _questions(fold: Fold) -> list[InputRequest]:
    """Return the open inputs that must be put in words: all but the calls that the client was handed already."""
    handed_over = {call.call_id for call in client_calls(fold)}
    return [
        question
        for question in fold.open_inputs.values()
        if question.kind != InputKind.INPUT_KIND_CLIENT_TOOL or question.call_id not in handed_over
    ]
