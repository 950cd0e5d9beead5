"""The questions of one run: which are open, by which key the handler knows them, and the schemas of their answers.

Keys are not in the events: they come from the writer, or after a rebuild from the store.
"""

from __future__ import annotations

from collections.abc import Mapping

from penstock.v1.event_pb2 import InputRequested
from penstock.v1.run_pb2 import InputKind, InputRequest

DEFAULT_SCHEMAS = {
    InputKind.INPUT_KIND_QUESTION: '{"type":"object","properties":{"answer":{"type":"string"}},"required":["answer"]}',
    InputKind.INPUT_KIND_APPROVAL: (
        '{"type":"object","properties":{"approved":{"type":"boolean"},"comment":{"type":"string"}},'
        '"required":["approved"]}'
    ),
    InputKind.INPUT_KIND_CLIENT_TOOL: '{"type":"object","properties":{"output":{},"error_text":{"type":"string"}}}',
    InputKind.INPUT_KIND_AUTH: '{"type":"object"}',
}


class Questions:
    """Open questions in the order they were asked, and the ids of all by key."""

    def __init__(self, ids: Mapping[str, str]) -> None:
        self.ids = dict(ids)
        """The handler's key → the id in the log."""
        self._open: dict[str, InputRequest] = {}

    def get(self, input_id: str) -> InputRequest | None:
        """Return an open question."""
        return self._open.get(input_id)

    def open(self) -> list[InputRequest]:
        """Return the open questions, oldest first."""
        return list(self._open.values())

    def open_size(self) -> int:
        """Return how many bytes RunWaiting needs for them."""
        return sum(request.ByteSize() + 8 for request in self._open.values())

    def ask(self, event: InputRequested) -> str:
        """Open a question and return its key."""
        request = InputRequest()
        request.CopyFrom(event.input)
        self._open[request.id] = request
        return next((key for key, known in self.ids.items() if known == request.id), "")

    def settle(self, input_id: str) -> None:
        """Close a question."""
        del self._open[input_id]
