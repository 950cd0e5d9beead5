"""What a worker said of a run, in short lines."""

from __future__ import annotations

from penstock.reasons import reason_name
from penstock.v1.message_pb2 import Completion
from penstock.v1.worker_service_pb2 import Output
from tests.sdk.scripted_core import Session


def lines(session: Session, run_id: str = "run_1") -> list[str]:
    """One line per output; its lane stands before it."""
    return [line(output) for _, output in session.outputs[run_id]]


def line(output: Output) -> str:
    said = _line(output)
    return f"[{output.lane}] {said}" if output.lane else said


def _line(output: Output) -> str:
    kind = output.WhichOneof("output") or ""
    match kind:
        case "text" | "reasoning":
            return f"{kind} {getattr(output, kind)!r}"
        case "step_started":
            return f"step+ {output.step_started.key}"
        case "step_ended":
            ended = output.step_ended
            failed = ended.completion == Completion.COMPLETION_INCOMPLETE
            return f"step- {ended.key} {'failed' if failed else ended.result_json}"
        case "ask":
            return f"ask {output.ask.key}"
        case "child_started":
            return f"child+ {output.child_started.child_run_id}"
        case "child_ended":
            return f"child- {output.child_ended.child_run_id}"
        case "inbox_read":
            return f"read {output.inbox_read.read} {' '.join(output.inbox_read.message_ids)}"
        case "end":
            reason = output.end.reason
            return " ".join(filter(None, ["end", reason_name(reason) if reason else "", output.end.result_json]))
        case _:
            return kind
