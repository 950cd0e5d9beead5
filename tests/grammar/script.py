"""A run driven by hand: a grammar with counted ids and a clock that moves 1 ms per act, and its log in short lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from core_service.domain import segments
from core_service.domain.grammar import Grammar
from penstock.v1.event_pb2 import Event
from penstock.v1.message_pb2 import Completion, Message, Part, PartKind, Role, TextPart, ToolOutcome, ToolRunner
from penstock.v1.run_pb2 import (
    ClientTool,
    EndReason,
    InputOutcome,
    Run,
    RunError,
    RunOptions,
    RunState,
)
from penstock.v1.worker_service_pb2 import Output

EPOCH = 1_767_225_600_000_000
"""2026-01-01 in UTC, in microseconds."""

ANSWERED = InputOutcome.INPUT_OUTCOME_ANSWERED


class CountedIds:
    """`msg_1`, `msg_2`, `inp_3` …"""

    def __init__(self, used: int = 0) -> None:
        self.used = used

    def __call__(self, prefix: str) -> str:
        self.used += 1
        return f"{prefix}_{self.used}"


class Script:
    """Says what happens in a run, line by line."""

    def __init__(self, *, client_tools: Iterable[str] = (), state_json: str = "", state_version: int = 0) -> None:
        self.ids = CountedIds()
        self.grammar = Grammar(new_id=self.ids, state_json=state_json, state_version=state_version)
        self.now = EPOCH
        self.log = b""
        self._state_json = state_json
        self._state_version = state_version
        self._tools = [ClientTool(name=name) for name in client_tools]

    def queue(self) -> Script:
        run = Run(
            id="run_1",
            agent_id="agent",
            thread_id="thr_1",
            state=RunState.RUN_STATE_QUEUED,
            options=RunOptions(tools=self._tools),
        )
        run.create_time.FromMicroseconds(self.now)
        question = Message(id="msg_in", role=Role.ROLE_USER, run_id="run_1", parts=[Part(text=TextPart(text="hello"))])
        self.grammar.queue(run, [question], self.tick())
        return self.keep()

    def start(self) -> Script:
        self.grammar.start(self.grammar.attempt + 1, "1.0", f"wrk_{self.grammar.attempt + 1}", self.tick())
        return self.keep()

    def begin(self) -> Script:
        return self.queue().start()

    def say(self, *outputs: Output) -> Script:
        for output in outputs:
            self.grammar.apply(output, self.tick())
        return self.keep()

    def receive(self, text: str) -> Script:
        message = Message(id="msg_steer", role=Role.ROLE_USER, run_id="run_1", parts=[Part(text=TextPart(text=text))])
        self.grammar.receive(message, self.tick())
        return self.keep()

    def answer(
        self, answer_json: str = '{"answer":"yes"}', outcome: InputOutcome.ValueType = ANSWERED, *, index: int = 0
    ) -> Script:
        request = self.grammar.open_inputs()[index]
        self.grammar.resolve(request.id, outcome, answer_json, "usr_1", self.tick())
        return self.keep()

    def resume(self) -> Script:
        self.grammar.resume("", self.tick())
        return self.keep()

    def retry(self, code: str = "WORKER_LOST") -> Script:
        error = RunError(code=code, message="The attempt failed.", retryable=True)
        self.grammar.retry(error, self.now + 1_000_000, self.tick())
        return self.keep()

    def end(self, reason: EndReason.ValueType, *, error: RunError | None = None) -> Script:
        self.grammar.end(reason, self.tick(), error=error)
        return self.keep()

    def tick(self) -> int:
        self.now += 1000
        return self.now

    def keep(self) -> Script:
        self.log += self.grammar.take()
        return self

    def events(self) -> list[Event]:
        return segments.events(self.log)

    def lines(self, *, after: int = 2) -> list[str]:
        """Return the log behind seq `after` (the start of the first attempt) in short lines."""
        return trace(self.events()[after:])

    def twin(self) -> Script:
        """Return a second script that goes on from here: made from the log, and what the store keeps beside it."""
        twin = Script()
        twin.ids, twin.now, twin.log = CountedIds(self.ids.used), self.now, self.log
        twin.grammar = Grammar.rebuild(
            self.events(),
            ask_keys=self.grammar.ask_keys,
            step_keys=self.grammar.step_keys,
            new_id=twin.ids,
            state_json=self._state_json,
            state_version=self._state_version,
        )
        return twin


def trace(events: Sequence[Event]) -> list[str]:
    """Return one short line per event."""
    return [_line(event) for event in events]


def _line(event: Event) -> str:
    match event.WhichOneof("payload"):
        case "message_started":
            started = event.message_started
            role = Role.Name(started.message.role).removeprefix("ROLE_").lower()
            names = (started.message.author.name, started.lane and f"lane={started.lane}")
            return " ".join(["message+", started.message.id, role, *filter(None, names)])
        case "message_ended":
            return f"message- {event.message_ended.message_id}{_cut(event.message_ended.completion)}"
        case "part_started":
            return f"part+ {_part(event.part_started.part)}"
        case "part_delta":
            delta = event.part_delta
            return f"{PartKind.Name(delta.kind).removeprefix('PART_KIND_').lower()} {delta.part} {delta.text!r}"
        case "part_ended":
            return f"part- {_part(event.part_ended.part)}{_cut(event.part_ended.part.completion)}"
        case _:
            return _other(event)


def _part(part: Part) -> str:
    match part.WhichOneof("content"):
        case "text":
            detail = ["text", repr(part.text.text) if part.text.text else ""]
        case "reasoning":
            detail = ["reasoning", repr(part.reasoning.text) if part.reasoning.text else ""]
        case "tool_call":
            call = part.tool_call
            client = "client" if call.runner == ToolRunner.TOOL_RUNNER_CLIENT else ""
            detail = ["call", call.call_id, call.tool_name, client, call.arguments_json, call.raw_arguments]
        case "tool_result":
            result = part.tool_result
            outcome = ToolOutcome.Name(result.outcome).removeprefix("TOOL_OUTCOME_").lower() if result.outcome else ""
            detail = ["result", result.call_id, outcome, result.output_json, result.error_text]
        case "file":
            detail = ["file", part.file.media_type, part.file.url]
        case "data":
            detail = ["data", part.data.name, part.data.value_json]
        case _:
            detail = ["source", part.source.url, f"cites {part.source.cited_ordinal}" if part.source.url else ""]
    return " ".join([str(part.ordinal), *filter(None, detail)]) + (
        f" signed {part.provider_json}" if part.provider_json else ""
    )


def _other(event: Event) -> str:
    match event.WhichOneof("payload"):
        case "run_queued":
            return "queued"
        case "run_started":
            return f"started {event.run_started.attempt}"
        case "run_waiting":
            return " ".join(["waiting", *(request.id for request in event.run_waiting.inputs)])
        case "run_resumed":
            return f"resumed {event.run_resumed.leg}"
        case "run_retrying":
            return f"retrying {event.run_retrying.attempt} without {list(event.run_retrying.retracted_ordinals)}"
        case "run_ended":
            reason = EndReason.Name(event.run_ended.reason).removeprefix("END_REASON_").lower()
            return " ".join(["ended", reason, *event.run_ended.pending_call_ids])
        case "message_received":
            return f"received {event.message_received.message.id}"
        case "step_started":
            started = event.step_started
            return " ".join(
                filter(None, ["step+", str(started.step), started.name, started.lane and f"lane={started.lane}"])
            )
        case "step_ended":
            ended = event.step_ended
            return f"step- {ended.step}{' durable' if ended.durable else ''}{_cut(ended.completion)}"
        case "state_patched":
            state = event.state_patched
            return f"state {state.version} {state.snapshot_json or state.patch_json}"
        case "usage_reported":
            return f"usage {event.usage_reported.usage.input_tokens}+{event.usage_reported.usage.output_tokens}"
        case "input_requested":
            return f"asked {event.input_requested.input.id}"
        case "input_resolved":
            outcome = InputOutcome.Name(event.input_resolved.outcome).removeprefix("INPUT_OUTCOME_").lower()
            return f"settled {event.input_resolved.input_id} {outcome}"
        case "child_started":
            return f"child+ {event.child_started.child_run_id}"
        case "child_ended":
            return f"child- {event.child_ended.child_run_id}"
        case "custom":
            return f"custom {event.custom.name} {event.custom.value_json}"
        case other:
            raise AssertionError(f"no line for {other}")


def _cut(completion: Completion.ValueType) -> str:
    return " (cut off)" if completion == Completion.COMPLETION_INCOMPLETE else ""
