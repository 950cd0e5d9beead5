"""The grammar's whole state: a fold of the run's events, live ones and those read back alike (rule 22).

Everything that decides what is written next is here and comes from events; so a grammar that was rebuilt from the log
goes on exactly as the one that wrote it. What the store keeps beside the log are the keys of steps and questions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from core_service.domain import runs
from core_service.domain.grammar.calls import Calls
from core_service.domain.grammar.inbox import Inbox
from core_service.domain.grammar.limits import MAX_INT32
from core_service.domain.grammar.questions import Questions
from core_service.domain.grammar.shared_state import SharedState
from core_service.domain.grammar.steps import StepKey, Steps
from core_service.domain.grammar.transcript import TOOL_CALL, TOOL_RESULT, Transcript
from penstock.v1.event_pb2 import ChildEnded, ChildStarted, Event, RunEnded, RunQueued
from penstock.v1.run_pb2 import Run, RunState, Usage

TOKENS = (
    "input_tokens",
    "output_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)


class Fold:
    """What the events so far say about the run."""

    def __init__(
        self,
        ask_keys: Mapping[str, str],
        step_keys: Mapping[int, StepKey],
        read_messages: Collection[str],
        shared: SharedState,
    ) -> None:
        self.seq = 0
        self.time = 0
        """Of the newest event that has one; microseconds since 1970 UTC."""
        self.state: RunState.ValueType = RunState.RUN_STATE_UNSPECIFIED
        self.attempt = 0
        self.leg = 0
        self.is_resumed = False
        """RunResumed was the newest event about the run: a worker may have to be found for it."""
        self.run = Run()
        self.ended: RunEnded | None = None
        self.usage: dict[tuple[str, str], Usage] = {}
        self.children: dict[str, ChildStarted] = {}
        """By run id: the children that have not ended."""
        self.ended_children: set[str] = set()
        self.transcript = Transcript()
        self._open_parts = self.transcript.open_parts
        self.calls = Calls()
        self.steps = Steps(step_keys)
        self.questions = Questions(ask_keys)
        self.inbox = Inbox(read_messages)
        self.shared = shared

    def apply(self, event: Event) -> None:
        """Take in the next event."""
        self.seq = event.seq
        if event.HasField("part_delta"):
            delta = event.part_delta
            self._open_parts[delta.part].extend(delta.text)
            return
        self.time = event.create_time.seconds * 1_000_000 + event.create_time.nanos // 1000
        payload = event.WhichOneof("payload")
        if payload is not None and payload.startswith("run_"):
            self._run(event)
        else:
            self._content(event)

    def _run(self, event: Event) -> None:
        """Rule 2: each change of the state has its one event."""
        self.is_resumed = False
        match event.WhichOneof("payload"):
            case "run_queued":
                self._queued(event.run_queued)
            case "run_started":
                self.state = runs.RUNNING
                self.attempt = event.run_started.attempt
            case "run_waiting":
                self.state = runs.WAITING
            case "run_resumed":
                self.state = runs.RUNNING
                self.leg = event.run_resumed.leg
                self.is_resumed = True
            case "run_retrying":
                self.state = runs.QUEUED
                self._retract(event.run_retrying.retracted_ordinals)
            case "run_ended":
                self.ended = RunEnded()
                self.ended.CopyFrom(event.run_ended)
                self.state = event.run_ended.state

    def _content(self, event: Event) -> None:
        """Everything that is said. A payload of a newer core opens and closes nothing: it is passed over."""
        match event.WhichOneof("payload"):
            case "part_started":
                self._start_part(event)
            case "part_ended":
                self._end_part(event)
            case "message_started":
                self.transcript.start_message(event.message_started)
            case "message_ended":
                self.transcript.end_message(event.message_ended)
            case "message_received":
                self.transcript.receive(event.message_received.message)
                self.inbox.receive(event.message_received.message.id)
            case "step_started":
                self.steps.start(event.step_started, event.seq)
            case "step_ended":
                self._end_step(event)
            case "state_patched":
                self.shared.change(event.state_patched)
            case "usage_reported":
                self._add_usage(event.usage_reported.usage)
            case "input_requested":
                self.steps.place_question(self.questions.ask(event.input_requested), event.seq)
                self.shared.anchor()
            case "input_resolved":
                self.questions.settle(event.input_resolved.input_id)
            case "child_started":
                self._start_child(event.child_started)
            case "child_ended":
                self._end_child(event.child_ended)

    def _queued(self, event: RunQueued) -> None:
        self.state = runs.QUEUED
        self.run.CopyFrom(event.run)

    def _retract(self, ordinals: Iterable[int]) -> None:
        retracted = set(ordinals)
        self.transcript.retracted |= retracted
        self.calls.retract(retracted)
        self.steps.retry()

    def _start_part(self, event: Event) -> None:
        part = self.transcript.start_part(event.part_started)
        self.steps.place_part(part.ordinal, part.entry.lane, event.seq)
        if part.kind == TOOL_CALL:
            self.calls.start(part, self.attempt)
        elif part.kind == TOOL_RESULT:
            self.calls.start_result(part)

    def _end_part(self, event: Event) -> None:
        kind = self.transcript.end_part(event.part_ended).kind
        if kind == TOOL_CALL:
            self.calls.end(event.part_ended.part)
        elif kind == TOOL_RESULT:
            self.calls.end_result(event.part_ended.part)

    def _end_step(self, event: Event) -> None:
        step = self.steps.end(event.step_ended, event.seq)
        if step.is_completed:
            self.shared.anchor()

    def _add_usage(self, more: Usage) -> None:
        total = self.usage.setdefault((more.provider, more.model), Usage(provider=more.provider, model=more.model))
        for name in TOKENS:
            setattr(total, name, min(getattr(total, name) + getattr(more, name), MAX_INT32))
        total.cost_usd += more.cost_usd

    def _start_child(self, child: ChildStarted) -> None:
        known = ChildStarted()
        known.CopyFrom(child)
        self.children[child.child_run_id] = known
        call = self.calls.get(child.call_id)
        self.steps.start_child(child.child_run_id, call.entry.lane if call else "")

    def _end_child(self, child: ChildEnded) -> None:
        del self.children[child.child_run_id]
        self.ended_children.add(child.child_run_id)
