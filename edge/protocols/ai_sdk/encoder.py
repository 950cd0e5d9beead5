"""A run as the chunks of a UI message stream.

Owns their order: steps, open parts, and which questions are put when. What the chunks hold is `chunks.py`'s. Only the
main lane is told: in version 6 the end of a step forgets the open texts of all others. It knows neither HTTP nor the
core.
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from edge.fold import Fold
from edge.protocols.ai_sdk import chunks
from edge.protocols.ai_sdk.origin import origin_of
from edge.protocols.ai_sdk.window import NEVER, Window
from penstock.flat_json import dumps
from penstock.v1.event_pb2 import Event, InputResolved, MessageStarted, RunEnded, RunQueued
from penstock.v1.message_pb2 import Completion, Part, Role, ToolResultPart
from penstock.v1.run_pb2 import InputKind, InputRequest

_PIECE = msgspec.Raw(b"<>")  # marks where the piece stands in a template; neither ids nor our own keys have it

_OF_CALLS = frozenset({InputKind.INPUT_KIND_APPROVAL, InputKind.INPUT_KIND_CLIENT_TOOL})


class MessageEncoder:
    """Folds a run into the frames of one assistant message, as far as the window shows it.

    `earlier`: for a client that begins anew, the frames of the runs that wrote the message before this one (see
    `Prelude`); None for a client that has them.
    """

    def __init__(self, window: Window | None = None, *, earlier: bytes | None = None) -> None:
        self.ended = False
        self._fold = Fold()
        self._window = window or Window()
        self._earlier = earlier
        self._prefix = ""  # of part ids: they are unique in the message
        self._pieces: dict[int, tuple[bytes, bytes]] = {}  # what stands around a piece, by ordinal of the open part
        self._unsent: dict[int, bytes] = {}  # starts of texts that have no piece yet: an empty one is not shown
        self._is_in_step = False
        self._step_calls: set[str] = set()  # the calls of the newest step
        self._unsettled: set[str] = set()  # calls without result
        self._asked: dict[str, InputRequest] = {}  # open questions that belong to no call
        self._late = b""  # what was settled while the window was closed

    def feed(self, event: Event) -> bytes:
        """Fold one event and return the frames it makes."""
        delta = event.part_delta
        if part := delta.part:  # nearly all events: a few look-ups and a concatenation
            around = self._pieces.get(part)
            if around is None:
                return b""
            return self._unsent.pop(part, b"") + around[0] + dumps(delta.text) + around[1]
        if self.ended:
            return b""
        was_open = self._window.is_open
        self._fold.feed(event)
        self._window.feed(event, self._fold)
        head = self._open(event) if self._window.is_open and not was_open else b""
        frames = self._frames(event)
        self.ended = self._window.is_over
        return head + frames if self._window.is_open else b""

    def _frames(self, event: Event) -> bytes:
        match event.WhichOneof("payload"):
            case "message_started":
                return self._start_message(event.message_started)
            case "part_started":
                return self._start_part(event.part_started.part)
            case "part_ended":
                return self._end_part(event.part_ended.part)
            case "input_requested":
                return self._ask(event.input_requested.input)
            case "input_resolved":
                return self._settle(event.input_resolved)
            case "run_waiting":
                return self._pause() if self._window.is_over else b""
            case "run_retrying":
                return self._retract()
            case "run_ended":
                return self._close(event.run_ended)
            case "custom":
                return chunks.transient(event.custom.name, event.custom.value_json)
            case "state_patched":
                return chunks.state(event.state_patched)
            case "run_queued" | "run_started" | "run_resumed" | "message_ended" | "message_received" | "part_delta":
                return b""
            case "step_started" | "step_ended" | "usage_reported" | "child_started" | "child_ended" | None:
                return b""
            case unheard_of:
                assert_never(unheard_of)

    def _open(self, event: Event) -> bytes:
        """Begin the message, or go on with it."""
        self._is_in_step = False
        taken_over = self._take_over(event.run_queued) if event.HasField("run_queued") else self._late
        return chunks.start(self._fold.run) + taken_over

    def _take_over(self, queued: RunQueued) -> bytes:
        """Go on from the run before, if there is one. A client that begins anew lacks the results of its tools too."""
        if origin_of(queued.run).is_first:
            return b""
        self._prefix = f"{queued.run.id}."
        results = [part.tool_result for said in queued.input for part in said.parts if part.HasField("tool_result")]
        self._step_calls = {result.call_id for result in results}
        return b"" if self._earlier is None else self._earlier + b"".join(map(chunks.tool_output, results))

    def _pause(self) -> bytes:
        """Put the questions about calls and end the response: a client cannot answer them before its end."""
        about_calls = [asked for asked in self._fold.open_inputs.values() if asked.id not in self._asked]
        approvals = [asked for asked in about_calls if asked.kind == InputKind.INPUT_KIND_APPROVAL]
        frames = b"".join(map(chunks.approval, approvals)) + self._finish_steps()
        return frames + chunks.finish(chunks.TOOL_CALLS, self._fold.usage) + chunks.DONE

    def _close(self, end: RunEnded) -> bytes:
        """End the message."""
        return self._finish_steps() + chunks.result(end) + chunks.ending(end, self._fold.usage) + chunks.DONE

    def _start_message(self, started: MessageStarted) -> bytes:
        """A step is an assistant message. Its tools' results come behind it, so it ends where the next one begins."""
        if started.lane or started.message.role != Role.ROLE_ASSISTANT:
            return b""
        end = self._end_step()
        self._is_in_step = True
        self._step_calls = set()
        return end + chunks.START_STEP

    def _start_part(self, part: Part) -> bytes:
        if self._is_hidden(part):
            return b""
        match part.WhichOneof("content"):
            case "text" | "reasoning" as kind:
                part_id = self._id(part)
                mark = {"penstock": {"part": part.ordinal}}  # what `retracted` in the message's metadata refers to
                self._stream(part, f"{kind}-delta", id=part_id, delta=_PIECE)
                self._unsent[part.ordinal] = chunks.frame(f"{kind}-start", id=part_id, providerMetadata=mark)
                return b""
            case "tool_call":
                call_id = part.tool_call.call_id
                self._step_calls.add(call_id)
                self._unsettled.add(call_id)
                self._stream(part, "tool-input-delta", toolCallId=call_id, inputTextDelta=_PIECE)
                return chunks.tool_input_start(part.tool_call)
            case _:
                return b""

    def _end_part(self, part: Part) -> bytes:
        if self._is_hidden(part):
            return b""
        self._pieces.pop(part.ordinal, None)
        is_empty = self._unsent.pop(part.ordinal, None) is not None
        is_whole = part.completion == Completion.COMPLETION_COMPLETE
        match part.WhichOneof("content"):
            case "text" | "reasoning" as kind:
                return b"" if is_empty else chunks.frame(f"{kind}-end", id=self._id(part))
            case "tool_call":
                if not is_whole:
                    self._unsettled.discard(part.tool_call.call_id)
                return chunks.tool_input(part)
            case "tool_result":
                return self._result(part.tool_result) if is_whole else b""  # another one follows
            case _:
                return chunks.attachment(part)

    def _result(self, result: ToolResultPart) -> bytes:
        self._unsettled.discard(result.call_id)
        return chunks.tool_output(result)

    def _ask(self, asked: InputRequest) -> bytes:
        """Put a question that belongs to no call. One that does waits for the pause: others may answer it before."""
        if asked.kind in _OF_CALLS and asked.call_id in self._calls_shown():
            return b""
        self._asked[asked.id] = asked
        return chunks.question(asked)

    def _settle(self, resolved: InputResolved) -> bytes:
        asked = self._asked.pop(resolved.input_id, None)
        if asked is None:
            return b""
        settled = chunks.question(asked, resolved)
        if not self._window.is_open:
            self._late += settled
        return settled

    def _retract(self) -> bytes:
        """Mark what a retry took back: an ended part cannot be changed any more. A call must not seem to run on."""
        taken = [self._fold.parts[ordinal].part for ordinal in sorted(self._fold.retracted)]
        taken = [part for part in taken if not self._is_hidden(part)]
        calls = {part.tool_call.call_id for part in taken if part.HasField("tool_call")} & self._unsettled
        self._unsettled -= calls
        errors = b"".join(chunks.tool_error(call_id, chunks.TAKEN_BACK) for call_id in sorted(calls))
        return errors + chunks.metadata({"retracted": [part.ordinal for part in taken]} if taken else {})

    def _end_step(self) -> bytes:
        was_in_step, self._is_in_step = self._is_in_step, False
        return chunks.FINISH_STEP if was_in_step else b""

    def _finish_steps(self) -> bytes:
        """End the last step. One whose calls are all settled gets an empty one behind it.

        `lastAssistantMessageIsCompleteWithToolCalls` looks at the last step alone: a client that sends by itself would
        otherwise send a finished answer back, again and again. And it keeps a step only with a chunk behind it.
        """
        frames = self._end_step()
        if self._step_calls and not self._step_calls & self._unsettled:
            frames += chunks.START_STEP + chunks.FINISH_STEP + chunks.metadata({"runId": self._fold.run.id})
        return frames

    def _stream(self, part: Part, kind: str, **fields: object) -> None:
        """Have the part's deltas told. No part is open where a window opens."""
        if self._window.is_open:
            before, _, behind = chunks.frame(kind, **fields).partition(bytes(_PIECE))
            self._pieces[part.ordinal] = before, behind

    def _id(self, part: Part) -> str:
        return f"{self._prefix}{part.ordinal}"

    def _is_hidden(self, part: Part) -> bool:
        return bool(self._fold.parts[part.ordinal].message.lane)

    def _calls_shown(self) -> set[str]:
        parts = [folded.part for folded in self._fold.parts.values() if not folded.message.lane]
        return {part.tool_call.call_id for part in parts if part.HasField("tool_call")}


class Prelude(MessageEncoder):
    """The frames of a run whose message another run goes on with: neither the message's beginning nor its end."""

    def __init__(self) -> None:
        super().__init__(Window(last_leg=NEVER), earlier=b"")

    def _open(self, event: Event) -> bytes:
        return self._take_over(event.run_queued)

    def _close(self, end: RunEnded) -> bytes:
        return self._end_step()
