"""The one door to the grammar: what the engine may say about a run, and what it gets back for the log.

Owns the order in which the parts of this package are used; the rules themselves are in them. No I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from core_service.domain import ids, runs
from core_service.domain.grammar.fold import Fold
from core_service.domain.grammar.lifecycle import Lifecycle
from core_service.domain.grammar.limits import MAX_PART_CHARACTERS
from core_service.domain.grammar.notes import Notes
from core_service.domain.grammar.outputs import Outputs
from core_service.domain.grammar.pen import Pen
from core_service.domain.grammar.reports import Reports
from core_service.domain.grammar.scribe import Scribe
from core_service.domain.grammar.shared_state import SharedState
from core_service.domain.grammar.speech import Speech
from core_service.domain.grammar.steps import Step, StepKey
from core_service.domain.grammar.tool_use import ToolUse
from core_service.domain.json_text import compact
from penstock.v1.event_pb2 import Event, RunEnded, RunQueued, RunStarted
from penstock.v1.message_pb2 import Message
from penstock.v1.run_pb2 import EndReason, InputOutcome, InputRequest, Run, RunError, RunState, Usage
from penstock.v1.worker_service_pb2 import Output


class Grammar:
    """A fold of one run's events that turns loose outputs into well-formed events (CONTRACT.md 2.6).

    Instants are microseconds since 1970 UTC. A method that the run's state does not allow raises ValueError and changes
    nothing. `state_json` and `state_version` are the thread's state when the run began, which its events do not hold;
    None is for those who only read a log back.
    """

    def __init__(
        self,
        *,
        client_tools: Collection[str] = (),
        new_id: Callable[[str], str] = ids.new_id,
        state_json: str | None = "",
        state_version: int = 0,
        ask_keys: Mapping[str, str] | None = None,
        step_keys: Mapping[int, StepKey] | None = None,
        read_messages: Collection[str] = (),
    ) -> None:
        shared = SharedState(state_json, state_version)
        self._client_tools = set(client_tools)
        self._fold = fold = Fold(ask_keys or {}, step_keys or {}, read_messages, shared)
        self._transcript = fold.transcript
        self._pen = pen = Pen(fold)
        self._scribe = scribe = Scribe(fold, pen, new_id)
        self._notes = notes = Notes()
        self._lifecycle = Lifecycle(fold, pen, scribe, notes, new_id)
        self._reports = Reports(fold, scribe, notes)
        self._outputs = Outputs(
            Speech(fold, pen, scribe),
            ToolUse(fold, pen, scribe, self._client_tools),
            self._reports,
            self._lifecycle,
        )
        self.dropped = 0
        """Outputs of this life that came too late to count (rule 10). A figure for metrics, not part of the fold."""

    @classmethod
    def rebuild(
        cls,
        events: Iterable[Event],
        *,
        ask_keys: Mapping[str, str] | None = None,
        step_keys: Mapping[int, StepKey] | None = None,
        read_messages: Collection[str] = (),
        new_id: Callable[[str], str] = ids.new_id,
        state_json: str | None = "",
        state_version: int = 0,
    ) -> Grammar:
        """Return the grammar that wrote `events`, which begin at seq 1.

        From the store come what events do not hold: `ask_keys` (the handler's key of a question → its id), `step_keys`
        (seq of StepStarted → key and parent, of durable steps), and `read_messages` (ids of steering messages).
        """
        grammar = cls(
            new_id=new_id,
            state_json=state_json,
            state_version=state_version,
            ask_keys=ask_keys,
            step_keys=step_keys,
            read_messages=read_messages,
        )
        grammar._pen.read(events)
        grammar._learn_client_tools()
        return grammar

    def inherit(self, state_json: str, state_version: int) -> None:
        """Learn the thread's state when the run began, before its first output."""
        self._fold.shared = SharedState(state_json, state_version)

    # ── facts ────────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def seq(self) -> int:
        """The last seq made; 0 before the first."""
        return self._fold.seq

    @property
    def state(self) -> RunState.ValueType:
        """RUNNING also between RunResumed and the RunStarted of a run that no worker holds."""
        return self._fold.state

    @property
    def attempt(self) -> int:
        return self._fold.attempt

    @property
    def leg(self) -> int:
        return self._fold.leg

    @property
    def ended(self) -> RunEnded | None:
        """The end, once there is one."""
        return self._fold.ended

    @property
    def size_bytes(self) -> int:
        """Bytes of all records so far (ENGINE.md L5)."""
        return self._pen.size_bytes

    @property
    def state_json(self) -> str:
        """The thread's state as this run has made it; empty when it was never set."""
        return self._fold.shared.json

    @property
    def state_version(self) -> int:
        return self._fold.shared.version

    @property
    def usage(self) -> list[Usage]:
        """Sums per provider and model, over all attempts."""
        return list(self._fold.usage.values())

    @property
    def pending_call_ids(self) -> list[str]:
        """Whole calls of the client's tools that have no result."""
        return self._fold.calls.pending()

    @property
    def ask_keys(self) -> Mapping[str, str]:
        """What the store has to keep for `rebuild`: the handler's key of each question → its id."""
        return self._fold.questions.ids

    @property
    def step_keys(self) -> Mapping[int, StepKey]:
        """What the store has to keep for `rebuild`: seq of StepStarted → key and parent."""
        return self._fold.steps.keys

    @property
    def loop_steps(self) -> int:
        """Turns of the agent's loop so far, of all attempts."""
        return self._fold.steps.loop_count

    @property
    def tokens(self) -> int:
        """Tokens that were read and written, of all models and attempts."""
        return sum(usage.input_tokens + usage.output_tokens for usage in self._fold.usage.values())

    @property
    def has_spoken(self) -> bool:
        """Something visible was said, and counts."""
        return self._transcript.last_ordinal > len(self._transcript.retracted)

    @property
    def children(self) -> Collection[str]:
        """Ids of the runs that it called and that have not ended, as far as its log knows."""
        return self._fold.children.keys()

    def unread(self) -> list[str]:
        """Return the ids of the steering messages that the log holds and nobody has read."""
        return self._fold.inbox.unread()

    def step(self, key: str) -> Step | None:
        """Return the newest durable step with this key."""
        return self._fold.steps.get(key)

    def open_inputs(self) -> list[InputRequest]:
        """Return the open questions, oldest first."""
        return self._fold.questions.open()

    def messages(self) -> list[Message]:
        """Return the run's own messages, in order of start.

        Retracted ones are marked; open ones have no completion, and their open parts hold what was said so far.
        """
        return self._transcript.messages()

    def history(self) -> list[Message]:
        """Return what goes into the thread at the end: ended messages, without what was retracted."""
        return self._transcript.history(unread=self._fold.inbox.unread())

    def retracts(self) -> list[int]:
        """Return the parts that a retry now would retract."""
        return self._fold.steps.retracted()

    # ── events of the core's own ─────────────────────────────────────────────────────────────────────────────────────

    def queue(self, run: Run, input: Sequence[Message], now: int) -> None:
        """Begin the log."""
        if self._fold.seq:
            raise ValueError("a log begins only once")
        self._pen.now = now
        self._pen.write(Event(run_queued=RunQueued(run=run, input=input)))
        self._learn_client_tools()

    def start(self, attempt: int, agent_version: str, worker_id: str, now: int) -> None:
        """A worker starts the handler."""
        if not self._fold.is_resumed:
            self._require(runs.RUNNING)
        self._pen.now = now
        self._scribe.authors.clear()
        started = RunStarted(attempt=attempt, agent_version=agent_version, worker_id=worker_id)
        self._pen.write(Event(run_started=started))

    def resume(self, origin_json: str, now: int) -> None:
        """Leave WAITING, for the handler that waits or, when no worker holds the run, for the queue."""
        if self._fold.state != runs.WAITING:
            raise ValueError("the run is not waiting")
        self._pen.now = now
        self._scribe.resume(origin_json)

    def receive(self, message: Message, now: int) -> None:
        """A message arrived from outside. Not while WAITING (rule 3): hold it until the run goes on."""
        if self._fold.state not in (runs.QUEUED, runs.RUNNING):
            raise ValueError("only a queued or running run receives messages")
        self._pen.now = now
        self._lifecycle.receive(message)

    def resolve(
        self, input_id: str, outcome: InputOutcome.ValueType, answer_json: str, answered_by: str, now: int
    ) -> None:
        """A question was settled. Raises ValueError when it is not open, or the answer is not JSON."""
        self._require_active()
        answer_json = compact(answer_json) if answer_json else ""
        self._pen.now = now
        self._lifecycle.settle(input_id, outcome, answer_json, answered_by)

    def retry(self, error: RunError, retry_time: int, now: int) -> None:
        """The attempt failed and another follows."""
        if self._fold.state != runs.RUNNING:
            raise ValueError("only a running run is retried")
        self._pen.now = now
        self._lifecycle.retry(error, retry_time)

    def end(
        self, reason: EndReason.ValueType, now: int, *, error: RunError | None = None, result_json: str = ""
    ) -> None:
        """End the run, closing everything (rules 3 and 13–16). Raises ValueError when it has ended already."""
        self._require_active()
        result_json = compact(result_json) if result_json else ""
        self._pen.now = now
        self._lifecycle.end(reason, error, result_json)

    # ── outputs of the worker ────────────────────────────────────────────────────────────────────────────────────────

    def apply(self, output: Output, now: int) -> None:
        """Turn one output into events. Raises InvalidOutput, and is then unchanged. After the end it does nothing."""
        # The straight path (ENGINE.md N2): nearly all outputs are text that goes on with the open part of the handler.
        part = self._transcript.straight
        if (
            part is not None
            and (text := output.text)
            and not output.lane
            and part.length + len(text) <= MAX_PART_CHARACTERS
        ):
            self._pen.write_delta(part, text)
            return
        if self._fold.ended is not None:
            return
        if self._fold.state not in (runs.RUNNING, runs.WAITING):
            raise ValueError("only a started run has outputs")
        self._pen.now = now
        if not self._outputs.apply(output):
            self.dropped += 1

    def take(self) -> bytes:
        """Return the records of the events made since the last call, ready for the log; b"" when there are none."""
        return self._pen.take()

    def take_notes(self) -> Notes | None:
        """Return what the store keeps beside the events of the last `take`; None when there is nothing."""
        if not self._notes:
            return None
        notes = self._notes
        self._notes = self._lifecycle.notes = self._reports.notes = Notes()
        return notes

    # ── what the state allows ────────────────────────────────────────────────────────────────────────────────────────

    def _require(self, target: RunState.ValueType) -> None:
        if not runs.may_become(self._fold.state, target):
            raise ValueError(f"a run cannot go from state {self._fold.state} to {target}")

    def _require_active(self) -> None:
        if self._fold.state not in runs.ACTIVE:
            raise ValueError("the run has not begun, or has ended already")

    def _learn_client_tools(self) -> None:
        self._client_tools.update(tool.name for tool in self._fold.run.options.tools)
