"""Messages of a thread as the items of a conversation, and of a request as its input items.

Owns the way back from messages to items. What an agent said has the ids that its response gave it; a result of the
agent's own tool belongs to the item of its call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edge.protocols.openai_responses import contents, ids, items
from edge.protocols.openai_responses.items import Item
from edge.protocols.openai_responses.leg import is_of_client
from edge.protocols.openai_responses.origin import is_instructions
from penstock.v1.message_pb2 import Message, Part, Role, ToolResultPart

_SPEAKERS: dict[int, str] = {Role.ROLE_USER: "user", Role.ROLE_SYSTEM: "system"}


def items_of(messages: Sequence[Message]) -> list[Item]:
    """Return the items of messages, in order. Instructions are not among them."""
    results = {part.tool_result.call_id: part.tool_result for part in _parts(messages, "tool_result")}
    own = {part.tool_call.call_id for part in _parts(messages, "tool_call") if not is_of_client(part.tool_call)}
    return [item for message in messages if not is_instructions(message) for item in _items(message, results, own)]


def _items(message: Message, results: dict[str, ToolResultPart], own: set[str]) -> Iterator[Item]:
    if message.role in _SPEAKERS:
        content = [contents.content(part) for part in message.parts]
        yield {**items.message(message.id, content, items.COMPLETED), "role": _SPEAKERS[message.role]}
        return
    for number, part in enumerate(message.parts):
        match part.WhichOneof("content"):
            case "tool_result" if part.tool_result.call_id in own:
                pass
            case "tool_result":
                yield _output(_id("fco", message, part, number), part.tool_result)
            case "tool_call" if not is_of_client(part.tool_call):
                yield _use(message, part, number, results.get(part.tool_call.call_id))
            case "tool_call":
                yield items.function_call(_id("fc", message, part, number), part.tool_call, items.COMPLETED)
            case "reasoning":
                yield items.whole_reasoning(_id("rs", message, part, number), part, encrypted=False)
            case "text":
                content = [items.output_text(part.text.text)]
                yield items.message(_id("msg", message, part, number), content, items.COMPLETED)
            case _:
                pass  # files and data of an agent have no item


def _use(message: Message, part: Part, number: int, result: ToolResultPart | None) -> Item:
    status = items.INCOMPLETE if result is None else items.status_after(result)
    item_id, server = _id("mcp", message, part, number), message.author.agent_id
    return items.tool_call(item_id, part.tool_call, status, server=server, result=result)


def _output(item_id: str, result: ToolResultPart) -> Item:
    files = [contents.content(part) for part in result.content]
    text = items.output_of(result)
    output = [{"type": "input_text", "text": text}, *files] if files else text
    return {
        "id": item_id,
        "type": "function_call_output",
        "call_id": result.call_id,
        "output": output,
        "status": items.COMPLETED,
    }


def _id(prefix: ids.Prefix, message: Message, part: Part, number: int) -> str:
    """Return the id of a part's item; parts of a request have no ordinal, and are numbered in their message."""
    if part.ordinal:
        return ids.item_id(prefix, message.run_id, part.ordinal)
    return f"{prefix}_{message.id.removeprefix('msg_')}_{number}"


def _parts(messages: Sequence[Message], kind: str) -> Iterator[Part]:
    return (part for message in messages for part in message.parts if part.WhichOneof("content") == kind)
