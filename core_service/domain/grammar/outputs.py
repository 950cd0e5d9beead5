"""Which part of the grammar each kind of output belongs to (CONTRACT.md 2.7)."""

from __future__ import annotations

from dataclasses import dataclass

from core_service.domain.grammar import checks
from core_service.domain.grammar.lifecycle import Lifecycle
from core_service.domain.grammar.reports import Reports
from core_service.domain.grammar.speech import Speech
from core_service.domain.grammar.tool_use import ToolUse
from core_service.domain.grammar.transcript import REASONING, TEXT
from penstock.v1.worker_service_pb2 import Output


@dataclass(frozen=True, slots=True)
class Outputs:
    """Hands each output to the one who writes its events."""

    speech: Speech
    tool_use: ToolUse
    reports: Reports
    lifecycle: Lifecycle

    def apply(self, output: Output) -> bool:
        """Write what an output becomes; False when it came too late to count, or is of a kind not known here."""
        lane = checks.checked_name(output.lane, "the lane")
        match output.WhichOneof("output"):
            case "text":
                self.speech.say(lane, TEXT, output.text)
            case "reasoning":
                self.speech.say(lane, REASONING, output.reasoning)
            case "tool_call":
                return self.tool_use.call(lane, output.tool_call)
            case "tool_result":
                return self.tool_use.result(lane, output.tool_result)
            case "message":
                self.speech.turn(lane, output.message.name)
            case "part":
                checks.check_size(output)
                self.speech.add(lane, output.part)
            case _:
                checks.check_size(output)
                return self._report(lane, output)
        return True

    def _report(self, lane: str, output: Output) -> bool:
        match output.WhichOneof("output"):
            case "step_started":
                self.reports.start_step(lane, output.step_started)
            case "step_ended":
                return self.reports.end_step(lane, output.step_ended)
            case "state":
                return self.reports.change_state(output.state)
            case "usage":
                self.reports.report_usage(output.usage)
            case "custom":
                self.reports.custom(output.custom)
            case "child_started":
                return self.reports.start_child(output.child_started)
            case "child_ended":
                return self.reports.end_child(output.child_ended)
            case "ask":
                self.lifecycle.ask(lane, output.ask)
            case "inbox_read":
                return self.lifecycle.read_inbox(lane, output.inbox_read)
            case "wait":
                self.lifecycle.wait()
            case "end":
                self.lifecycle.finish(output.end)
            case _:
                return False
        return True
