"""A run as plain text, for clients that read nothing else: `TextStreamChatTransport`, `useCompletion`.

Owns which text that is: the answer's, and where there is none, what else a person could read. The protocol cannot say
that a run failed; whoever streams breaks the connection off then.
"""

from __future__ import annotations

from edge.fold import Fold
from edge.protocols.ai_sdk.window import Window
from penstock.v1.event_pb2 import Event
from penstock.v1.message_pb2 import Part
from penstock.v1.run_pb2 import RunState


class TextEncoder:
    """Folds a run into UTF-8 text, as far as the window shows it."""

    def __init__(self, window: Window) -> None:
        self.ended = False
        self.has_failed = False
        self._window = window
        self._fold = Fold()
        self._shown: set[int] = set()  # ordinals of the open texts
        self._has_text = False

    def feed(self, event: Event) -> bytes:
        """Fold one event and return the text it adds."""
        delta = event.part_delta
        if part := delta.part:
            return delta.text.encode() if part in self._shown else b""
        if self.ended:
            return b""
        self._fold.feed(event)
        self._window.feed(event, self._fold)
        self.ended = self._window.is_over
        match event.WhichOneof("payload"):
            case "part_started":
                self._start(event.part_started.part)
            case "part_ended":
                self._shown.discard(event.part_ended.part.ordinal)
            case "run_waiting" if self.ended:
                questions = [asked.message or asked.tool_name for asked in self._fold.open_inputs.values()]
                return "\n\n".join([""] * self._has_text + questions).encode()
            case "run_ended":
                self.has_failed = event.run_ended.state == RunState.RUN_STATE_FAILED
                return b"" if self._has_text else event.run_ended.result_json.encode()
            case _:
                pass
        return b""

    def _start(self, part: Part) -> None:
        is_told = part.HasField("text") and self._window.is_open and not self._fold.parts[part.ordinal].message.lane
        if is_told:
            self._shown.add(part.ordinal)
            self._has_text = True
