"""The frames of a message's parts: what opens one, what surrounds its pieces, and what ends it.

Owns the mapping from parts to AG-UI's streams of text, reasoning and tool calls, to results and to activities. Where a
part stands in the run, and whether it is shown, is `encoder.py`.
"""

from __future__ import annotations

from edge.protocols.ag_ui.activity import activity_of
from edge.protocols.ag_ui.conversation import public_id, reasoning_id, result_content
from edge.protocols.ag_ui.dialect import Dialect
from edge.protocols.ag_ui.frames import PIECE, frame, template
from edge.protocols.ag_ui.scopes import Owner
from penstock.v1.message_pb2 import Completion, Message, Part

Around = tuple[bytes, bytes]
"""What stands before and behind a piece."""


def started(part: Part, message: Message, owner: Owner) -> tuple[bytes, Around | None]:
    """Return the frames that open a streamed part, and what surrounds its pieces. Whole parts are told at their end."""
    match part.WhichOneof("content"):
        case "text":
            text: Owner = {"messageId": public_id(message)}
            start = {**text, "role": "assistant", "name": message.author.name or None, **owner}
            pieces = template("TEXT_MESSAGE_CONTENT", {**text, "delta": PIECE, **owner})
            return frame("TEXT_MESSAGE_START", start), pieces
        case "reasoning":
            span: Owner = {"messageId": reasoning_id(message, part)}
            opened = frame("REASONING_START", {**span, **owner})
            pieces = template("REASONING_MESSAGE_CONTENT", {**span, "delta": PIECE, **owner})
            return opened + frame("REASONING_MESSAGE_START", {**span, "role": "reasoning", **owner}), pieces
        case "tool_call":
            call: Owner = {"toolCallId": part.tool_call.call_id}
            start = {**call, "toolCallName": part.tool_call.tool_name, "parentMessageId": public_id(message), **owner}
            return frame("TOOL_CALL_START", start), template("TOOL_CALL_ARGS", {**call, "delta": PIECE, **owner})
        case _:
            return b"", None


def ended(part: Part, message: Message, owner: Owner, dialect: Dialect) -> bytes:
    """Return the frames of a part that is whole."""
    match part.WhichOneof("content"):
        case "text":
            text_id = public_id(message)
            return frame("TEXT_MESSAGE_END", {"messageId": text_id, **owner}) + _encrypted(
                part, "message", text_id, owner
            )
        case "reasoning":
            span_id = reasoning_id(message, part)
            span = {"messageId": span_id, **owner}
            encrypted = _encrypted(part, "message", span_id, owner)
            return frame("REASONING_MESSAGE_END", span) + encrypted + frame("REASONING_END", span)
        case "tool_call":
            call_id = part.tool_call.call_id
            return frame("TOOL_CALL_END", {"toolCallId": call_id, **owner}) + _encrypted(
                part, "tool-call", call_id, owner
            )
        case "tool_result":
            return _result(part, message, owner, dialect)
        case _:
            return _activity(part, message, owner)


def withdrawn(part: Part, message: Message, owner: Owner) -> bytes:
    """Return the result of a call that no longer counts."""
    call = {"messageId": f"{public_id(message)}.{part.ordinal}", "toolCallId": part.tool_call.call_id}
    return frame("TOOL_CALL_RESULT", {**call, "content": "This call was taken back.", "role": "tool", **owner})


def _result(part: Part, message: Message, owner: Owner, dialect: Dialect) -> bytes:
    if part.completion != Completion.COMPLETION_COMPLETE:
        return b""  # cut off: another one follows, or none ever
    result = part.tool_result
    fields = {"messageId": message.id, "toolCallId": result.call_id, "content": result_content(result, dialect)}
    return frame("TOOL_CALL_RESULT", {**fields, "role": "tool", **owner})


def _activity(part: Part, message: Message, owner: Owner) -> bytes:
    activity = activity_of(part, message)
    if activity is None:
        return b""
    fields = {"messageId": activity.id, "activityType": activity.kind, "content": activity.content}
    return frame("ACTIVITY_SNAPSHOT", {**fields, **owner})


def _encrypted(part: Part, subtype: str, entity_id: str, owner: Owner) -> bytes:
    """What the model's provider wants back unread. The client keeps it with the message or call, and sends it back."""
    if not part.provider_json:
        return b""
    fields = {"subtype": subtype, "entityId": entity_id, "encryptedValue": part.provider_json}
    return frame("REASONING_ENCRYPTED_VALUE", {**fields, **owner})
