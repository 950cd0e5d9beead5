"""The chunks of a UI message stream, made from parts, questions and ends of a run.

Owns their fields, and keeps to those that the very first client of version 6 knows: it refuses a stream with a field
that it does not know, and nothing in a request tells the version. What the protocol has no field for travels as
`data-penstock-…` or as metadata of the message. Each function returns whole frames and remembers nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from edge.data_urls import data_url
from edge.protocols.ai_sdk.origin import origin_of
from penstock.flat_json import dumps, flat, inline
from penstock.v1.event_pb2 import InputResolved, RunEnded, StatePatched
from penstock.v1.message_pb2 import (
    Completion,
    FilePart,
    Part,
    SourcePart,
    ToolCallPart,
    ToolOutcome,
    ToolResultPart,
    ToolRunner,
)
from penstock.v1.run_pb2 import EndReason, InputRequest, Run, RunError, RunState, Usage

DONE = b"data: [DONE]\n\n"
START_STEP = b'data: {"type":"start-step"}\n\n'
FINISH_STEP = b'data: {"type":"finish-step"}\n\n'
ABORT = b'data: {"type":"abort"}\n\n'

TOOL_CALLS = "tool-calls"

FINISH_REASONS: dict[int, str] = {
    EndReason.END_REASON_COMPLETED: "stop",
    EndReason.END_REASON_LENGTH: "length",
    EndReason.END_REASON_CONTENT_FILTER: "content-filter",
    EndReason.END_REASON_CLIENT_TOOLS: TOOL_CALLS,
}
"""`other` for a way to succeed that is younger than this table."""

CUT_OFF = "The call was cut off."
TAKEN_BACK = "The call was taken back: the agent is tried again."
NO_RESULT = "The tool gave no result."

_FAILED_REASONS, _CANCELLED_REASONS = range(10, 30), range(30, 50)  # the groups that run.proto sets aside
_REASONS = {number: name.removeprefix("END_REASON_") for name, number in EndReason.items()}

Chunk = dict[str, object]


def frame(kind: str, **fields: object) -> bytes:
    """Return one chunk as a frame. Fields that are None are left out."""
    chunk: Chunk = {"type": kind, **{name: value for name, value in fields.items() if value is not None}}
    return b"data: " + dumps(chunk) + b"\n\n"


def start(run: Run) -> bytes:
    """Return the beginning of a message, or of its continuation."""
    where = {"runId": run.id, "threadId": run.thread_id, "agentId": run.agent_id}
    return frame("start", messageId=origin_of(run).message_id, messageMetadata=where)


def finish(reason: str, usage: Usage) -> bytes:
    """Return the end of a message that neither failed nor was cancelled."""
    return frame("finish", finishReason=reason, messageMetadata=_used(usage) or None)


def metadata(fields: Mapping[str, object]) -> bytes:
    """Return fields that are merged into the message's metadata; nothing for none."""
    return frame("message-metadata", messageMetadata=fields) if fields else b""


def ending(end: RunEnded, usage: Usage) -> bytes:
    """Return how a run ended. A client reads nothing behind an error."""
    if end.state == RunState.RUN_STATE_FAILED or end.reason in _FAILED_REASONS:
        reason = _REASONS.get(end.reason, "FAILED")
        text = end.error.message or f"The run failed: {reason}."
        about = _used(usage) | {"error": _error(end.error, reason)}
        return metadata(about) + frame("error", errorText=text)
    if end.state == RunState.RUN_STATE_CANCELLED or end.reason in _CANCELLED_REASONS:
        return metadata(_used(usage)) + ABORT
    return finish(FINISH_REASONS.get(end.reason, "other"), usage)


def result(end: RunEnded) -> bytes:
    """Return what the agent returned, when it was not text."""
    return frame("data-penstock-result", data=inline(end.result_json)) if end.result_json else b""


def tool_input_start(call: ToolCallPart) -> bytes:
    """Return the beginning of a call."""
    return frame("tool-input-start", **_names(call), **_kind(call), title=call.title or None)


def tool_input(part: Part) -> bytes:
    """Return a call with its whole input, or with why there is none."""
    call = part.tool_call
    if part.completion == Completion.COMPLETION_COMPLETE:
        given = inline(call.arguments_json or "{}")
        return frame("tool-input-available", **_names(call), input=given, **_kind(call), title=call.title or None)
    return frame("tool-input-error", **_names(call), input=call.raw_arguments, **_kind(call), errorText=CUT_OFF)


def tool_output(result: ToolResultPart) -> bytes:
    """Return the result of a call."""
    match result.outcome:
        case ToolOutcome.TOOL_OUTCOME_DENIED:
            return frame("tool-output-denied", toolCallId=result.call_id)
        case ToolOutcome.TOOL_OUTCOME_FAILED | ToolOutcome.TOOL_OUTCOME_ABANDONED:
            return tool_error(result.call_id, result.error_text or NO_RESULT)
        case _:
            return frame(
                "tool-output-available", toolCallId=result.call_id, output=inline(result.output_json or "null")
            )


def tool_error(call_id: str, text: str) -> bytes:
    """Return why a call has no output."""
    return frame("tool-output-error", toolCallId=call_id, errorText=text)


def approval(question: InputRequest) -> bytes:
    """Return the question whether a call may go ahead."""
    return frame("tool-approval-request", approvalId=question.id, toolCallId=question.call_id)


def question(asked: InputRequest, resolved: InputResolved | None = None) -> bytes:
    """Return a question that belongs to no call; once it is settled, the same with its outcome, in its place."""
    data = flat(asked)
    if resolved is not None:
        settled = flat(resolved)
        data |= {name: settled[name] for name in ("outcome", "answer") if name in settled}
    return frame("data-penstock-input", id=asked.id, data=data)


def attachment(part: Part) -> bytes:
    """Return a file, source or data part; nothing for any other."""
    match part.WhichOneof("content"):
        case "file":
            return _file(part.file)
        case "source":
            return _source(part.source)
        case "data":
            name = part.data.name or "value"
            return frame(f"data-{name}", id=part.data.key or None, data=inline(part.data.value_json or "null"))
        case _:
            return b""


def transient(name: str, value_json: str) -> bytes:
    """Return data that a client is told once and does not keep."""
    return frame(f"data-{name}", data=inline(value_json or "null"), transient=True)


def state(patched: StatePatched) -> bytes:
    """Return a change of the thread's state, as data that a client does not keep."""
    return frame("data-penstock-state", data=flat(patched), transient=True)


def _file(file: FilePart) -> bytes:
    media_type = file.media_type or "application/octet-stream"
    match file.WhichOneof("source"):
        case "url":
            return frame("file", url=file.url, mediaType=media_type)
        case "data":
            return frame("file", url=data_url(file), mediaType=media_type)
        case _:  # a handle is no URL that a browser could open
            return frame("data-penstock-file", data=flat(file))


def _source(source: SourcePart) -> bytes:
    if source.url:
        return frame("source-url", sourceId=source.source_id, url=source.url, title=source.title or None)
    return frame(
        "source-document",
        sourceId=source.source_id,
        mediaType=source.media_type or "application/octet-stream",
        title=source.title or source.filename or source.source_id,
        filename=source.filename or None,
    )


def _names(call: ToolCallPart) -> dict[str, str]:
    return {"toolCallId": call.call_id, "toolName": call.tool_name}


def _kind(call: ToolCallPart) -> dict[str, bool]:
    """Tools of the client are its own, typed; of the agent's it knows nothing, which is what `dynamic` means."""
    return {} if call.runner == ToolRunner.TOOL_RUNNER_CLIENT else {"dynamic": True}


def _error(error: RunError, reason: str) -> Chunk:
    return {"code": error.code or reason, "retryable": error.retryable}


def _used(usage: Usage) -> Chunk:
    """Return the tokens under the names that the AI SDK has for them; nothing when the agent reported none."""
    if not (usage.input_tokens or usage.output_tokens):
        return {}
    tokens = {
        "inputTokens": usage.input_tokens,
        "outputTokens": usage.output_tokens,
        "totalTokens": usage.input_tokens + usage.output_tokens,
        "reasoningTokens": usage.reasoning_tokens,
        "cachedInputTokens": usage.cached_input_tokens,
    }
    return {"usage": tokens}
