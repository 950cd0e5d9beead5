"""A run's events as a person reads them in a terminal.

The answer, and nothing else, goes to standard output, so that `penstock run … | wc` counts it. What surrounds it
(reasoning, tools, retries) goes to standard error, and only when a person looks at it; what a person must know goes
there always.
"""

from __future__ import annotations

from typing import TextIO, assert_never

import click

from penstock.cli.messages import described, harmless, shortened
from penstock.flat_json import enum_names
from penstock.v1.event_pb2 import Event, PartDelta, RunEnded, RunRetrying
from penstock.v1.message_pb2 import PartKind
from penstock.v1.run_pb2 import EndReason, InputRequest, RunState

_STATES = enum_names(RunState.DESCRIPTOR)
_REASONS = enum_names(EndReason.DESCRIPTOR)

LONGEST_VALUE = 200
"""Characters of a tool's arguments or result that are shown."""


class Transcript:
    """Feed it a run's events in order."""

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self._out, self._err = out, err
        self._messages: set[str] = set()  # of the main lane
        self._spoken: set[int] = set()  # ordinals of text parts that were printed
        self._parts: set[int] = set()  # of those messages
        self._is_mid_line = False
        self._is_reasoning = False

    def feed(self, event: Event) -> None:
        """Shows one event, now."""
        self._show(event)
        self._out.flush()
        self._err.flush()

    def _show(self, event: Event) -> None:
        match event.WhichOneof("payload"):
            case "part_delta":
                self._delta(event.part_delta)
            case "message_started":
                if not event.message_started.lane:
                    self._messages.add(event.message_started.message.id)
            case "part_started":
                if event.part_started.message_id in self._messages:
                    self._parts.add(event.part_started.part.ordinal)
            case "part_ended":
                if event.part_ended.part.ordinal in self._parts:
                    self._note(described(event.part_ended.part, longest=LONGEST_VALUE))
            case "run_queued":
                run = event.run_queued.run
                self._note(f"{run.id} on {run.thread_id}")
            case "run_retrying":
                self._retry(event.run_retrying)
            case "run_waiting":
                for question in event.run_waiting.inputs:
                    self._tell(f"waits for an answer: {_question(question)}")
            case "step_started":
                self._note(f"step {event.step_started.name or event.step_started.number}")
            case "child_started":
                self._note(f"calls agent {event.child_started.agent_id}")
            case "run_ended":
                self._finish(event.run_ended)
            case (
                "message_ended" | "usage_reported" | "state_patched" | "step_ended" | "custom" | "run_started"
                | "run_resumed" | "message_received" | "input_requested" | "input_resolved" | "child_ended" | None
            ):  # fmt: skip
                pass
            case unheard_of:
                assert_never(unheard_of)

    def _delta(self, delta: PartDelta) -> None:
        if delta.part not in self._parts:
            return
        if delta.kind == PartKind.PART_KIND_TEXT:
            self._stop_reasoning()
            self._out.write(harmless(delta.text) if self._out.isatty() else delta.text)
            self._spoken.add(delta.part)
            self._is_mid_line = not delta.text.endswith("\n")
        elif delta.kind == PartKind.PART_KIND_REASONING and self._err.isatty():
            if not self._is_reasoning:
                self._new_line()
                self._is_reasoning = True
            self._err.write(click.style(harmless(delta.text), dim=True))

    def _retry(self, retrying: RunRetrying) -> None:
        taken_back = self._spoken.intersection(retrying.retracted_ordinals)
        remark = "; what it said above is taken back" if taken_back else ""
        self._tell(f"attempt {retrying.attempt} failed ({retrying.error.code}){remark}; trying again")

    def _finish(self, end: RunEnded) -> None:
        if end.result_json:
            self._new_line()
            self._out.write(end.result_json)
            self._is_mid_line = True
        self._stop_reasoning()
        if self._is_mid_line:
            self._out.write("\n")
            self._is_mid_line = False
        state, reason = _STATES.get(end.state, "ended"), _REASONS.get(end.reason, "unknown")
        if end.state == RunState.RUN_STATE_SUCCEEDED:
            tokens = sum(usage.input_tokens + usage.output_tokens for usage in end.usage)
            self._note(f"{state}: {reason}" + (f", {tokens} tokens" if tokens else ""))
        else:
            self._tell(": ".join(filter(None, (state, reason, end.error.message))), fg="red")

    def _note(self, text: str) -> None:
        """For whoever looks on."""
        if text and self._err.isatty():
            self._tell(text, dim=True)

    def _tell(self, text: str, *, fg: str | None = None, dim: bool = False) -> None:
        self._stop_reasoning()
        self._new_line()
        text = harmless(text)
        self._err.write((click.style(text, fg=fg, dim=dim) if self._err.isatty() else text) + "\n")

    def _new_line(self) -> None:
        """On a terminal both streams share the line; elsewhere the answer is left as it is."""
        if self._is_mid_line and self._out.isatty():
            self._out.write("\n")
            self._out.flush()
            self._is_mid_line = False

    def _stop_reasoning(self) -> None:
        if self._is_reasoning:
            self._err.write("\n")
            self._is_reasoning = False


def _question(question: InputRequest) -> str:
    arguments = shortened(question.arguments_json, LONGEST_VALUE)
    return " ".join(filter(None, (question.message, question.tool_name, arguments)))
