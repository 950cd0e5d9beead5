"""A run as the event stream of a response.

Owns its lifecycle: created, queued, in progress, and the last word. One leg of the run is one response; what came
before it is folded and not shown. It refuses to know HTTP and the core.
"""

from __future__ import annotations

from typing import assert_never

from edge.protocols.openai_responses.frames import Frames
from edge.protocols.openai_responses.item_frames import ItemFrames
from edge.protocols.openai_responses.leg import Leg
from edge.protocols.openai_responses.output import last_items
from edge.protocols.openai_responses.response import response
from penstock.v1.event_pb2 import Event

LAST_EVENTS = {"completed": "completed", "failed": "failed"}
"""By status. OpenAI has no event for a cancel; `incomplete` is what clients take without complaint."""


class ResponsesEncoder:
    """Folds a run into the frames of one of its legs; those up to `starting_after` are counted and left out."""

    def __init__(self, *, leg: int = 0, starting_after: int = -1) -> None:
        self.ended = False
        self.frames = Frames(after=starting_after)
        self._leg = Leg(leg)
        self._items = ItemFrames(self._leg, self.frames)
        self._is_in_progress = False

    def feed(self, event: Event) -> bytes:
        """Fold one event and return the frames it makes."""
        payload = event.WhichOneof("payload")
        if payload == "part_delta":  # nearly all events: a look-up and a concatenation
            delta = event.part_delta
            around = self._items.pieces.get(delta.part)
            return b"" if around is None else self.frames.piece(around, delta.text)
        if self.ended:
            return b""
        self._leg.feed(event)
        if not self._leg.has_begun:
            return b""
        match payload:
            case "run_queued":
                return self._lifecycle("created") + self._lifecycle("queued")
            case "run_resumed":
                return self._lifecycle("created") + self._progress()
            case "run_started":
                return self._progress()
            case "part_started":
                return self._items.start(event.part_started.part)
            case "part_ended":
                return self._items.end(event.part_ended.part)
            case "run_retrying":
                return self._items.abandon(event.run_retrying.retracted_ordinals)
            case "run_waiting" | "run_ended":
                return self._finish()
            case "message_started" | "message_ended" | "message_received" | "step_started" | "step_ended":
                return b""
            case "input_requested" | "input_resolved" | "state_patched" | "usage_reported":
                return b""
            case "child_started" | "child_ended" | "custom" | None:
                return b""
            case unheard_of:
                assert_never(unheard_of)

    def _lifecycle(self, event: str) -> bytes:
        return self.frames.frame(f"response.{event}", {"response": response(self._leg)})

    def _progress(self) -> bytes:
        if self._is_in_progress:  # a retry, or another worker
            return b""
        self._is_in_progress = True
        return self._lifecycle("in_progress")

    def _finish(self) -> bytes:
        self.ended = True
        frames = self._items.abandon_all()
        frames += b"".join([self._items.whole(item) for item in last_items(self._leg)])
        return frames + self._lifecycle(LAST_EVENTS.get(self._leg.status, "incomplete"))
