"""An independent judge of a run's log, written from the rules in protos/README.md and not from the grammar's code.

`violations(events)` returns one line per broken rule, `rule 4: …`; an empty list is a good log. It knows what can be
seen in the events alone: not whose the tools were, not the keys of steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from penstock.v1.event_pb2 import Event, InputResolved, RunEnded, RunRetrying, StepStarted
from penstock.v1.message_pb2 import Role, ToolOutcome, ToolRunner
from penstock.v1.run_pb2 import RunState, Usage
from tests.grammar.said import Findings, Piece, Said

REASONS = {
    RunState.RUN_STATE_SUCCEEDED: (1, 9),
    RunState.RUN_STATE_FAILED: (10, 29),
    RunState.RUN_STATE_CANCELLED: (30, 49),
}
MAX_INT32 = 2**31 - 1
CLOSINGS = {"part_ended", "message_ended", "step_ended", "input_resolved", "run_resumed"}


def violations(events: Sequence[Event], *, is_whole: bool = True) -> list[str]:
    """Judge a log from seq 1; with `is_whole` it has to have its end."""
    checker = Checker()
    for event in events:
        checker.feed(event)
    if is_whole and checker.state != "ended":
        checker.findings.report(1, "the log has no end")
    return checker.findings.found


class Checker:
    """Feed it event by event; it goes on after a violation."""

    def __init__(self) -> None:
        self.findings = Findings()
        self.said = Said(self.findings)
        self.state = "none"
        self.micros = 0
        self.previous = ""
        self.steps: dict[int, StepStarted] = {}
        self.step_count = 0
        self.open_inputs: list[str] = []
        self.asked: set[str] = set()
        self.usage: dict[tuple[str, str], list[int]] = {}

    def expect(self, rule: int, claim: bool, what: str) -> None:  # noqa: FBT001
        self.findings.expect(rule, claim, what)

    def feed(self, event: Event) -> None:
        payload = event.WhichOneof("payload") or "unknown"
        before, self.findings.seq = self.findings.seq, event.seq
        self.expect(1, event.seq == before + 1, f"it follows {before}")
        self._check_place(event, payload)
        self._check_time(event, payload)
        self._check_cut_off(event, payload)
        self.expect(20, event.ByteSize() <= 1 << 20 or payload == "run_queued", "an event over 1 MiB")
        self.said.feed(event)
        self._fold(event)
        self.previous = payload

    def _fold(self, event: Event) -> None:
        match event.WhichOneof("payload"):
            case "run_queued" | "run_started" | "run_waiting" | "run_resumed" | "run_retrying" | "run_ended":
                self._run(event)
            case "step_started":
                self._step_started(event.step_started)
            case "step_ended":
                self.expect(14, self.steps.pop(event.step_ended.step, None) is not None, "an end of no open step")
            case "input_requested":
                self.expect(15, event.input_requested.input.id not in self.asked, "a question asked twice")
                self.asked.add(event.input_requested.input.id)
                self.open_inputs.append(event.input_requested.input.id)
            case "input_resolved":
                self._input_resolved(event.input_resolved)
            case "usage_reported":
                self._usage_reported(event.usage_reported.usage)

    # ── rules 1, 2, 3 and 16: order ──────────────────────────────────────────────────────────────────────────────────

    def _check_place(self, event: Event, payload: str) -> None:
        self.expect(1, (payload == "run_queued") == (self.findings.seq == 1), f"{payload} at this place")
        self.expect(1, self.state != "ended", f"{payload} after the end")
        if self.state == "waiting":
            self.expect(3, payload in ("input_resolved", "run_resumed"), f"{payload} while waiting")
        if payload == "part_delta" or (payload == "message_started" and not _belongs_to_result(event)):
            self.expect(2, self.state == "running", f"{payload} while {self.state}")

    def _check_time(self, event: Event, payload: str) -> None:
        self.expect(1, event.HasField("create_time") != (payload == "part_delta"), "all but deltas have a time")
        if payload != "part_delta":
            micros = event.create_time.ToMicroseconds()
            self.expect(1, micros >= self.micros, "time goes back")
            self.micros = micros

    def _check_cut_off(self, event: Event, payload: str) -> None:
        """Once something said is INCOMPLETE, only closing follows, up to the failure that cut it off."""
        if not self.said.cut_off_at:
            return
        well = RunState.RUN_STATE_SUCCEEDED
        ended_badly = payload == "run_ended" and event.run_ended.state != well
        if payload == "run_retrying" or ended_badly or (payload == "child_ended" and event.child_ended.state != well):
            self.said.cut_off_at = 0
        elif payload not in CLOSINGS and not _belongs_to_result(event):
            self.findings.report(16, f"cut off at seq {self.said.cut_off_at}, but nothing failed")
            self.said.cut_off_at = 0

    def _run(self, event: Event) -> None:
        match event.WhichOneof("payload"):
            case "run_queued":
                self._move(("none",), "queued")
            case "run_started":
                is_other_worker = self.state == "running" and self.previous == "run_resumed"
                self._move(("running",) if is_other_worker else ("queued",), "running")
            case "run_waiting":
                self._move(("running",), "waiting")
                self.said.nothing_is_open()
                named = [request.id for request in event.run_waiting.inputs]
                self.expect(15, bool(named) and named == self.open_inputs, f"waiting for {named}")
            case "run_resumed":
                self._move(("waiting",), "running")
            case "run_retrying":
                self._move(("running",), "queued")
                self._retrying(event.run_retrying)
            case "run_ended":
                self._move(("queued", "running"), "ended")
                self._run_ended(event.run_ended)

    def _move(self, sources: tuple[str, ...], target: str) -> None:
        self.expect(2, self.state in sources, f"{self.state} becomes {target}")
        self.state = target

    # ── rules 13 to 15 and 18: the rest ──────────────────────────────────────────────────────────────────────────────

    def _step_started(self, event: StepStarted) -> None:
        self.step_count += 1
        self.expect(14, event.step == self.step_count, f"step {event.step} is out of order")
        self.steps[event.step] = event

    def _input_resolved(self, event: InputResolved) -> None:
        if event.input_id in self.open_inputs:
            self.open_inputs.remove(event.input_id)
        else:
            self.findings.report(15, f"{event.input_id} is resolved, but not open")

    def _usage_reported(self, usage: Usage) -> None:
        sums = self.usage.setdefault((usage.provider, usage.model), [0, 0])
        sums[0] = min(sums[0] + usage.input_tokens, MAX_INT32)
        sums[1] = min(sums[1] + usage.output_tokens, MAX_INT32)

    def _retrying(self, event: RunRetrying) -> None:
        self.said.nothing_is_open()
        self.expect(14, not any(step.number for step in self.steps.values()), "a loop step outlives a retry")
        ordinals = list(event.retracted_ordinals)
        self.expect(18, ordinals == sorted(set(ordinals)), "retracted ordinals are not ascending")
        for ordinal in ordinals:
            piece = self.said.pieces.get(ordinal)
            if piece is None or piece.is_retracted:
                self.findings.report(18, f"part {ordinal} cannot be retracted")
            else:
                piece.is_retracted = True

    def _run_ended(self, event: RunEnded) -> None:
        self.said.nothing_is_open()
        self.expect(14, not self.steps, "a step is open at the end")
        self.expect(15, not self.open_inputs, "a question is open at the end")
        low, high = REASONS.get(event.state, (0, 0))
        self.expect(2, low <= event.reason <= high, f"reason {event.reason} in state {event.state}")
        failed = event.state == RunState.RUN_STATE_FAILED
        self.expect(2, event.HasField("error") == failed, "an error, exactly when failed")
        sums = {(usage.provider, usage.model): [usage.input_tokens, usage.output_tokens] for usage in event.usage}
        self.expect(2, sums == self.usage, "the usage at the end is not the sum")
        self._check_results(event)

    def _check_results(self, event: RunEnded) -> None:
        calls = [piece for piece in self.said.pieces.values() if piece.kind == "tool_call" and piece.counts()]
        pending = []
        for call in calls:
            said = call.started.tool_call
            results = len(self.said.results(said.call_id))
            if said.runner == ToolRunner.TOOL_RUNNER_CLIENT:
                pending += [said.call_id] if not results else []
            else:
                self.expect(13, results == 1, f"{results} results of {said.call_id}")
        self.expect(13, list(event.pending_call_ids) == pending, f"pending should be {pending}")
        completed, client_tools = 1, 4
        if event.reason in (completed, client_tools):
            self.expect(
                13, (event.reason == client_tools) == bool(pending), "CLIENT_TOOLS exactly when calls are pending"
            )
        self._check_abandoned(calls)

    def _check_abandoned(self, calls: Iterable[Piece]) -> None:
        whole = {call.started.tool_call.call_id for call in calls}
        for piece in self.said.pieces.values():
            result = piece.ended.tool_result if piece.ended and piece.counts() else None
            if result is not None and result.outcome == ToolOutcome.TOOL_OUTCOME_ABANDONED:
                self.expect(13, result.call_id in whole, f"{result.call_id} was cut off and is given up")


def _belongs_to_result(event: Event) -> bool:
    """The results that the core writes at an end stand between what was cut off and the end."""
    is_message = event.HasField("message_started") and event.message_started.message.role == Role.ROLE_TOOL
    return is_message or (event.HasField("part_started") and event.part_started.part.HasField("tool_result"))
