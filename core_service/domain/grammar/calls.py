"""The tool calls of one run: which are open, which have a result that counts, and what their ids are in the log.

Ids (rule 11): an id that a retracted call used comes out with `-<attempt>` appended, and later outputs of that attempt
that name the old id mean the new one. All of it follows from the events: the id as written, and what was retracted.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from hashlib import blake2s

from core_service.domain.grammar.limits import MAX_CALL_ID_CHARACTERS
from core_service.domain.grammar.transcript import Entry, OpenPart
from penstock.v1.message_pb2 import Completion, Part, ToolRunner


@dataclass(slots=True, eq=False)
class Call:
    """One call, as its part tells it."""

    call_id: str
    tool_name: str
    runner: ToolRunner.ValueType
    ordinal: int
    entry: Entry
    open_part: OpenPart | None
    """Set while its arguments may still grow."""
    is_complete: bool = False
    arguments_json: str = ""
    result: int = 0
    """Ordinal of its result: one that counts, or one that is being streamed."""
    open_result: OpenPart | None = None
    cut_result: OpenPart | None = None
    """A result that a pause cut off: what was streamed, for when it goes on."""


class Calls:
    """The calls that were not retracted, by the id they have in the log."""

    def __init__(self) -> None:
        self._by_id: dict[str, Call] = {}
        self._unanswered: dict[str, Call] = {}
        self._gone: set[str] = set()
        """Ids, as the worker and as the log knows them, that retracted calls used."""
        self._renamed: dict[str, str] = {}
        """The worker's id → the id in the log, where they differ."""

    def get(self, call_id: str) -> Call | None:
        """Return a call by its id in the log."""
        return self._by_id.get(call_id)

    def logged_id(self, call_id: str, attempt: int) -> str:
        """Return the id in the log of the call that the worker names `call_id` in this attempt."""
        if call_id in self._renamed:
            return self._renamed[call_id]
        return self._fresh(call_id, attempt) if call_id in self._gone else call_id

    def unanswered(self) -> list[Call]:
        """Return the calls that have no result, in order of start."""
        return sorted(self._unanswered.values(), key=lambda call: call.ordinal)

    def unanswered_count(self) -> int:
        return len(self._unanswered)

    def pending(self) -> list[str]:
        """Return the ids of whole calls that the client has to answer."""
        client = ToolRunner.TOOL_RUNNER_CLIENT
        return [call.call_id for call in self.unanswered() if call.is_complete and call.runner == client]

    def start(self, part: OpenPart, attempt: int) -> None:
        said = part.header.tool_call
        call = Call(said.call_id, said.tool_name, said.runner, part.ordinal, part.entry, part)
        self._by_id[call.call_id] = self._unanswered[call.call_id] = call
        if attempt > 1 and call.call_id.endswith(f"-{attempt}"):
            for gone in self._gone:
                if self._fresh(gone, attempt) == call.call_id:
                    self._renamed[gone] = call.call_id

    def end(self, part: Part) -> None:
        call = self._by_id[part.tool_call.call_id]
        call.open_part = None
        call.is_complete = part.completion == Completion.COMPLETION_COMPLETE
        call.arguments_json = part.tool_call.arguments_json

    def start_result(self, part: OpenPart) -> None:
        call = self._by_id[part.header.tool_result.call_id]
        call.entry.has_result = True
        call.result, call.open_result = part.ordinal, part
        if call.cut_result is not None:
            part.go_on_from(call.cut_result)
        self._unanswered.pop(call.call_id, None)

    def end_result(self, part: Part) -> None:
        """A result that was cut off does not count: its call waits for another."""
        call = self._by_id.get(part.tool_result.call_id)
        if call is None or call.result != part.ordinal:
            return
        call.open_result, call.cut_result = None, call.open_result
        if part.completion == Completion.COMPLETION_INCOMPLETE:
            self._take_result(call)
        else:
            call.cut_result = None

    def retract(self, ordinals: Collection[int]) -> None:
        for call in list(self._by_id.values()):
            if call.ordinal in ordinals:
                self._forget(call.call_id)
            elif call.result in ordinals or call.cut_result is not None:
                self._take_result(call)
                call.cut_result = None

    def _take_result(self, call: Call) -> None:
        call.result = 0
        self._unanswered[call.call_id] = call

    def _forget(self, call_id: str) -> None:
        del self._by_id[call_id]
        self._unanswered.pop(call_id, None)
        self._gone.add(call_id)
        self._renamed = {old: new for old, new in self._renamed.items() if new != call_id}

    def _fresh(self, call_id: str, attempt: int) -> str:
        while call_id in self._gone:
            call_id = _renamed(call_id, attempt)
        return call_id


def _renamed(call_id: str, attempt: int) -> str:
    """Append the attempt; an id that has no room for it gives up its end for a digest of the whole."""
    suffix = f"-{attempt}"
    if len(call_id) + len(suffix) > MAX_CALL_ID_CHARACTERS:
        suffix = f"-{blake2s(call_id.encode(), digest_size=4).hexdigest()}{suffix}"
    return call_id[: MAX_CALL_ID_CHARACTERS - len(suffix)] + suffix
