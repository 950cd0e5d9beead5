"""The frames of items: an item is added, its content comes in pieces, the content is done, the item is done.

Owns their order and the numbers of items and contents. Which item a part is, and how it looks when it is over, is
`output.py`, so that a stream and a look-up agree.
"""

from __future__ import annotations

from collections.abc import Iterable

from edge.protocols.openai_responses import ids, items
from edge.protocols.openai_responses.frames import Frames, Template, template
from edge.protocols.openai_responses.items import Item
from edge.protocols.openai_responses.leg import Leg, is_of_client
from edge.protocols.openai_responses.output import citations, spoken, unfinished, used
from penstock.v1.message_pb2 import Completion, Part


class ItemFrames:
    """Writes the items of one leg as its parts start and end. Only the main lane is shown."""

    def __init__(self, leg: Leg, frames: Frames) -> None:
        self.pieces: dict[int, Template] = {}
        """What stands around a piece, by ordinal of the open part."""
        self._leg = leg
        self._frames = frames
        self._count = 0
        self._open: dict[int, Item] = {}  # id and index of the items that are not over, by ordinal

    def start(self, part: Part) -> bytes:
        """Begin the item of a part."""
        if self._leg.fold.parts[part.ordinal].message.lane:
            return b""
        run_id = self._leg.fold.run.id
        match part.WhichOneof("content"):
            case "text":
                item_id = ids.item_id("msg", run_id, part.ordinal)
                return self._start_text(part.ordinal, items.message(item_id, [], items.IN_PROGRESS))
            case "reasoning":
                item_id = ids.item_id("rs", run_id, part.ordinal)
                return self._start_reasoning(part.ordinal, items.reasoning(item_id, [], items.IN_PROGRESS))
            case "tool_call" if is_of_client(part.tool_call):
                item_id = ids.item_id("fc", run_id, part.ordinal)
                item = items.function_call(item_id, part.tool_call, items.IN_PROGRESS)
                return self._start_call(part.ordinal, item, "response.function_call_arguments.delta")
            case "tool_call":
                return self._start_use(part.ordinal, unfinished(self._leg, part, items.IN_PROGRESS))
            case _:
                return b""

    def end(self, part: Part) -> bytes:
        """End the item of a part; a call of the agent's own tool waits for its result."""
        self.pieces.pop(part.ordinal, None)
        if self._leg.fold.parts[part.ordinal].message.lane:
            return b""
        match part.WhichOneof("content"):
            case "text":
                content = items.output_text(part.text.text, citations(self._leg, part.ordinal))
                return self._end_text(part.ordinal, content) + self._done(part.ordinal, spoken(self._leg, part))
            case "reasoning":
                content = items.summary_text(part.reasoning.text)
                return self._end_reasoning(part.ordinal, content) + self._done(part.ordinal, spoken(self._leg, part))
            case "tool_call" if is_of_client(part.tool_call):
                done = self._end_arguments(part, "response.function_call_arguments.done")
                return done + self._done(part.ordinal, spoken(self._leg, part))
            case "tool_call":
                return self._end_arguments(part, "response.mcp_call_arguments.done")
            case "tool_result" if part.completion == Completion.COMPLETION_COMPLETE:
                return self._end_use(part)
            case "source":
                return self._cite(part)
            case _:
                return b""

    def abandon(self, ordinals: Iterable[int]) -> bytes:
        """End the calls among these parts that have no result: nothing else is open at a pause, a retry, the end."""
        calls = [self._leg.fold.parts[ordinal].part for ordinal in ordinals if ordinal in self._open]
        return b"".join([self._done(call.ordinal, unfinished(self._leg, call, items.INCOMPLETE)) for call in calls])

    def abandon_all(self) -> bytes:
        """End all calls that are still open."""
        return self.abandon(list(self._open))

    def whole(self, item: Item) -> bytes:
        """Write an item that is no part, at once."""
        ordinal = -self._count  # parts have numbers above 0
        if item["type"] != "message":
            return self._add(ordinal, item) + self._done(ordinal, item)
        [content] = item["content"] if isinstance(item["content"], list) else []
        frames = self._start_text(ordinal, {**item, "content": [], "status": items.IN_PROGRESS})
        frames += self._frames.piece(self.pieces.pop(ordinal), content["text"])
        return frames + self._end_text(ordinal, content) + self._done(ordinal, item)

    # ── text and reasoning ───────────────────────────────────────────────────────────────────────────────────────────

    def _start_text(self, ordinal: int, item: Item) -> bytes:
        frames = self._add(ordinal, item)
        place = {**self._open[ordinal], "content_index": 0}
        self.pieces[ordinal] = template("response.output_text.delta", place, behind={"logprobs": []})
        return frames + self._frames.frame("response.content_part.added", {**place, "part": items.output_text()})

    def _end_text(self, ordinal: int, content: Item) -> bytes:
        place = {**self._open[ordinal], "content_index": 0}
        text = {"text": content["text"], "logprobs": []}
        done = self._frames.frame("response.output_text.done", {**place, **text})
        return done + self._frames.frame("response.content_part.done", {**place, "part": content})

    def _start_reasoning(self, ordinal: int, item: Item) -> bytes:
        frames = self._add(ordinal, item)
        place = {**self._open[ordinal], "summary_index": 0}
        self.pieces[ordinal] = template("response.reasoning_summary_text.delta", place)
        added = {**place, "part": items.summary_text()}
        return frames + self._frames.frame("response.reasoning_summary_part.added", added)

    def _end_reasoning(self, ordinal: int, content: Item) -> bytes:
        place = {**self._open[ordinal], "summary_index": 0}
        done = self._frames.frame("response.reasoning_summary_text.done", {**place, "text": content["text"]})
        return done + self._frames.frame("response.reasoning_summary_part.done", {**place, "part": content})

    def _cite(self, part: Part) -> bytes:
        """Add a citation to a text that is open. One that comes later is in the final output only."""
        cited = part.source.cited_ordinal
        if cited not in self.pieces or not self._leg.fold.parts[cited].part.HasField("text"):
            return b""
        known = citations(self._leg, cited)
        place = {**self._open[cited], "content_index": 0}
        fields = {**place, "annotation_index": len(known) - 1, "annotation": known[-1]}
        return self._frames.frame("response.output_text.annotation.added", fields)

    # ── tools ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _start_call(self, ordinal: int, item: Item, piece: str) -> bytes:
        frames = self._add(ordinal, item)
        self.pieces[ordinal] = template(piece, self._open[ordinal])
        return frames

    def _start_use(self, ordinal: int, item: Item) -> bytes:
        frames = self._start_call(ordinal, item, "response.mcp_call_arguments.delta")
        return frames + self._frames.frame("response.mcp_call.in_progress", self._open[ordinal])

    def _end_arguments(self, part: Part, event: str) -> bytes:
        return self._frames.frame(event, {**self._open[part.ordinal], "arguments": items.arguments(part.tool_call)})

    def _end_use(self, result: Part) -> bytes:
        """End the item of the agent's own call, or show it at once when it has none here that is open."""
        call = self._leg.call(result.tool_result.call_id)
        if call is None or is_of_client(call.tool_call):
            return b""
        item, home, frames = used(self._leg, call, result), self._leg.home(result), b""
        if home not in self._open:
            begun = unfinished(self._leg, call, items.IN_PROGRESS)
            frames = self._start_use(home, {**begun, "id": item["id"], "arguments": ""})
            del self.pieces[home]
            arguments = {**self._open[home], "arguments": item["arguments"]}
            frames += self._frames.frame("response.mcp_call_arguments.done", arguments)
        verdict = "completed" if item["status"] == items.COMPLETED else "failed"
        return frames + self._frames.frame(f"response.mcp_call.{verdict}", self._open[home]) + self._done(home, item)

    # ── items ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _add(self, ordinal: int, item: Item) -> bytes:
        index = self._count
        self._count += 1
        self._open[ordinal] = {"item_id": item["id"], "output_index": index}
        return self._frames.frame("response.output_item.added", {"output_index": index, "item": item})

    def _done(self, ordinal: int, item: Item) -> bytes:
        index = self._open.pop(ordinal)["output_index"]
        return self._frames.frame("response.output_item.done", {"output_index": index, "item": item})
