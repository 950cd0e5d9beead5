"""What is said in a log: messages, parts, deltas, calls and their results (rules 4–8, 10–12, 16, 20 and 21)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from penstock.v1.event_pb2 import Event, MessageEnded, MessageStarted, PartDelta, PartEnded, PartStarted
from penstock.v1.message_pb2 import Completion, Part, PartKind, Role, ToolRunner

STREAMED = {"text": 1, "reasoning": 2, "tool_call": 3, "tool_result": 4}
SPEECH = ("text", "reasoning")
CALL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
INCOMPLETE = Completion.COMPLETION_INCOMPLETE
COMPLETE = Completion.COMPLETION_COMPLETE


@dataclass
class Piece:
    """A part as the log tells it."""

    kind: str
    message: Talk
    started: Part
    streamed: str = ""
    ended: Part | None = None
    is_retracted: bool = False

    def counts(self) -> bool:
        return self.ended is not None and self.ended.completion == COMPLETE and not self.is_retracted


@dataclass
class Talk:
    """A message as the log tells it."""

    role: Role.ValueType
    lane: str
    pieces: list[Piece] = field(default_factory=list)
    is_open: bool = True

    def has_open(self, *kinds: str) -> bool:
        return any(piece.ended is None and piece.kind in kinds for piece in self.pieces)


class Findings:
    """What was found so far, and where the checker is."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.seq = 0

    def report(self, rule: int, what: str) -> None:
        self.found.append(f"rule {rule}: {what} (seq {self.seq})")

    def expect(self, rule: int, claim: bool, what: str) -> None:  # noqa: FBT001 (an assertion reads best so)
        if not claim:
            self.report(rule, what)


class Said:
    """Judges what is said, event by event."""

    def __init__(self, findings: Findings) -> None:
        self.cut_off_at = 0
        """Seq where something was last cut off; who asks may set it back."""
        self.talks: dict[str, Talk] = {}
        self.pieces: dict[int, Piece] = {}
        self._findings = findings
        self._must_follow = ""

    def feed(self, event: Event) -> None:
        payload = event.WhichOneof("payload")
        if self._must_follow:
            rule = 5 if self._must_follow == "part_started" else 7
            self._expect(rule, payload == self._must_follow, f"{self._must_follow} has to follow at once")
        self._must_follow = ""
        match payload:
            case "message_started":
                self._message_started(event.message_started)
            case "message_ended":
                self._message_ended(event.message_ended)
            case "part_started":
                self._part_started(event.part_started)
            case "part_delta":
                self._part_delta(event.part_delta)
            case "part_ended":
                self._part_ended(event.part_ended)

    def nothing_is_open(self) -> None:
        self._expect(14, not any(talk.is_open for talk in self.talks.values()), "a message is open")
        self._expect(14, all(piece.ended for piece in self.pieces.values()), "a part is open")

    def results(self, call_id: str) -> list[Piece]:
        """Return the results of a call that count, or still may."""
        mine = [p for p in self.pieces.values() if p.kind == "tool_result" and p.started.tool_result.call_id == call_id]
        return [piece for piece in mine if piece.counts() or piece.ended is None]

    def _expect(self, rule: int, claim: bool, what: str) -> None:  # noqa: FBT001
        self._findings.expect(rule, claim, what)

    def _message_started(self, event: MessageStarted) -> None:
        message, talk = event.message, Talk(event.message.role, event.lane)
        self._expect(5, message.id not in self.talks, "a message starts twice")
        self._expect(8, talk.role in (Role.ROLE_ASSISTANT, Role.ROLE_TOOL), "a message of nobody's")
        if talk.role == Role.ROLE_ASSISTANT:
            same = [t for t in self.talks.values() if t.is_open and t.role == talk.role and t.lane == talk.lane]
            self._expect(5, not same, f"two assistant messages in lane {talk.lane!r}")
        self.talks[message.id] = talk
        self._must_follow = "part_started"

    def _message_ended(self, event: MessageEnded) -> None:
        talk = self.talks.get(event.message_id)
        if talk is None or not talk.is_open:
            self._findings.report(5, "an end of no open message")
            return
        talk.is_open = False
        self._expect(4, all(piece.ended for piece in talk.pieces), "a part outlives its message")
        self._expect(16, event.completion in (COMPLETE, INCOMPLETE), "a message ends without completion")
        if event.completion == INCOMPLETE:
            self.cut_off_at = self._findings.seq

    def _part_started(self, event: PartStarted) -> None:
        talk, part = self.talks.get(event.message_id), event.part
        kind = part.WhichOneof("content") or ""
        self._expect(4, part.ordinal == len(self.pieces) + 1, f"part {part.ordinal} is out of order")
        if talk is None or not talk.is_open:
            self._findings.report(4, "a part outside of its message")
            return
        is_result = kind == "tool_result"
        self._expect(8, is_result == (talk.role == Role.ROLE_TOOL), f"{kind} in a message of role {talk.role}")
        self._expect(8, not is_result or not talk.pieces, "a tool message of two parts")
        if kind in SPEECH:
            self._expect(5, not talk.has_open(*SPEECH), "two open texts")
            self._expect(6, not talk.has_open("tool_call"), "text while a call is open")
        elif kind == "tool_call":
            self._expect(6, not talk.has_open(*SPEECH), "a call while text is open")
            self._call_started(part)
        elif is_result:
            self._result_started(part)
        elif kind in ("file", "data"):
            self._expect(7, not talk.has_open(*SPEECH), f"{kind} while text is open")
        self._must_follow = "" if kind in STREAMED else "part_ended"
        self.pieces[part.ordinal] = Piece(kind, talk, part)
        talk.pieces.append(self.pieces[part.ordinal])

    def _call_started(self, part: Part) -> None:
        call = part.tool_call
        self._expect(11, bool(CALL_ID.fullmatch(call.call_id)), f"call id {call.call_id!r}")
        self._expect(11, not self._calls(call.call_id), f"call id {call.call_id!r} used twice")
        self._expect(
            12, call.runner in (ToolRunner.TOOL_RUNNER_AGENT, ToolRunner.TOOL_RUNNER_CLIENT), "nobody runs the call"
        )

    def _result_started(self, part: Part) -> None:
        call_id = part.tool_result.call_id
        calls = self._calls(call_id)
        self._expect(10, bool(calls) and calls[0].ended is not None, f"a result of no ended call {call_id!r}")
        self._expect(10, not self.results(call_id), f"a second result of {call_id!r}")

    def _part_delta(self, event: PartDelta) -> None:
        piece = self.pieces.get(event.part)
        if piece is None or piece.ended is not None:
            self._findings.report(4, f"a delta of no open part {event.part}")
            return
        self._expect(4, event.kind == STREAMED.get(piece.kind), f"a delta of kind {PartKind.Name(event.kind)}")
        self._expect(21, bool(event.text), "an empty delta")
        piece.streamed += event.text

    def _part_ended(self, event: PartEnded) -> None:
        part, piece = event.part, self.pieces.get(event.part.ordinal)
        if piece is None or piece.ended is not None:
            self._findings.report(4, f"an end of no open part {part.ordinal}")
            return
        self._expect(4, self.talks.get(event.message_id) is piece.message, "a part ends in another message")
        self._expect(4, part.WhichOneof("content") == piece.kind, "a part ends as another kind")
        self._expect(16, part.completion in (COMPLETE, INCOMPLETE), "a part ends without completion")
        piece.ended = part
        if piece.kind in SPEECH:
            whole = part.text.text or part.reasoning.text
            self._expect(4, whole == piece.streamed, "the deltas joined are not the text")
            self._expect(20, len(whole) <= 64 * 1024, "a text of more than 64 Ki characters")
            self.cut_off_at = self._findings.seq if part.completion == INCOMPLETE else self.cut_off_at
        elif piece.kind == "tool_call":
            self._call_ended(piece, part)

    def _call_ended(self, piece: Piece, part: Part) -> None:
        said, call = piece.started.tool_call, part.tool_call
        same = (said.call_id, said.tool_name, said.runner) == (call.call_id, call.tool_name, call.runner)
        self._expect(12, same, "a call ends as another")
        self._expect(20, len(piece.streamed.encode()) <= 256 * 1024, "arguments of more than 256 KiB")
        if part.completion == COMPLETE:
            self._expect(16, _is_object(call.arguments_json), "a complete call whose arguments are no object")
            self._expect(4, _same_json(call.arguments_json, piece.streamed), "the deltas joined are not the arguments")
        else:
            self._expect(4, call.raw_arguments == piece.streamed, "the deltas joined are not the raw arguments")

    def _calls(self, call_id: str) -> list[Piece]:
        return [p for p in self.pieces.values() if p.kind == "tool_call" and p.started.tool_call.call_id == call_id]


def _is_object(text: str) -> bool:
    return text.startswith("{") and isinstance(json.loads(text), dict)


def _same_json(compact: str, streamed: str) -> bool:
    try:
        return bool(json.loads(compact) == json.loads(streamed))
    except ValueError:
        return False
