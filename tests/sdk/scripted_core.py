"""The peer of a worker, played by the test: a real gRPC server that speaks the contract and does as it is told."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import grpc
import grpc.aio

from penstock.grpc_options import SERVER_OPTIONS
from penstock.v1.message_pb2 import DataPart, Message, Part, Role, TextPart
from penstock.v1.run_pb2 import InputOutcome, Run
from penstock.v1.run_service_pb2_grpc import RunServiceServicer, add_RunServiceServicer_to_server
from penstock.v1.worker_service_pb2 import (
    Accepted,
    Ack,
    Answered,
    AnswerRecord,
    Assignment,
    ConnectRequest,
    ConnectResponse,
    CoreMessage,
    Decline,
    EndOutput,
    HeldAnswer,
    Hello,
    InboxRecord,
    Output,
    Record,
    Released,
    Steered,
    StepRecord,
    Welcome,
    WorkerMessage,
)
from penstock.v1.worker_service_pb2_grpc import WorkerServiceServicer, add_WorkerServiceServicer_to_server

ANSWERED = InputOutcome.INPUT_OUTCOME_ANSWERED
PATIENCE = 10.0
"""Seconds that a test waits for anything before it fails."""

Context = grpc.aio.ServicerContext[ConnectRequest, ConnectResponse]


class Session:
    """One stream of a worker. What it says is collected; what is said to it, the test decides."""

    def __init__(self, context: Context) -> None:
        self.hello = Hello()
        self.credit = 0
        self.accepted: list[Accepted] = []
        self.declined: list[Decline] = []
        self.released: list[Released] = []
        self.draining = False
        self.requests: list[ConnectRequest] = []
        self.outputs: defaultdict[str, list[tuple[int, Output]]] = defaultdict(list)
        self.acks = True
        """Acknowledge every output at once."""
        self.stays = False
        """Leave the stream open when the worker has closed its side."""
        self.ended = asyncio.Event()
        """The worker has closed its side, or the stream broke."""
        self._context = context
        self._turn = asyncio.Lock()
        self._changed = asyncio.Condition()
        self._cut = asyncio.Event()

    async def serve(self) -> None:
        """Read until the worker has no more to say or the test cuts the stream."""
        reader = asyncio.create_task(self._read())
        cut = asyncio.create_task(self._cut.wait())
        try:
            await asyncio.wait([reader, cut], return_when=asyncio.FIRST_COMPLETED)
            if self.stays:
                await cut
        finally:
            reader.cancel()
            cut.cancel()
            self.ended.set()
        if self._cut.is_set():
            await self._context.abort(grpc.StatusCode.UNAVAILABLE, "cut by the test")

    def cut(self) -> None:
        """Break the stream."""
        self._cut.set()

    async def until(self, condition: Callable[[Session], bool]) -> None:
        """Return once the condition holds; fail when it does not become true."""
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: condition(self))

    async def say(self, *messages: CoreMessage) -> None:
        """Say something to the worker."""
        async with self._turn:  # gRPC takes one write at a time
            await self._context.write(ConnectResponse(messages=messages))

    async def welcome(self, *held: HeldAnswer, lease: float = 30.0, outputs: int = 0, size: int = 0) -> None:
        """Answer the Hello."""
        welcome = Welcome(core_id="scripted", held=held, max_unacked_outputs=outputs, max_unacked_bytes=size)
        welcome.lease.FromMilliseconds(int(lease * 1000))
        await self.say(CoreMessage(welcome=welcome))

    async def assign(
        self, agent_id: str, text: str = "", *records: Record, run_id: str = "run_1", attempt: int = 1
    ) -> None:
        """Send a run with one message of the user."""
        whole = assignment(agent_id, text, run_id=run_id, attempt=attempt)
        whole.records.extend(records)
        await self.say(CoreMessage(assignment=whole))

    async def answer(self, key: str, answer_json: str = '{"answer":"yes"}', *, run_id: str = "run_1") -> None:
        """Pass on an answer."""
        await self.say(CoreMessage(answered=Answered(run_id=run_id, key=key, answer=answered(key, answer_json).answer)))

    async def steer(self, text: str, *, run_id: str = "run_1") -> None:
        """Hand on a steering message; its text is its id."""
        await self.say(CoreMessage(steered=Steered(run_id=run_id, message=steering(text))))

    async def ack(self, accepted: int, *, run_id: str = "run_1", attempt: int = 1) -> None:
        """Acknowledge by hand."""
        await self.say(CoreMessage(ack=Ack(run_id=run_id, attempt=attempt, accepted=accepted)))

    async def end(self, run_id: str = "run_1") -> EndOutput:
        """How the run ended."""
        await self.until(lambda self: bool(self.outputs[run_id]) and self.outputs[run_id][-1][1].HasField("end"))
        return self.outputs[run_id][-1][1].end

    def numbers(self, run_id: str = "run_1") -> list[int]:
        """The numbers of its outputs, in the order they came."""
        return [number for number, _ in self.outputs[run_id]]

    def text(self, run_id: str = "run_1") -> str:
        """Its text."""
        return "".join(output.text for _, output in self.outputs[run_id])

    def kinds(self, run_id: str = "run_1") -> list[str]:
        """What kinds of output it sent."""
        return [output.WhichOneof("output") or "" for _, output in self.outputs[run_id]]

    async def _read(self) -> None:
        while isinstance(request := await self._context.read(), ConnectRequest):
            self.requests.append(request)
            acks = [ack for message in request.messages if (ack := self._hear(message)) is not None]
            if acks and self.acks:
                await self.say(*acks)
            async with self._changed:
                self._changed.notify_all()

    def _hear(self, message: WorkerMessage) -> CoreMessage | None:
        match message.WhichOneof("message"):
            case "hello":
                self.hello = message.hello
            case "credit":
                self.credit += message.credit.runs
            case "accepted":
                self.accepted.append(message.accepted)
            case "decline":
                self.declined.append(message.decline)
            case "released":
                self.released.append(message.released)
            case "drain":
                self.draining = True
            case "outputs":
                said = message.outputs
                self.outputs[said.run_id].extend(enumerate(said.outputs, said.first))
                last = said.first + len(said.outputs) - 1
                return CoreMessage(ack=Ack(run_id=said.run_id, attempt=said.attempt, accepted=last))
            case _:
                raise AssertionError(f"an unexpected message: {message}")
        return None


class ScriptedCore(WorkerServiceServicer):
    """Hands each stream that a worker opens to the test."""

    def __init__(self) -> None:
        self.address = ""
        self._sessions: asyncio.Queue[Session] = asyncio.Queue()

    async def Connect(  # type: ignore[override]  # asynchronous, and it reads and writes by the context
        self, request_iterator: AsyncIterator[ConnectRequest], context: Context
    ) -> None:
        session = Session(context)
        self._sessions.put_nowait(session)
        await session.serve()

    async def session(self) -> Session:
        """The next stream, once its Hello is there. Nothing has been answered yet."""
        async with asyncio.timeout(PATIENCE):
            session = await self._sessions.get()
        await session.until(lambda session: bool(session.hello.worker_id))
        return session

    async def welcomed(self, *held: HeldAnswer, lease: float = 30.0) -> Session:
        """The next stream, after an ordinary welcome."""
        session = await self.session()
        await session.welcome(*held, lease=lease)
        return session


@asynccontextmanager
async def scripted_core(
    port: int = 0, *, options: Mapping[str, int] | None = None, runs: RunServiceServicer | None = None
) -> AsyncIterator[ScriptedCore]:
    """Run a scripted core on this port, with some gRPC options of its own, and with a run service if one is given."""
    core = ScriptedCore()
    server = grpc.aio.server(options=tuple((dict(SERVER_OPTIONS) | dict(options or {})).items()))
    add_WorkerServiceServicer_to_server(core, server)
    if runs is not None:
        add_RunServiceServicer_to_server(runs, server)
    core.address = f"127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}"
    await server.start()
    try:
        yield core
    finally:
        await server.stop(None)


def assignment(agent_id: str, text: str = "", *, data: str = "", run_id: str = "run_1", attempt: int = 1) -> Assignment:
    """A run with one message of the user: a text, or a data part."""
    part = Part(data=DataPart(value_json=data)) if data else Part(text=TextPart(text=text))
    return Assignment(
        run=Run(id=run_id, agent_id=agent_id, thread_id="thr_1", attempt=attempt),
        messages=[Message(role=Role.ROLE_USER, parts=[part])],
        new_messages=1,
    )


def finished(key: str, result_json: str = "null", *, args_hash: bytes = b"") -> Record:
    """The record of a finished step."""
    step = StepRecord(parent_key=key.rpartition("/")[0], completed=True, result_json=result_json, args_hash=args_hash)
    return Record(key=key, step=step)


def answered(key: str, answer_json: str = '{"answer":"yes"}', *, outcome: InputOutcome.ValueType = ANSWERED) -> Record:
    """The record of a settled question."""
    return Record(key=key, answer=AnswerRecord(input_id=f"inp_{key}", outcome=outcome, answer_json=answer_json))


def asked(key: str) -> Record:
    """The record of a question that is open."""
    return Record(key=key, answer=AnswerRecord(input_id=f"inp_{key}"))


def took(read: int, *texts: str) -> Record:
    """The record of a read of the inbox."""
    return Record(inbox=InboxRecord(read=read, messages=[steering(text) for text in texts]))


def steering(text: str) -> Message:
    """A message of the user; its text is its id."""
    return Message(id=text, role=Role.ROLE_USER, parts=[Part(text=TextPart(text=text))])


def held(run_id: str = "run_1", *, attempt: int = 1, accepted: int = 0, revoked: bool = False) -> HeldAnswer:
    """What a welcome says of a run that the worker holds."""
    return HeldAnswer(run_id=run_id, attempt=attempt, accepted=accepted, revoked=revoked)
