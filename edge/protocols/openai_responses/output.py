"""The items of a response: one for each part of its leg that counts, and what follows the last of them.

Owns which parts are shown, and with which item. It is asked for a whole output at any time, and for single items when a
stream comes to their end; both give the same.
"""

from __future__ import annotations

from edge.protocols.openai_responses import ids, items
from edge.protocols.openai_responses.items import Item
from edge.protocols.openai_responses.leg import Leg, is_of_client
from penstock.v1.message_pb2 import Part, ToolResultPart
from penstock.v1.run_pb2 import InputKind, InputRequest, RunState


def output(leg: Leg) -> list[Item]:
    """Return all items so far. A part that is still open is not among them: what it said is known only to a stream."""
    parts = [part for part in leg.fold.said(leg=leg.number) if not leg.fold.parts[part.ordinal].is_open]
    shown = [item for part in parts if (item := _item(leg, part)) is not None]
    return shown + last_items(leg)


def spoken(leg: Leg, part: Part) -> Item:
    """Return the item of text, reasoning or a call of a client's tool that has ended."""
    run_id, status = leg.fold.run.id, items.status_of(part)
    match part.WhichOneof("content"):
        case "text":
            content = items.output_text(part.text.text, citations(leg, part.ordinal))
            return items.message(ids.item_id("msg", run_id, part.ordinal), [content], status)
        case "reasoning":
            item_id = ids.item_id("rs", run_id, part.ordinal)
            return items.whole_reasoning(item_id, part, encrypted=leg.origin.encrypted)
        case _:
            return items.function_call(ids.item_id("fc", run_id, part.ordinal), part.tool_call, status)


def citations(leg: Leg, ordinal: int) -> list[Item]:
    """Return the sources that a text cites."""
    return [items.annotation(source) for source in leg.cited(ordinal)]


def used(leg: Leg, call: Part, result: Part) -> Item:
    """Return the item of a call of the agent's own tool that has its result."""
    status = items.status_after(result.tool_result)
    return _tool_call(leg, call, leg.home(result), status, result=result.tool_result)


def unfinished(leg: Leg, call: Part, status: str) -> Item:
    """Return the item of a call of the agent's own tool that is not over yet, or came to nothing."""
    return _tool_call(leg, call, call.ordinal, status)


def last_items(leg: Leg) -> list[Item]:
    """Return what follows the parts of a leg: its questions, or a result when the agent wrote no text."""
    if not leg.has_ended:
        return []
    end, run_id = leg.fold.end, leg.fold.run.id
    if end is None:
        return [_question(leg, question) for question in leg.questions()]
    has_text = any(part.HasField("text") for part in leg.fold.said(leg=leg.number))
    if has_text or not end.result_json or end.state != RunState.RUN_STATE_SUCCEEDED:
        return []
    return [_sentence(ids.item_id("msg", run_id, ids.RESULT_ORDINAL), end.result_json)]


def _item(leg: Leg, part: Part) -> Item | None:
    match part.WhichOneof("content"):
        case "text" | "reasoning":
            return spoken(leg, part)
        case "tool_call" if is_of_client(part.tool_call):
            return spoken(leg, part)
        case "tool_call":
            return _use(leg, part)
        case "tool_result":
            return _use_of_earlier(leg, part)
        case _:
            return None


def _use(leg: Leg, call: Part) -> Item | None:
    """Return the item of the agent's own call, unless its result has an item of its own or belongs to a later leg."""
    result = leg.result(call.tool_call.call_id)
    if result is not None:
        return used(leg, call, result) if leg.home(result) == call.ordinal else None
    if not leg.has_ended:
        return unfinished(leg, call, items.IN_PROGRESS)
    return None if leg.fold.end is None else unfinished(leg, call, items.INCOMPLETE)


def _use_of_earlier(leg: Leg, result: Part) -> Item | None:
    """Return the item of a result whose call has none here that is open: it is from an earlier leg, say."""
    call_id = result.tool_result.call_id
    call, counted = leg.call(call_id), leg.result(call_id)
    if call is None or is_of_client(call.tool_call) or counted is None or counted.ordinal != result.ordinal:
        return None
    return used(leg, call, result) if leg.home(result) == result.ordinal else None


def _tool_call(leg: Leg, call: Part, ordinal: int, status: str, *, result: ToolResultPart | None = None) -> Item:
    run, tool = leg.fold.run, call.tool_call
    item_id, approval = ids.item_id("mcp", run.id, ordinal), leg.approvals.get(tool.call_id)
    return items.tool_call(item_id, tool, status, server=run.agent_id, approval=approval, result=result)


def _question(leg: Leg, question: InputRequest) -> Item:
    run = leg.fold.run
    if question.kind == InputKind.INPUT_KIND_APPROVAL:
        return items.approval_request(ids.approval_id(run.id, question.id), question, server=run.agent_id)
    return _sentence(ids.question_id(run.id, question.id), question.message or question.tool_name)


def _sentence(item_id: str, text: str) -> Item:
    return items.message(item_id, [items.output_text(text)], items.COMPLETED)
