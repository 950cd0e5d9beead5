"""A worker that says exactly what a test wants, when it wants it: `Connect` by hand, without the SDK.

Nothing is sent that the test did not ask for: no credit, no acceptance, no output, no reconnect.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Literal

import grpc

from core_service.domain.ids import new_id
from penstock.v1.agent_pb2 import Agent
from penstock.v1.message_pb2 import Message
from penstock.v1.run_pb2 import EndReason, RunError
from penstock.v1.worker_service_pb2 import (
    Accepted,
    Answered,
    AskOutput,
    Assignment,
    ConnectRequest,
    ConnectResponse,
    CoreMessage,
    Credit,
    Decline,
    Drain,
    EndOutput,
    Held,
    Hello,
    InboxReadOutput,
    Output,
    Outputs,
    Released,
    StepEndedOutput,
    StepStartedOutput,
    WaitOutput,
    Welcome,
    WorkerMessage,
)
from penstock.v1.worker_service_pb2_grpc import WorkerServiceStub
from tests.core.faults import WAIT
from tests.core.refusals import reason_of

Heard = Literal["assignment", "welcome", "answered", "steered", "cancel_requested", "revoked", "draining"]


class ScriptedWorker:
    """One worker process life; it may have several streams, one after the other."""

    def __init__(self, channel: grpc.aio.Channel, *, agents: Sequence[Agent], worker_id: str) -> None:
        self._channel = channel
        self.agents = agents
        self.worker_id = worker_id or new_id("wrk")
        self.stream: Stream | None = None

    async def connect(self, *held: Job, credit: int = 0) -> Welcome:
        """Open a stream and say Hello. An earlier one is left as it is: cut it first, or be two."""
        names = [Held(run_id=job.run_id, attempt=job.attempt, last_output=job.last) for job in held]
        hello = Hello(worker_id=self.worker_id, sdk_version="0", agents=self.agents, held=names)
        stream = self.stream = Stream(self._channel)
        await stream.send(WorkerMessage(hello=hello))
        welcome = (await stream.hears("welcome")).welcome
        for job in held:
            job.stream = stream
        if credit:
            await self.give_credit(credit)
        return welcome

    @property
    def now(self) -> Stream:
        """The newest stream."""
        assert self.stream is not None, "connect first"
        return self.stream

    async def give_credit(self, runs: int) -> None:
        await self.now.send(WorkerMessage(credit=Credit(runs=runs)))

    async def drain(self) -> None:
        await self.now.send(WorkerMessage(drain=Drain()))

    async def take(self, *, accept: bool = True) -> Job:
        """Take the next assignment."""
        stream = self.now
        job = Job(stream, (await stream.hears("assignment")).assignment)
        if accept:
            await job.accept()
        return job

    async def cut(self) -> None:
        """Break the stream, without a word."""
        if self.stream is not None:
            await self.stream.cut()


class Job:
    """One attempt of a run in a worker's hands. It numbers what it sends."""

    def __init__(self, stream: Stream, assignment: Assignment) -> None:
        self.stream = stream
        self.assignment = assignment
        self.run_id = assignment.run.id
        self.attempt = assignment.run.attempt
        self.last = 0

    async def accept(self) -> None:
        await self.stream.send(WorkerMessage(accepted=Accepted(run_id=self.run_id, attempt=self.attempt)))

    async def decline(self, reason: str = "no room") -> None:
        decline = Decline(run_id=self.run_id, attempt=self.attempt, reason=reason)
        await self.stream.send(WorkerMessage(decline=decline))

    async def send(self, *outputs: Output, first: int | None = None) -> int:
        """Send outputs behind the last one, or with a number of one's choice; returns the highest number."""
        number = self.last + 1 if first is None else first
        message = Outputs(run_id=self.run_id, attempt=self.attempt, first=number, outputs=outputs)
        self.last = max(self.last, number + len(outputs) - 1)
        await self.stream.send(WorkerMessage(outputs=message))
        return self.last

    async def say(self, *texts: str) -> int:
        """Send a text output for each."""
        return await self.send(*(Output(text=text) for text in texts))

    async def ask(self, key: str, message: str = "May I?", **fields: Any) -> int:
        """Ask, and wait until somebody answers."""
        return await self.send(Output(ask=AskOutput(key=key, message=message, **fields)), Output(wait=WaitOutput()))

    async def step(self, name: str, text: str = "", *, result: str = "null") -> int:
        """A durable step that says something and is recorded."""
        said = (Output(text=text),) if text else ()
        key = f"{name}#1"
        return await self.send(
            Output(step_started=StepStartedOutput(key=key, name=name, args_hash=b"h")),
            *said,
            Output(step_ended=StepEndedOutput(key=key, durable=True, result_json=result)),
        )

    async def read(self, number: int, *message_ids: str) -> int:
        """Tell of a read of the inbox."""
        return await self.send(Output(inbox_read=InboxReadOutput(read=number, message_ids=message_ids)))

    async def release(self) -> None:
        """Let the run go while it waits."""
        await self.stream.send(WorkerMessage(released=Released(run_id=self.run_id, attempt=self.attempt)))

    async def answered(self) -> Answered:
        """The next answer to a question of this run."""
        return (await self.stream.hears("answered", lambda m: m.answered.run_id == self.run_id)).answered

    async def steered(self) -> Message:
        """The next message for this run."""
        return (await self.stream.hears("steered", lambda m: m.steered.run_id == self.run_id)).steered.message

    async def end(
        self,
        reason: EndReason.ValueType = EndReason.END_REASON_COMPLETED,
        error: RunError | None = None,
    ) -> int:
        """Send the end."""
        return await self.send(end_output(reason, error))

    async def acked(self, number: int | None = None) -> None:
        """Return once the core has stored the outputs up to a number; all that were sent, if none is given."""
        await self.stream.acked(self.run_id, self.last if number is None else number, attempt=self.attempt)

    async def say_all(self, *texts: str) -> None:
        """Say this, end, and wait until it is stored."""
        await self.send(*(Output(text=text) for text in texts), end_output())
        await self.acked()


class Stream:
    """One Connect call. Everything heard is kept until somebody asks for it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._call: grpc.aio.StreamStreamCall[ConnectRequest, ConnectResponse] = WorkerServiceStub(channel).Connect()
        self._heard: defaultdict[str | None, list[CoreMessage]] = defaultdict(list)
        self._accepted: dict[tuple[str, int], int] = {}
        self._news = asyncio.Condition()
        self._error: grpc.aio.AioRpcError | None = None
        self._over = False
        self._reader = asyncio.create_task(self._read())

    async def send(self, *messages: WorkerMessage) -> None:
        """Say something in one request."""
        await self._call.write(ConnectRequest(messages=messages))

    async def hears(self, kind: Heard, where: Callable[[CoreMessage], bool] = lambda message: True) -> CoreMessage:
        """Return the next message of a kind, and forget it. Raises what ended the stream if it never comes."""
        async with asyncio.timeout(WAIT), self._news:
            while True:
                for position, message in enumerate(self._heard[kind]):
                    if where(message):
                        return self._heard[kind].pop(position)
                if self._over:
                    raise self._error or EOFError(f"the stream ended before {kind}")
                await self._news.wait()

    def has_heard(self, kind: Heard) -> bool:
        """Tell whether a message of a kind is there already."""
        return bool(self._heard[kind])

    def accepted(self, run_id: str, *, attempt: int = 1) -> int:
        """Return the highest number that was acknowledged so far."""
        return self._accepted.get((run_id, attempt), 0)

    async def acked(self, run_id: str, number: int, *, attempt: int) -> None:
        async with asyncio.timeout(WAIT), self._news:
            await self._news.wait_for(lambda: self.accepted(run_id, attempt=attempt) >= number or self._over)
        if self.accepted(run_id, attempt=attempt) < number:
            raise self._error or EOFError("the stream ended before the acknowledgement")

    async def finish(self) -> None:
        """Say nothing more, and wait until the core has closed too."""
        await self._call.done_writing()
        await self.over()

    async def cut(self) -> None:
        """Break it, without a word."""
        self._call.cancel()
        await self.over()

    async def over(self) -> str:
        """Return why the core ended the stream: the reason of its refusal, or the name of the code."""
        async with asyncio.timeout(WAIT):
            await self._reader
        return reason_of(self._error) if self._error is not None else (await self._call.code()).name

    async def _read(self) -> None:
        try:
            async for response in self._call:
                await self._note(response)
        except grpc.aio.AioRpcError as error:
            self._error = error
        except asyncio.CancelledError:
            if not self._call.cancelled():
                raise
        async with self._news:
            self._over = True
            self._news.notify_all()

    async def _note(self, response: ConnectResponse) -> None:
        async with self._news:
            for message in response.messages:
                if message.HasField("ack"):
                    self._accepted[message.ack.run_id, message.ack.attempt] = message.ack.accepted
                else:
                    self._heard[message.WhichOneof("message")].append(message)
            self._news.notify_all()


def end_output(reason: EndReason.ValueType = EndReason.END_REASON_COMPLETED, error: RunError | None = None) -> Output:
    """An end as an output."""
    return Output(end=EndOutput(reason=reason, error=error))


def agent(agent_id: str = "echo", **fields: object) -> Agent:
    """A declaration."""
    return Agent(id=agent_id, version="7", **fields)  # type: ignore[arg-type]
