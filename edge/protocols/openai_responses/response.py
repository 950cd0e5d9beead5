"""The response object: what every lifecycle event carries, and what a blocking call and a look-up return.

Owns its fields. Those of the request that an agent may honour or not (`temperature`, `text`, `reasoning` …) are shown
as they came, since the agent has them as they came; a field that was not sent has OpenAI's default, or null where a
default would be a guess.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from edge.protocols.openai_responses import ids
from edge.protocols.openai_responses.items import Item
from edge.protocols.openai_responses.leg import INCOMPLETE_REASONS, Leg
from edge.protocols.openai_responses.output import output
from penstock.v1.event_pb2 import RunEnded
from penstock.v1.run_pb2 import ClientTool, EndReason, Run

ECHO_DEFAULTS: Item = {
    "max_output_tokens": None,
    "max_tool_calls": None,
    "parallel_tool_calls": True,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "top_logprobs": 0,
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}
"""Fields that are shown again, with what stands there when the request did not have them."""

ERROR_CODES: dict[int, str] = {EndReason.END_REASON_REJECTED: "invalid_prompt"}
"""OpenAI's list of codes is closed, and this is all of it that fits; every other failure is a `server_error`."""

_REASONS = {number: name.removeprefix("END_REASON_") for name, number in EndReason.items()}


def response(leg: Leg) -> Item:
    """Return a response as it is now."""
    origin, status = leg.origin, leg.status
    return {
        "id": leg.id,
        "object": "response",
        "created_at": leg.create_time,
        "completed_at": leg.end_time if status == "completed" else None,
        "status": status,
        "background": origin.background,
        "error": _error(leg.fold.end) if status == "failed" and leg.fold.end is not None else None,
        "incomplete_details": _incomplete(leg.fold.end) if status == "incomplete" else None,
        "instructions": leg.instructions,
        "model": leg.fold.run.agent_id,
        "output": output(leg),
        "previous_response_id": origin.previous_response_id,
        "conversation": {"id": origin.conversation} if origin.conversation else None,
        "store": origin.store,
        "metadata": dict(leg.fold.run.metadata) if origin.metadata is None else origin.metadata,
        "tools": [_tool(tool) for tool in leg.fold.run.options.tools],
        "usage": _usage(leg) if leg.has_ended else None,
        **_echo(leg.fold.run),
    }


def deleted(ref: ids.ResponseRef) -> Item:
    """Return the answer to a delete."""
    return {"id": ref.id, "object": "response", "deleted": True}


def _error(end: RunEnded) -> Item:
    reason = _REASONS.get(end.reason, "FAILED")
    return {
        "code": ERROR_CODES.get(end.reason, "server_error"),
        "message": end.error.message or f"The run failed: {reason}.",
        "type": end.error.code or reason,
        "param": None,
    }


def _incomplete(end: RunEnded | None) -> Item | None:
    return {"reason": INCOMPLETE_REASONS[end.reason]} if end is not None else None


def _usage(leg: Leg) -> Item:
    used = leg.fold.leg_usage
    cached = {"cached_tokens": used.cached_input_tokens, "cache_write_tokens": used.cache_write_tokens}
    return {
        "input_tokens": used.input_tokens,
        "input_tokens_details": cached,
        "output_tokens": used.output_tokens,
        "output_tokens_details": {"reasoning_tokens": used.reasoning_tokens},
        "total_tokens": used.input_tokens + used.output_tokens,
    }


def _tool(tool: ClientTool) -> Item:
    parameters = Raw(tool.schema_json.encode()) if tool.schema_json else None
    names = {"type": "function", "name": tool.name, "description": tool.description or None}
    return {**names, "parameters": parameters, "strict": None}


def _echo(run: Run) -> Item:
    options = run.options.agent_options_json
    if not options:
        return ECHO_DEFAULTS
    sent = msgspec.json.decode(options, type=dict[str, Raw])
    return ECHO_DEFAULTS | {name: value for name, value in sent.items() if name in ECHO_DEFAULTS}
