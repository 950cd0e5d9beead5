"""A peer that speaks the contract on a real port: the core as the edge sees it, with logs that tests write by hand.

It keeps what the edge relies on: contiguous parts of at most 64 KiB per watch, `caught_up` and `ended`, refusals with
one ErrorInfo, creates that are idempotent by request id. What it refuses or withholds is scripted.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import grpc
from grpc_health.v1 import health
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

from penstock.grpc_options import SERVER_OPTIONS
from penstock.v1.agent_service_pb2_grpc import add_AgentServiceServicer_to_server
from penstock.v1.event_pb2 import Event
from penstock.v1.message_pb2 import Message
from penstock.v1.retention_service_pb2_grpc import add_RetentionServiceServicer_to_server
from penstock.v1.run_pb2 import Input, Run, RunState
from penstock.v1.run_service_pb2 import (
    CancelRunRequest,
    CancelRunResponse,
    CancelRunsRequest,
    CancelRunsResponse,
    CreateRunRequest,
    CreateRunResponse,
    DeleteRunRequest,
    DeleteRunResponse,
    GetRunRequest,
    GetRunResponse,
    ListEventsRequest,
    ListEventsResponse,
    ListInputsRequest,
    ListInputsResponse,
    ListRunsRequest,
    ListRunsResponse,
    RunView,
    SteerRunRequest,
    SteerRunResponse,
    SubmitInputRequest,
    SubmitInputResponse,
    WaitRunRequest,
    WaitRunResponse,
    WatchCreate,
    WatchError,
    WatchManyRequest,
    WatchManyResponse,
    WatchRunResponse,
    WatchStart,
)
from penstock.v1.run_service_pb2_grpc import RunServiceServicer, add_RunServiceServicer_to_server
from penstock.v1.schedule_service_pb2_grpc import add_ScheduleServiceServicer_to_server
from penstock.v1.system_service_pb2_grpc import add_SystemServiceServicer_to_server
from penstock.v1.thread_service_pb2_grpc import add_ThreadServiceServicer_to_server
from tests.edge.scripted_calls import SAID, Context, Refuse, ScriptedCalls, refuse
from tests.edge.scripted_operations import Retention, Schedules
from tests.edge.scripted_services import Agents, System
from tests.edge.scripted_threads import Threads, ThreadScript

__all__ = ["Context", "Log", "Refuse", "ScriptedCore"]

PART_BYTES = 64 << 10
MESSAGE_BYTES = 1 << 20
ENDS = {RunState.RUN_STATE_SUCCEEDED, RunState.RUN_STATE_FAILED, RunState.RUN_STATE_CANCELLED}


@dataclass(slots=True)
class Log:
    """A run and its events, each as a record of a segment."""

    run: Run
    records: list[bytes] = field(default_factory=list)
    messages: list[Message] | None = None
    """What `GetRun` with everything and `WaitRun` show."""

    def append(self, *events: Event) -> None:
        for event in events:
            self.records.append(WatchRunResponse(events=[event]).SerializeToString())
            self.run.last_seq = event.seq
            match event.WhichOneof("payload"):
                case "run_waiting":
                    self.run.state = RunState.RUN_STATE_WAITING
                    del self.run.inputs[:]
                    self.run.inputs.extend(event.run_waiting.inputs)
                case "run_resumed":
                    self.run.state = RunState.RUN_STATE_RUNNING
                    self.run.leg = event.run_resumed.leg
                    del self.run.inputs[:]
                case "run_ended":
                    self.run.state = event.run_ended.state
                    self.run.reason = event.run_ended.reason
                case _:
                    pass

    @property
    def has_ended(self) -> bool:
        return self.run.state in ENDS


@dataclass(slots=True)
class Cursor:
    """Where a watch stands."""

    run_id: str
    after: int
    was_caught_up: bool = False
    created: CreateRunResponse | None = None
    """To be told with the next part."""
    refusal: Refuse | None = None
    """Of its create."""


class ScriptedCore(ScriptedCalls):
    """The logs and the script. They outlive a restart of the server, as a database does."""

    def __init__(self) -> None:
        super().__init__()
        self.logs: dict[str, Log] = {}
        self.thread = ThreadScript()
        self.created: dict[str, tuple[bytes, str]] = {}
        self.answered: dict[str, int] = {}
        """The leg that answers began, by request id."""
        self.inbox: list[Input] = []
        """The questions that it lists."""
        self.goes_on: list[Event] = []
        """What a log goes on with once its run is answered."""
        self.starts: list[WatchStart] = []
        """Watches that were asked for, in order; those that created their run, once it was created."""
        self.stops: list[int] = []
        """Watches that were stopped, in order."""
        self.watch_messages: list[int] = []
        """Bytes of the messages that edges sent on watch streams, in order."""
        self.watch_streams = 0
        """WatchMany streams that were opened."""
        self.sent: Counter[str] = Counter()
        """Bytes of events sent, by run."""
        self.threads = Threads(self, self.thread)
        """What it knows of threads."""
        self.said = [SAID]
        """The messages of runs that have no others."""
        self.steers = False
        """Input goes to the active run of the thread."""
        self.is_mute = False
        """Watch streams say nothing at all."""
        self.port = 0
        self._server: grpc.aio.Server | None = None
        self.bells: set[asyncio.Event] = set()
        self.changed = asyncio.Event()

    def messages_of(self, log: Log) -> list[Message]:
        """What was said in a run."""
        return self.said if log.messages is None else log.messages

    async def start(self) -> None:
        self._server = grpc.aio.server(options=SERVER_OPTIONS)
        self.health = health.aio.HealthServicer()
        await self.health.set("", HealthCheckResponse.SERVING)
        add_HealthServicer_to_server(self.health, self._server)
        add_RunServiceServicer_to_server(Runs(self), self._server)
        add_AgentServiceServicer_to_server(Agents(self), self._server)
        add_ThreadServiceServicer_to_server(self.threads, self._server)
        add_SystemServiceServicer_to_server(System(), self._server)
        add_ScheduleServiceServicer_to_server(Schedules(self), self._server)
        add_RetentionServiceServicer_to_server(Retention(self), self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        """Cut everything off, as a kill does."""
        assert self._server is not None
        await self._server.stop(None)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def log(self, run_id: str = "run_1") -> Log:
        """Return the log of a run, new at first sight."""
        if run_id not in self.logs:
            run = Run(id=run_id, agent_id="echo", thread_id="thr_1", state=RunState.RUN_STATE_RUNNING)
            self.logs[run_id] = Log(run)
        return self.logs[run_id]

    def append(self, *events: Event, run_id: str = "run_1") -> None:
        """Commit events and wake the watchers."""
        self.log(run_id).append(*events)
        self.ring()

    def ring(self) -> None:
        for bell in self.bells:
            bell.set()
        self.changed.set()

    async def until_watched(self, *, starts: int = 0, stops: int = 0) -> None:
        """Return once so many watches were asked for, and so many stopped."""
        while len(self.starts) < starts or len(self.stops) < stops:
            self.changed.clear()
            await self.changed.wait()

    def create(self, request: CreateRunRequest) -> Run | Refuse:
        """Create a run, or find the one that this request made."""
        if request.agent_id == "nobody":
            return Refuse(grpc.StatusCode.NOT_FOUND, "AGENT_NOT_FOUND")
        body = CreateRunRequest()
        body.CopyFrom(request)
        body.request_id = ""
        fingerprint = body.SerializeToString(deterministic=True)
        known, run_id = self.created.setdefault(request.request_id, (fingerprint, f"run_{len(self.created) + 1}"))
        if known != fingerprint:
            return Refuse(grpc.StatusCode.ALREADY_EXISTS, "IDEMPOTENCY_MISMATCH")
        return self.log(run_id).run


NO_RUN = Refuse(grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND")


class Runs(RunServiceServicer):
    """RunService over the scripted logs."""

    def __init__(self, core: ScriptedCore) -> None:
        self._core = core

    async def CreateRun(self, request: CreateRunRequest, context: Context) -> CreateRunResponse:
        await self._core.note("CreateRun", request, context)
        run = self._core.create(request)
        if isinstance(run, Refuse):
            await refuse(context, run)
            raise AssertionError
        return CreateRunResponse(run=run, steered=self._core.steers)

    async def GetRun(self, request: GetRunRequest, context: Context) -> GetRunResponse:
        await self._core.note("GetRun", request, context)
        log = await self._find(request.run_id, context)
        said = self._core.messages_of(log) if request.view == RunView.RUN_VIEW_FULL else []
        return GetRunResponse(run=log.run, messages=said)

    async def ListRuns(self, request: ListRunsRequest, context: Context) -> ListRunsResponse:
        await self._core.note("ListRuns", request, context)
        runs = [
            log.run
            for log in reversed(self._core.logs.values())
            if (not log.run.thread_id or request.thread_id in ("", log.run.thread_id))
            and (not request.states or log.run.state in request.states)
        ]
        return ListRunsResponse(runs=runs[: request.page_size or None], next_page_token="more")

    async def WaitRun(self, request: WaitRunRequest, context: Context) -> WaitRunResponse:
        await self._core.note("WaitRun", request, context)
        log = await self._find(request.run_id, context)
        bell = asyncio.Event()
        self._core.bells.add(bell)
        try:
            async with asyncio.timeout(request.timeout.ToNanoseconds() / 1e9):
                while not log.has_ended:
                    bell.clear()
                    await bell.wait()
        except TimeoutError:
            pass
        finally:
            self._core.bells.discard(bell)
        return WaitRunResponse(run=log.run, messages=self._core.messages_of(log))

    async def CancelRun(self, request: CancelRunRequest, context: Context) -> CancelRunResponse:
        await self._core.note("CancelRun", request, context)
        log = await self._find(request.run_id, context)
        log.run.cancel_requested = not log.has_ended
        return CancelRunResponse(run=log.run)

    async def CancelRuns(self, request: CancelRunsRequest, context: Context) -> CancelRunsResponse:
        await self._core.note("CancelRuns", request, context)
        return CancelRunsResponse(run_ids=[run_id for run_id, log in self._core.logs.items() if not log.has_ended])

    async def DeleteRun(self, request: DeleteRunRequest, context: Context) -> DeleteRunResponse:
        await self._core.note("DeleteRun", request, context)
        await self._find(request.run_id, context)
        del self._core.logs[request.run_id]
        return DeleteRunResponse()

    async def SubmitInput(self, request: SubmitInputRequest, context: Context) -> SubmitInputResponse:
        await self._core.note("SubmitInput", request, context)
        log = await self._find(request.run_id, context)
        if request.request_id not in self._core.answered:
            log.run.leg += 1
            log.run.state = RunState.RUN_STATE_RUNNING
            self._core.answered[request.request_id] = log.run.leg
            self._core.append(*self._core.goes_on, run_id=request.run_id)
        run = Run()
        run.CopyFrom(log.run)
        run.leg = self._core.answered[request.request_id]
        return SubmitInputResponse(run=run)

    async def ListInputs(self, request: ListInputsRequest, context: Context) -> ListInputsResponse:
        await self._core.note("ListInputs", request, context)
        return ListInputsResponse(inputs=self._core.inbox, next_page_token="more")

    async def SteerRun(self, request: SteerRunRequest, context: Context) -> SteerRunResponse:
        await self._core.note("SteerRun", request, context)
        log = await self._find(request.run_id, context)
        message = Message()
        message.CopyFrom(request.message)
        message.id = "msg_7"
        return SteerRunResponse(run=log.run, message=message)

    async def ListEvents(self, request: ListEventsRequest, context: Context) -> ListEventsResponse:
        await self._core.note("ListEvents", request, context)
        log = await self._find(request.run_id, context)
        records = log.records[request.after_seq : request.after_seq + (request.page_size or 1000)]
        events = WatchRunResponse.FromString(b"".join(records)).events
        return ListEventsResponse(events=events, head_seq=log.run.last_seq)

    async def WatchMany(
        self,
        requests: AsyncIterator[WatchManyRequest],
        context: Context,
    ) -> AsyncIterator[WatchManyResponse]:
        bell = asyncio.Event()
        self._core.watch_streams += 1
        self._core.bells.add(bell)
        cursors: dict[int, Cursor] = {}
        reader = asyncio.create_task(self._read(requests, cursors, bell))
        try:
            while True:
                bell.clear()
                response = WatchManyResponse()
                for watch_id in list(cursors):
                    if response.ByteSize() < MESSAGE_BYTES:
                        self._add_part(response, watch_id, cursors)
                if response.parts and not self._core.is_mute:
                    yield response
                else:
                    await bell.wait()
        finally:
            reader.cancel()
            self._core.bells.discard(bell)

    async def _read(
        self,
        requests: AsyncIterator[WatchManyRequest],
        cursors: dict[int, Cursor],
        bell: asyncio.Event,
    ) -> None:
        async with asyncio.TaskGroup() as creates:
            async for request in requests:
                self._core.watch_messages.append(request.ByteSize())
                for action in request.actions:
                    match action.WhichOneof("action"):
                        case "start":
                            start = action.start
                            self._core.starts.append(start)
                            cursors[start.watch_id] = Cursor(start.run_id, start.after_seq)
                        case "create":
                            creates.create_task(self._create(action.create, cursors))
                        case _:
                            cursors.pop(action.stop.watch_id, None)
                            self._core.stops.append(action.stop.watch_id)
                self._core.changed.set()
                bell.set()

    async def _create(self, create: WatchCreate, cursors: dict[int, Cursor]) -> None:
        refusal = await self._core.hear("CreateRun", create.create, create.caller)
        run = refusal or self._core.create(create.create)
        if create.watch_id in self._core.stops:
            return
        if isinstance(run, Refuse):
            cursors[create.watch_id] = Cursor("", 0, refusal=run)
        else:
            self._core.starts.append(WatchStart(watch_id=create.watch_id, run_id=run.id))
            cursors[create.watch_id] = Cursor(run.id, 0, created=CreateRunResponse(run=run))
        self._core.ring()

    def _add_part(self, response: WatchManyResponse, watch_id: int, cursors: dict[int, Cursor]) -> None:
        cursor = cursors[watch_id]
        error = self._refusal(cursor)
        if error is not None:
            del cursors[watch_id]
            response.parts.add(watch_id=watch_id, error=error)
            return
        log, data = self._core.logs[cursor.run_id], b""
        while cursor.after < len(log.records) and len(data) < PART_BYTES:
            data += log.records[cursor.after]
            cursor.after += 1
        is_caught_up = cursor.after == len(log.records)
        if not data and cursor.was_caught_up:
            return
        part = response.parts.add(
            watch_id=watch_id, events=data, last_seq=cursor.after if data else 0, created=cursor.created
        )
        cursor.created = None
        part.caught_up = is_caught_up and not cursor.was_caught_up
        part.ended = is_caught_up and log.has_ended
        cursor.was_caught_up |= is_caught_up
        self._core.sent[cursor.run_id] += len(data)
        if part.ended:
            del cursors[watch_id]

    def _refusal(self, cursor: Cursor) -> WatchError | None:
        scripted = cursor.refusal
        if self._core.script.get("WatchMany"):
            scripted = self._core.script["WatchMany"].pop(0)
        if scripted is not None:
            return WatchError(
                code=scripted.code.value[0],
                reason=scripted.reason,
                message="scripted",
                metadata=scripted.metadata,
            )
        if cursor.run_id not in self._core.logs:
            return WatchError(code=grpc.StatusCode.NOT_FOUND.value[0], reason="RUN_NOT_FOUND", message="no run")
        last_seq = self._core.logs[cursor.run_id].run.last_seq
        if cursor.after > last_seq:
            return WatchError(
                code=grpc.StatusCode.OUT_OF_RANGE.value[0],
                reason="CURSOR_AHEAD",
                message="ahead",
                metadata={"last_seq": str(last_seq)},
            )
        return None

    async def _find(self, run_id: str, context: Context) -> Log:
        if run_id not in self._core.logs:
            await refuse(context, NO_RUN)
        return self._core.logs[run_id]
