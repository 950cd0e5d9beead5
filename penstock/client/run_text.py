"""The text of a run, folded from its events: the text parts of the main lane that no retry took back."""

from __future__ import annotations

from penstock.v1.event_pb2 import Event, RunEnded


class RunText:
    """Feed it the events of a run from the first on; then `text` and `end` are those of the run."""

    def __init__(self) -> None:
        self.run_id = ""
        self.end = RunEnded()
        self._main_messages: set[str] = set()
        self._texts: dict[int, str] = {}

    @property
    def text(self) -> str:
        """All that counts, in order."""
        return "".join(self._texts[ordinal] for ordinal in sorted(self._texts))

    def feed(self, event: Event) -> None:
        """Fold one event."""
        match event.WhichOneof("payload"):
            case "run_queued":
                self.run_id = event.run_queued.run.id
            case "message_started":
                if not event.message_started.lane:
                    self._main_messages.add(event.message_started.message.id)
            case "part_ended":
                ended = event.part_ended
                if ended.message_id in self._main_messages and ended.part.WhichOneof("content") == "text":
                    self._texts[ended.part.ordinal] = ended.part.text.text
            case "run_retrying":
                for ordinal in event.run_retrying.retracted_ordinals:
                    self._texts.pop(ordinal, None)
            case "run_ended":
                self.end = event.run_ended
            case _:
                pass  # says nothing about the text
