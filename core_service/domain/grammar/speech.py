"""Text, reasoning and whole parts: what a speaker says in a lane, in order (rules 5–7 and 20)."""

from __future__ import annotations

from core_service.domain.grammar import checks
from core_service.domain.grammar.fold import Fold
from core_service.domain.grammar.limits import MAX_PART_CHARACTERS
from core_service.domain.grammar.pen import Pen
from core_service.domain.grammar.scribe import Scribe
from core_service.domain.grammar.transcript import REASONING, TEXT, OpenPart
from penstock.v1.message_pb2 import DataPart, FilePart, Part, PartKind, ReasoningPart, SourcePart, TextPart


class Speech:
    """Writes what is said. Checks come first, so that a refused output changes nothing."""

    def __init__(self, fold: Fold, pen: Pen, scribe: Scribe) -> None:
        self._fold = fold
        self._pen = pen
        self._scribe = scribe

    def say(self, lane: str, kind: PartKind.ValueType, text: str) -> None:
        """Add text or reasoning. A part that is full ends, and the rest goes on in a new one."""
        while text:
            part = self._open(lane, kind)
            room = MAX_PART_CHARACTERS - part.length
            self._pen.write_delta(part, text[:room])
            text = text[room:]

    def add(self, lane: str, given: Part) -> None:
        """Add a part that comes whole.

        Text or reasoning that comes whole ends with it; that is how a provider's signature gets into the log: with the
        text, or alone after text that was streamed.
        """
        content = given.WhichOneof("content")
        if content == "text":
            self._add_speech(lane, TEXT, given.text.text, given.provider_json)
        elif content == "reasoning":
            self._add_speech(lane, REASONING, given.reasoning.text, given.provider_json)
        else:
            self._add_whole(lane, checks.checked_part(given))

    def turn(self, lane: str, name: str) -> None:
        """A new message begins with what follows, by an author of this name."""
        checks.checked_name(name, "the author's name")
        self._scribe.end_turn(lane)
        self._scribe.authors[lane] = name

    def _open(self, lane: str, kind: PartKind.ValueType) -> OpenPart:
        """Return the open part that text of this kind belongs to."""
        part = self._fold.transcript.speech.get(lane)
        if part is not None and part.kind == kind and part.length < MAX_PART_CHARACTERS:
            return part
        self._end_speech(lane)
        self._end_calls(lane)
        fresh = Part(text=TextPart()) if kind == TEXT else Part(reasoning=ReasoningPart())
        return self._scribe.open_part(self._scribe.open_assistant(lane), fresh)

    def _end_speech(self, lane: str) -> None:
        part = self._fold.transcript.speech.get(lane)
        if part is not None:
            self._scribe.end_part(part)

    def _end_calls(self, lane: str) -> None:
        entry = self._fold.transcript.assistant.get(lane)
        if entry is not None:
            for call in entry.open_calls():
                self._scribe.end_part(call)
            self._scribe.settle(entry)

    def _add_speech(self, lane: str, kind: PartKind.ValueType, text: str, provider_json: str) -> None:
        provider_json = checks.checked_json(provider_json, "provider_json")
        if text or provider_json:
            self.say(lane, kind, text)
            part = self._fold.transcript.speech.get(lane)
            if part is None or part.kind != kind:
                part = self._open(lane, kind)
            self._scribe.end_part(part, extra=Part(provider_json=provider_json))

    def _add_whole(self, lane: str, whole: Part) -> None:
        if whole.WhichOneof("content") == "source":
            self._cite(lane, whole.source)
        else:
            self._end_speech(lane)
        part = self._scribe.open_part(self._scribe.open_assistant(lane), _announced(whole))
        self._scribe.end_whole(part, whole)

    def _cite(self, lane: str, source: SourcePart) -> None:
        """A source cites the text that is open, unless the worker knows better."""
        part = self._fold.transcript.speech.get(lane)
        if part is not None and part.kind == TEXT and not source.cited_ordinal:
            source.cited_ordinal = part.ordinal


def _announced(whole: Part) -> Part:
    """Return what the start of a whole part says: what it is, without its content."""
    match whole.WhichOneof("content"):
        case "file":
            return Part(file=FilePart(name=whole.file.name, media_type=whole.file.media_type))
        case "data":
            return Part(data=DataPart(name=whole.data.name, key=whole.data.key))
        case _:
            return Part(source=SourcePart(source_id=whole.source.source_id))
