"""A run as the chunks of a chat completion stream.

Owns the frames. Only the main lane is shown, and of its tool calls only those that the client runs. A request is
answered with one leg of the run: a run that waits is answered with its question and waits on. It refuses to know HTTP
and the core.
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from edge.fold import Fold
from edge.protocols.openai_chat import answer, errors
from penstock.v1.event_pb2 import Event, PartStarted
from penstock.v1.message_pb2 import ToolCallPart, ToolRunner

DONE = b"data: [DONE]\n\n"

_to_json = msgspec.json.Encoder().encode
_PIECE = msgspec.Raw(b"<>")  # marks where the piece stands in a template; neither ids nor our own keys have it


class ChatEncoder:
    """Folds a run into the `chat.completion.chunk` frames of one of its legs, the first unless told otherwise.

    What a retry takes back stays on the client's screen: the protocol has no word for it (see `request.py`).
    """

    def __init__(self, *, leg: int = 0, includes_usage: bool = False, shows_reasoning: bool = True) -> None:
        self.ended = False
        self._leg = leg
        self._fold = Fold()
        self._includes_usage = includes_usage
        self._shows_reasoning = shows_reasoning
        self._pieces: dict[int, tuple[bytes, bytes]] = {}  # what stands around a piece, by ordinal of the open part
        self._call_count = 0
        self._live_call = 0  # ordinal of the open call whose pieces go out; 0: none
        self._held: dict[int, list[bytes]] = {}  # frames of the calls that began during it, by ordinal

    def feed(self, event: Event) -> bytes:
        """Fold one event and return the frames it makes."""
        payload = event.WhichOneof("payload")
        if payload == "part_delta":  # nearly all events: a few look-ups and a concatenation
            delta = event.part_delta
            around = self._pieces.get(delta.part)
            if around is None:
                return b""
            frame = around[0] + _to_json(delta.text) + around[1]
            return self._hold(delta.part, frame) if delta.part in self._held else frame
        if self.ended:
            return b""
        self._fold.feed(event)
        if self._fold.leg < self._leg:
            return b""
        match payload:
            case "run_queued" | "run_resumed":
                return self._chunk({"role": "assistant", "content": ""})
            case "part_started":
                return self._start(event.part_started)
            case "part_ended":
                return self._end(event.part_ended.part.ordinal)
            case "run_waiting" | "run_ended":
                return self._finish()
            case "message_started" | "message_ended" | "message_received" | "step_started" | "step_ended":
                return b""
            case "run_started" | "run_retrying" | "input_requested" | "input_resolved":
                return b""
            case "state_patched" | "usage_reported" | "child_started" | "child_ended" | "custom" | None:
                return b""
            case unheard_of:
                assert_never(unheard_of)

    def _start(self, started: PartStarted) -> bytes:
        ordinal = started.part.ordinal
        if self._fold.parts[ordinal].message.lane:
            return b""
        match started.part.WhichOneof("content"):
            case "text":
                self._pieces[ordinal] = self._template({"content": _PIECE})
            case "reasoning" if self._shows_reasoning:
                self._pieces[ordinal] = self._template({"reasoning_content": _PIECE})
            case "tool_call" if started.part.tool_call.runner == ToolRunner.TOOL_RUNNER_CLIENT:
                return self._start_call(ordinal, started.part.tool_call)
            case _:
                pass
        return b""

    def _start_call(self, ordinal: int, call: ToolCallPart) -> bytes:
        index = self._call_count
        self._call_count += 1
        piece = {"index": index, "function": {"arguments": _PIECE}}
        self._pieces[ordinal] = self._template({"tool_calls": [piece]})
        function = {"name": call.tool_name, "arguments": ""}
        first = {"index": index, "id": call.call_id, "type": "function", "function": function}
        frame = self._chunk({"tool_calls": [first]})
        if self._live_call:
            self._held[ordinal] = []
            return self._hold(ordinal, frame)
        self._live_call = ordinal
        return frame

    def _hold(self, ordinal: int, frame: bytes) -> bytes:
        """Keep a frame back: to OpenAI's stream helpers a call is over, and parsed, once another one begins."""
        self._held[ordinal].append(frame)
        return b""

    def _end(self, ordinal: int) -> bytes:
        """End a part. Behind a call come those that were held, up to the first that is still open."""
        self._pieces.pop(ordinal, None)
        if ordinal != self._live_call:
            return b""
        self._live_call = 0
        frames = b""
        while self._held and not self._live_call:
            held = next(iter(self._held))
            frames += b"".join(self._held.pop(held))
            self._live_call = held if held in self._pieces else 0
        return frames

    def _finish(self) -> bytes:
        self.ended = True
        end = self._fold.end
        if end is not None and answer.has_failed(end):
            return errors.frame(errors.failure(end)) + DONE
        last_words = answer.last_words(self._fold)
        frames = self._chunk({"content": last_words}) if last_words else b""
        frames += self._chunk({}, finish_reason=answer.finish_reason(self._fold))
        if self._includes_usage:
            frames += self._frame({"choices": [], "usage": answer.usage(self._fold)})
        return frames + DONE

    def _template(self, delta: dict[str, object]) -> tuple[bytes, bytes]:
        before, _, behind = self._chunk(delta).partition(bytes(_PIECE))
        return before, behind

    def _chunk(self, delta: dict[str, object], *, finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        no_usage_yet = {"usage": None} if self._includes_usage else {}
        return self._frame({"choices": [choice], **no_usage_yet})

    def _frame(self, fields: dict[str, object]) -> bytes:
        head = answer.head(self._fold, kind="chat.completion.chunk")
        return b"data: " + _to_json({**head, **fields}) + b"\n\n"
