"""What is open around the messages of a run: steps, and child runs, which AG-UI calls subagents.

Owns who speaks in a lane, the names of steps, and the frames that open and close both: a run of AG-UI must not end
before they are closed, also when ours only pauses. It follows the whole log, whatever of it is shown.
"""

from __future__ import annotations

from edge.fold import Fold, FoldedPart
from edge.protocols.ag_ui.frames import frame
from edge.protocols.ag_ui.outcome import reason_name
from penstock.v1.event_pb2 import ChildEnded, ChildStarted, Event, StepEnded, StepStarted
from penstock.v1.run_pb2 import EndReason, RunState

Owner = dict[str, object]
"""The attribution of an event: empty for the agent itself."""


class Scopes:
    """Steps and subagents of a run."""

    def __init__(self, fold: Fold) -> None:
        self._fold = fold
        self._children: dict[str, ChildStarted] = {}
        self._active: dict[str, None] = {}  # ids of the children that have not ended, in order
        self._steps: dict[int, tuple[str, Owner]] = {}

    def owner_of(self, lane: str) -> Owner | None:
        """Return whose events those of a lane are; None for lanes that are not shown."""
        if not lane:
            return {}
        return {"subagentRunId": lane} if lane in self._children else None

    def feed(self, event: Event, payload: str | None) -> bytes:
        """Add the next event; return its frame when it is about a step or a child."""
        match payload:
            case "step_started":
                return self._start_step(event.step_started)
            case "step_ended":
                return self._end_step(event.step_ended)
            case "child_started":
                return self._start_child(event.child_started)
            case "child_ended":
                return self._end_child(event.child_ended)
            case _:
                return b""

    def open(self) -> bytes:
        """Return the frames that open what is open: a stream begins, or goes on after a pause."""
        subagents = [self._announce(self._children[child]) for child in self._active]
        return b"".join([*subagents, *(_step("STEP_STARTED", name, owner) for name, owner in self._steps.values())])

    def close(self) -> bytes:
        """Return the frames that close what is open: the run pauses, or has ended before its children."""
        steps = [_step("STEP_FINISHED", name, owner) for name, owner in reversed(self._steps.values())]
        outcome = {"type": "suspended"}
        if self._fold.end is None:
            subagents = [
                frame("SUBAGENT_FINISHED", {"subagentRunId": child, "outcome": outcome}) for child in self._active
            ]
        else:
            subagents = [_failed(child, EndReason.END_REASON_PARENT) for child in self._active]
        return b"".join([*steps, *subagents])

    def call(self, call_id: str) -> FoldedPart | None:
        """Return a tool call of this run."""
        for folded in reversed(self._fold.parts.values()):
            if folded.part.tool_call.call_id == call_id:
                return folded
        return None

    def _start_step(self, started: StepStarted) -> bytes:
        owner = self.owner_of(started.lane)
        if owner is None:
            return b""
        name = started.name or f"step {started.number or started.step}"
        if (name, owner) in self._steps.values():  # two at once: the client tells steps apart by name
            name = f"{name} #{started.step}"
        self._steps[started.step] = name, owner
        return _step("STEP_STARTED", name, owner)

    def _end_step(self, ended: StepEnded) -> bytes:
        if ended.step not in self._steps:
            return b""
        return _step("STEP_FINISHED", *self._steps.pop(ended.step))

    def _start_child(self, started: ChildStarted) -> bytes:
        child = ChildStarted()
        child.CopyFrom(started)
        self._children[child.child_run_id] = child
        self._active[child.child_run_id] = None
        return self._announce(child)

    def _end_child(self, ended: ChildEnded) -> bytes:
        child = ended.child_run_id
        self._active.pop(child, None)
        if ended.state == RunState.RUN_STATE_SUCCEEDED:
            return frame("SUBAGENT_FINISHED", {"subagentRunId": child})
        return _failed(child, ended.reason)

    def _announce(self, child: ChildStarted) -> bytes:
        call = self.call(child.call_id) if child.call_id else None
        fields = {
            "subagentRunId": child.child_run_id,
            "name": child.name or child.agent_id,
            "parentSubagentRunId": (self.owner_of(call.message.lane) or {}).get("subagentRunId") if call else None,
            "parentToolCallId": child.call_id or None,
        }
        return frame("SUBAGENT_STARTED", fields)


def _step(kind: str, name: str, owner: Owner) -> bytes:
    return frame(kind, {"stepName": name, **owner})


def _failed(child: str, reason: int) -> bytes:
    code = reason_name(reason).upper()
    return frame(
        "SUBAGENT_ERROR", {"subagentRunId": child, "message": f"The agent did not finish: {code}.", "code": code}
    )
