"""Steps, state, usage, children and custom events: what a handler reports besides what it says."""

from __future__ import annotations

from core_service.domain import runs
from core_service.domain.errors import InvalidOutput
from core_service.domain.grammar import checks
from core_service.domain.grammar.fold import Fold
from core_service.domain.grammar.limits import MAX_MODELS, MAX_STEP_RESULT_BYTES
from core_service.domain.grammar.notes import Notes
from core_service.domain.grammar.scribe import Scribe
from core_service.domain.grammar.steps import Step, StepKey
from core_service.domain.grammar.transcript import utf8_length
from core_service.domain.records import StepRow
from penstock.v1.event_pb2 import ChildEnded, ChildStarted, Custom, Event, StatePatched, StepStarted, UsageReported
from penstock.v1.message_pb2 import Completion
from penstock.v1.run_pb2 import Usage
from penstock.v1.worker_service_pb2 import (
    ChildEndedOutput,
    ChildStartedOutput,
    CustomOutput,
    StateOutput,
    StepEndedOutput,
    StepStartedOutput,
)


class Reports:
    """Writes reports. A method that returns a bool tells whether the output counted."""

    def __init__(self, fold: Fold, scribe: Scribe, notes: Notes) -> None:
        self._fold = fold
        self._scribe = scribe
        self.notes = notes

    # ── steps ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def start_step(self, lane: str, given: StepStartedOutput) -> None:
        """Start a step. One that is open from an earlier attempt is attached to again: nothing is written (E6)."""
        steps = self._fold.steps
        checks.checked_name(given.name, "the name of a step")
        known = steps.get(given.key) if given.key else None
        if known is not None and known.is_completed:
            raise InvalidOutput(f"step {given.key!r} has completed already")
        if known is not None and not known.ended_seq:
            return
        key = StepKey(
            checks.checked_name(given.key, "the key of a step"),
            checks.checked_name(given.parent_key, "the key of a step"),
            given.args_hash,
        )
        self._scribe.go_on()
        self._scribe.end_turn(lane)
        if key.key:
            steps.keys[self._fold.seq + 1] = key
        started = StepStarted(
            step=steps.last_number + 1,
            name=given.name,
            number=given.number,
            max_steps=given.max_steps,
            tokens_used=given.tokens_used,
            token_limit=given.token_limit,
            lane=lane,
        )
        self._scribe.say(Event(step_started=started))
        if key.key:
            self._note(steps.get(key.key), "")

    def end_step(self, lane: str, given: StepEndedOutput) -> bool:
        """End a durable step by its key, or the lane's newest loop step."""
        step = self._step(lane, given.key)
        if step is None:
            return False
        result_json = checks.checked_json(given.result_json, "the result of a step")
        if utf8_length(given.result_json) > MAX_STEP_RESULT_BYTES:
            raise InvalidOutput(f"the result of step {given.key!r} is larger than {MAX_STEP_RESULT_BYTES} bytes")
        cut_off = given.completion == Completion.COMPLETION_INCOMPLETE
        self._scribe.end_turn(step.lane)
        self._scribe.end_step(step, cut_off=cut_off, durable=bool(step.key) and given.durable and not cut_off)
        if step.key:
            self._note(step, result_json)
        return True

    def _note(self, step: Step | None, result_json: str) -> None:
        assert step is not None
        self.notes.steps[step.key] = StepRow(
            key=step.key,
            parent_key=step.parent_key,
            started_seq=step.started_seq,
            ended_seq=step.ended_seq or None,
            is_completed=step.is_completed,
            args_hash=step.args_hash,
            result_json=result_json if step.is_completed else "",
        )

    def _step(self, lane: str, key: str) -> Step | None:
        if not key:
            return self._fold.steps.newest_loop_step(lane)
        step = self._fold.steps.get(key)
        if step is None or step.ended_seq:
            raise InvalidOutput(f"step {key!r} is not open")
        return step

    # ── state, usage, custom ─────────────────────────────────────────────────────────────────────────────────────────

    def change_state(self, given: StateOutput) -> bool:
        shared = self._fold.shared
        changed = StatePatched(version=shared.version + 1)
        match given.WhichOneof("change"):
            case "snapshot_json":
                changed.snapshot_json = checks.checked_snapshot(given.snapshot_json)
            case "patch_json":
                changed.patch_json = checks.checked_patch(given.patch_json, shared)
            case None:
                return False
        self._scribe.say(Event(state_patched=changed))
        return True

    def report_usage(self, given: Usage) -> None:
        usage = checks.checked_usage(given)
        sums = self._fold.usage
        if (usage.provider, usage.model) not in sums and len(sums) >= MAX_MODELS:
            raise InvalidOutput(f"usage of more than {MAX_MODELS} models")
        self._scribe.say(Event(usage_reported=UsageReported(usage=usage)))

    def custom(self, given: CustomOutput) -> None:
        name = checks.required_name(given.name, "the name of a custom event")
        value_json = checks.checked_json(given.value_json, "value_json")
        self._scribe.say(Event(custom=Custom(name=name, value_json=value_json)))

    # ── children ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def start_child(self, given: ChildStartedOutput) -> bool:
        """Announce a child run, once: a later attempt attaches to the same child."""
        child = checks.required_name(given.child_run_id, "child_run_id")
        checks.checked_name(given.agent_id, "the agent of a child")
        checks.checked_name(given.name, "the name of a child")
        if child in self._fold.children or child in self._fold.ended_children:
            return False
        started = ChildStarted(child_run_id=child, agent_id=given.agent_id, name=given.name)
        if given.call_id:
            call_id = checks.checked_call_id(given.call_id)
            started.call_id = self._fold.calls.logged_id(call_id, self._fold.attempt)
        self._scribe.say(Event(child_started=started))
        return True

    def end_child(self, given: ChildEndedOutput) -> bool:
        """Close the lane of a child."""
        if given.state not in runs.ENDED:
            raise InvalidOutput("the state of an ended child is not an end")
        if given.child_run_id not in self._fold.children:
            return False
        for entry in list(self._fold.transcript.open_entries.values()):
            if entry.lane == given.child_run_id:
                self._scribe.end_message(entry, cut_off=given.state != runs.SUCCEEDED)
        ended = ChildEnded(child_run_id=given.child_run_id, state=given.state, reason=given.reason)
        self._scribe.say(Event(child_ended=ended))
        return True
