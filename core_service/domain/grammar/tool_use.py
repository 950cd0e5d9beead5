"""Tool calls and their results, whole or in pieces (rules 6, 8 and 10–12)."""

from __future__ import annotations

from collections.abc import Set

from core_service.domain.errors import InvalidOutput
from core_service.domain.grammar import checks
from core_service.domain.grammar.calls import Call
from core_service.domain.grammar.fold import Fold
from core_service.domain.grammar.limits import EVENT_OVERHEAD, MAX_EVENT_BYTES, MAX_TOOL_BYTES, MAX_UNANSWERED_CALLS
from core_service.domain.grammar.pen import Pen
from core_service.domain.grammar.scribe import NO_ARGUMENTS, Scribe
from core_service.domain.grammar.transcript import OpenPart, utf8_length
from penstock.v1.message_pb2 import Part, ToolCallPart, ToolOutcome, ToolResultPart, ToolRunner
from penstock.v1.worker_service_pb2 import ToolCallOutput, ToolResultOutput

AGENT = ToolRunner.TOOL_RUNNER_AGENT
CLIENT = ToolRunner.TOOL_RUNNER_CLIENT
SUCCEEDED = ToolOutcome.TOOL_OUTCOME_SUCCEEDED
FAILED = ToolOutcome.TOOL_OUTCOME_FAILED
DENIED = ToolOutcome.TOOL_OUTCOME_DENIED

NOTHING = "null"


class ToolUse:
    """Writes calls and results. Both methods tell whether the output counted: what comes too late is dropped."""

    def __init__(self, fold: Fold, pen: Pen, scribe: Scribe, client_tools: Set[str]) -> None:
        self._fold = fold
        self._pen = pen
        self._scribe = scribe
        self._client_tools = client_tools

    def call(self, lane: str, given: ToolCallOutput) -> bool:
        """Start a call at first sight, add a piece of its arguments, end it at `done`."""
        call_id = self._logged_id(given.call_id)
        call = self._fold.calls.get(call_id)
        if call is not None and call.open_part is None:
            return False
        _check_pieces(call.open_part if call else None, given.arguments_delta)
        part = (call and call.open_part) or self._start_call(lane, call_id, given)
        if given.arguments_delta:
            self._pen.write_delta(part, given.arguments_delta)
        if given.done:
            self._scribe.end_part(part, extra=Part(tool_call=ToolCallPart(title=given.title)))
            self._scribe.settle(part.entry)
        return True

    def result(self, lane: str, given: ToolResultOutput) -> bool:
        """Start a result at first sight, add a piece of it, end it at `done`. It ends its call."""
        call_id = self._logged_id(given.call_id)
        call = self._fold.calls.get(call_id)
        if call is not None and call.result and call.open_result is None:
            return False
        if call is None:
            self._check_new_call(given.tool_name)
        streamed = (call.open_result or call.cut_result) if call else None
        _check_pieces(streamed, given.delta)
        pieces = (streamed.text() if streamed else "") + given.delta if given.done else ""
        whole = _whole_result(call_id, call.tool_name if call else given.tool_name, given, pieces)

        call = call or self._unseen_call(lane, call_id, given.tool_name)
        part = call.open_result or self._scribe.open_result(lane, call)
        if given.delta:
            self._pen.write_delta(part, given.delta)
        if given.done:
            self._scribe.end_whole(part, whole)
            self._scribe.end_message(part.entry)
        return True

    def _logged_id(self, call_id: str) -> str:
        return self._fold.calls.logged_id(checks.checked_call_id(call_id), self._fold.attempt)

    def _check_new_call(self, tool_name: str) -> None:
        checks.required_name(tool_name, "the tool of a new call")
        if self._fold.calls.unanswered_count() >= MAX_UNANSWERED_CALLS:
            raise InvalidOutput(f"more than {MAX_UNANSWERED_CALLS} calls have no result")

    def _start_call(self, lane: str, call_id: str, given: ToolCallOutput) -> OpenPart:
        self._check_new_call(given.tool_name)
        checks.checked_name(given.title, "the title of a call")
        speech = self._fold.transcript.speech.get(lane)
        if speech is not None:
            self._scribe.end_part(speech)
        call = ToolCallPart(
            call_id=call_id,
            tool_name=given.tool_name,
            runner=self._runner(given.tool_name, given.runner),
            title=given.title,
        )
        return self._scribe.open_part(self._scribe.open_assistant(lane), Part(tool_call=call))

    def _runner(self, tool_name: str, said: ToolRunner.ValueType) -> ToolRunner.ValueType:
        """Rule 12: what the worker says, else whose tool it is."""
        if said in (AGENT, CLIENT):
            return said
        return CLIENT if tool_name in self._client_tools else AGENT

    def _unseen_call(self, lane: str, call_id: str, tool_name: str) -> Call:
        """Write the call of a result that nobody announced (rule 10)."""
        self.call(lane, ToolCallOutput(call_id=call_id, tool_name=tool_name, arguments_delta=NO_ARGUMENTS, done=True))
        call = self._fold.calls.get(call_id)
        assert call is not None
        return call


def _check_pieces(part: OpenPart | None, piece: str) -> None:
    if (part.length if part else 0) + utf8_length(piece) > MAX_TOOL_BYTES:
        raise InvalidOutput(f"the pieces of one call or result are larger than {MAX_TOOL_BYTES} bytes")


def _whole_result(call_id: str, tool_name: str, given: ToolResultOutput, pieces: str) -> Part:
    """Return the result as it ends: the output as given, else its pieces joined."""
    outcome = given.outcome if given.outcome in (SUCCEEDED, FAILED, DENIED) else _outcome(given)
    output = given.output_json or (pieces if outcome == SUCCEEDED else "")
    if outcome == SUCCEEDED and not output and not given.content:
        output = NOTHING
    result = ToolResultPart(
        call_id=call_id,
        tool_name=tool_name,
        outcome=outcome,
        output_json=checks.checked_json(output, "the output of a tool"),
        error_text=given.error_text,
        content=[checks.checked_part(part) for part in given.content],
        duration_ms=given.duration_ms,
    )
    part = Part(tool_result=result)
    if part.ByteSize() > MAX_EVENT_BYTES - EVENT_OVERHEAD:
        raise InvalidOutput("the result of a tool does not fit into an event")
    return part


def _outcome(given: ToolResultOutput) -> ToolOutcome.ValueType:
    return FAILED if given.error_text else SUCCEEDED
