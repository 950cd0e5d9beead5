"""Output items: how the parts of a run look to this protocol, one item per part.

Owns their shapes, at their start and at their end. A call of the agent's own tool is an `mcp_call`, the only item that
every client takes for a tool that the server runs; its result belongs to the same item.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from penstock.v1.message_pb2 import Completion, Part, SourcePart, ToolCallPart, ToolOutcome, ToolResultPart
from penstock.v1.run_pb2 import InputRequest

Item = dict[str, object]

IN_PROGRESS, COMPLETED, INCOMPLETE = "in_progress", "completed", "incomplete"


def status_of(part: Part) -> str:
    """Return the status of an item that has ended."""
    return COMPLETED if part.completion == Completion.COMPLETION_COMPLETE else INCOMPLETE


# ── text ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def message(item_id: str, content: Sequence[Item], status: str) -> Item:
    """Return a message of the agent."""
    return {"id": item_id, "type": "message", "status": status, "role": "assistant", "content": content}


def output_text(text: str = "", annotations: Sequence[Item] = ()) -> Item:
    """Return the content of a message."""
    return {"type": "output_text", "text": text, "annotations": annotations, "logprobs": []}


def annotation(source: SourcePart) -> Item:
    """Return a citation: of a page, or of a document."""
    if not source.url:
        return {"type": "file_citation", "file_id": source.source_id, "filename": source.filename, "index": 0}
    span = {"start_index": source.start_index, "end_index": source.end_index}
    return {"type": "url_citation", "url": source.url, "title": source.title, **span}


# ── reasoning ────────────────────────────────────────────────────────────────────────────────────────────────────────


def reasoning(item_id: str, summary: Sequence[Item], status: str) -> Item:
    """Return what the agent thinks. It is told as a summary: that is the field that clients show."""
    return {"id": item_id, "type": "reasoning", "summary": summary, "status": status}


def summary_text(text: str = "") -> Item:
    """Return the content of reasoning."""
    return {"type": "summary_text", "text": text}


def whole_reasoning(item_id: str, part: Part, *, encrypted: bool) -> Item:
    """Return reasoning that has ended, with what its provider wants back when that was asked for."""
    item = reasoning(item_id, [summary_text(part.reasoning.text)], status_of(part))
    return {**item, "encrypted_content": part.provider_json} if encrypted and part.provider_json else item


# ── tools ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def arguments(call: ToolCallPart) -> str:
    """Return arguments as they were written."""
    return call.arguments_json or call.raw_arguments


def function_call(item_id: str, call: ToolCallPart, status: str) -> Item:
    """Return a call of a client's tool."""
    names: Item = {"id": item_id, "type": "function_call", "call_id": call.call_id, "name": call.tool_name}
    return {**names, "arguments": arguments(call), "status": status}


def tool_call(
    item_id: str,
    call: ToolCallPart,
    status: str,
    *,
    server: str,
    approval: str | None = None,
    result: ToolResultPart | None = None,
) -> Item:
    """Return a call of the agent's own tool; `result` is there once the item is over."""
    has_failed = result is not None and result.outcome != ToolOutcome.TOOL_OUTCOME_SUCCEEDED
    return {
        "id": item_id,
        "type": "mcp_call",
        "server_label": server,
        "name": call.tool_name,
        "arguments": arguments(call),
        "approval_request_id": approval,
        "output": None if result is None or has_failed else output_of(result),
        "error": _error(result) if result is not None and has_failed else None,
        "status": status,
    }


def status_after(result: ToolResultPart) -> str:
    """Return the status of a call that has this result."""
    return _STATUS_AFTER.get(result.outcome, "failed")


_STATUS_AFTER: dict[int, str] = {
    ToolOutcome.TOOL_OUTCOME_SUCCEEDED: COMPLETED,
    ToolOutcome.TOOL_OUTCOME_ABANDONED: INCOMPLETE,
}


def output_of(result: ToolResultPart) -> str:
    """Return a result as text: what went wrong, or the string that the output is, or its JSON."""
    if result.error_text or not result.output_json:
        return result.error_text
    if result.output_json.startswith('"'):
        return msgspec.json.decode(result.output_json, type=str)
    return result.output_json


def _error(result: ToolResultPart) -> Item:
    text = output_of(result) or "The run ended before the tool had answered."
    return {"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": text}]}


# ── questions ────────────────────────────────────────────────────────────────────────────────────────────────────────


def approval_request(item_id: str, question: InputRequest, *, server: str) -> Item:
    """Return the question whether a call may go ahead; one that is about no call asks in its arguments."""
    return {
        "id": item_id,
        "type": "mcp_approval_request",
        "server_label": server,
        "name": question.tool_name or "approval",
        "arguments": question.arguments_json or msgspec.json.encode({"message": question.message}).decode(),
    }
