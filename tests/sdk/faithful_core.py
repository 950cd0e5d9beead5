"""A small core that is faithful to the contract: the real grammar keeps one run's log, and rows beside it the records.

It drives a worker's run without a connection: requests as the worker packs them, applied output by output. Between two
outputs the worker can be killed; what it had sent behind that is lost, as it would be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from penstock import App
from penstock.executions import Executions
from penstock.line import Line
from penstock.outboxes import Outboxes
from penstock.v1.message_pb2 import Completion
from penstock.v1.run_pb2 import RunState
from penstock.v1.worker_service_pb2 import (
    Ack,
    Answered,
    AnswerRecord,
    Assignment,
    ConnectRequest,
    Output,
    Outputs,
    Record,
    StepRecord,
    Welcome,
    WorkerMessage,
)
from tests.grammar.script import ANSWERED, Script
from tests.sdk.scripted_core import PATIENCE, assignment

WAITING = RunState.RUN_STATE_WAITING


class Killed(BaseException):
    """The worker is gone."""


class FaithfulCore:
    """One run, from its first attempt to its end."""

    def __init__(self) -> None:
        self.script = Script().begin()
        self.steps: dict[str, StepRecord] = {}
        self.answers: dict[str, AnswerRecord] = {}
        self.recorded: Callable[[str], None] = lambda key: None
        """Called when a step's result is in the store."""

    @property
    def has_ended(self) -> bool:
        return self.script.grammar.ended is not None

    @property
    def is_waiting(self) -> bool:
        return self.script.grammar.state == WAITING

    def apply(self, output: Output) -> None:
        """Commit one output."""
        self.script.say(output)
        match output.WhichOneof("output"):
            case "step_started":
                started = output.step_started
                known = StepRecord(parent_key=started.parent_key, args_hash=started.args_hash)
                self.steps.setdefault(started.key, known)
            case "step_ended" if output.step_ended.durable:
                ended = output.step_ended
                assert ended.completion != Completion.COMPLETION_INCOMPLETE
                self.steps[ended.key].completed = True
                self.steps[ended.key].result_json = ended.result_json
                self.recorded(ended.key)

    def open_questions(self) -> list[str]:
        """Keys, oldest first."""
        keys = {input_id: key for key, input_id in self.script.grammar.ask_keys.items()}
        return [keys[request.id] for request in self.script.grammar.open_inputs()]

    def answer(self) -> Answered:
        """Settle the oldest open question of a run that waits. Returns what a worker is told."""
        [key, *_] = self.open_questions()
        input_id = self.script.grammar.ask_keys[key]
        self.answers[key] = AnswerRecord(input_id=input_id, outcome=ANSWERED, answer_json=f'{{"answer":"{key}"}}')
        self.script.answer(self.answers[key].answer_json)
        if not self.open_questions():
            self.script.resume()
        return Answered(run_id="run_1", key=key, answer=self.answers[key])

    def lose_worker(self) -> None:
        """The worker is gone: a run that waits goes on waiting, another one is tried again."""
        if not self.is_waiting:
            self.script.retry()

    def start_again(self) -> None:
        """Find it a worker. A run that waits gets an answer first."""
        self.script = self.script.twin()
        if self.is_waiting:
            self.answer()
        if self.is_waiting:
            self.script.resume()
        self.script.start()

    def assignment(self, agent_id: str = "agent", text: str = "") -> Assignment:
        """What the worker of the next attempt gets."""
        assigned = assignment(agent_id, text, attempt=self.script.grammar.attempt)
        keys = {key for key, step in self.steps.items() if step.completed} | set(self.script.grammar.ask_keys)
        anchored = [key for key in self.steps if any(one == key or one.startswith(f"{key}/") for one in keys)]
        assigned.records.extend(Record(key=key, step=self.steps[key]) for key in anchored)
        for key, input_id in self.script.grammar.ask_keys.items():
            answer = self.answers.get(key, AnswerRecord(input_id=input_id))
            assigned.records.append(Record(key=key, answer=answer))
        return assigned


def heard(core: FaithfulCore) -> list[str]:
    """What was said and counts, by part."""
    parts = {part.ordinal: part.text.text for message in core.script.grammar.history() for part in message.parts}
    return [parts[ordinal] for ordinal in sorted(parts)]


class Life:
    """One life of a worker, which runs one attempt of the core's run."""

    def __init__(self, core: FaithfulCore, app: App, *, outputs: int | None = None, parks: bool = True) -> None:
        """`outputs` is how many are committed until it is killed. If it does not park, it lets go whoever waits."""
        self._core = core
        self._left = outputs
        self._outboxes = Outboxes()
        self._parks = parks
        self._executions = Executions(
            app.agents, self._outboxes, Line(), concurrency=1, grace=PATIENCE, max_parked=1000 if parks else 0
        )
        self._is_released = False

    async def run(self) -> bool:
        """Serve until the run has ended (True), or the worker is killed or has let it go."""
        async with asyncio.timeout(PATIENCE), self._executions:
            self._executions.welcome(Welcome())
            self._executions.assign(self._core.assignment())
            try:
                while not self._core.has_ended and not self._is_released:
                    if self._core.is_waiting and self._parks:
                        self._spend()
                        self._executions.answer(self._core.answer())
                    else:
                        await self._outboxes.stirred.wait()
                    await asyncio.sleep(0)
                    self._flush()
            except Killed:
                self._core.lose_worker()
            return self._core.has_ended

    def _flush(self) -> None:
        while request := self._outboxes.take():
            for message in ConnectRequest.FromString(request).messages:
                self._hear(message)

    def _hear(self, message: WorkerMessage) -> None:
        if message.HasField("outputs"):
            self._commit(message.outputs)
        elif message.HasField("released"):
            self._is_released = True

    def _commit(self, outputs: Outputs) -> None:
        for output in outputs.outputs:
            self._spend()
            self._core.apply(output)
        last = outputs.first + len(outputs.outputs) - 1
        self._executions.ack(Ack(run_id=outputs.run_id, attempt=outputs.attempt, accepted=last))

    def _spend(self) -> None:
        if self._left == 0:
            raise Killed
        if self._left is not None:
            self._left -= 1
