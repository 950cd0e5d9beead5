"""A real core in the test's loop, with its store behind gates, and real clients of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import grpc
from grpc_health.v1 import health, health_pb2

from core_service.app import Core, serving
from core_service.ports import Clock, Store
from penstock.grpc_options import CHANNEL_OPTIONS
from penstock.v1.agent_pb2 import Agent
from penstock.v1.agent_service_pb2_grpc import AgentServiceStub
from penstock.v1.event_pb2 import Event
from penstock.v1.message_pb2 import Message, Part, Role, TextPart
from penstock.v1.retention_service_pb2_grpc import RetentionServiceStub
from penstock.v1.run_pb2 import EndReason, Input, InputAnswer, Run, RunOptions, RunState
from penstock.v1.run_service_pb2 import (
    CancelRunRequest,
    CreateRunRequest,
    GetRunRequest,
    GetRunResponse,
    InputState,
    ListEventsRequest,
    ListInputsRequest,
    RunView,
    SteerRunRequest,
    SteerRunResponse,
    StreamRunRequest,
    SubmitInputRequest,
    WaitRunRequest,
    WatchRunRequest,
)
from penstock.v1.run_service_pb2_grpc import RunServiceStub
from penstock.v1.schedule_service_pb2_grpc import ScheduleServiceStub
from penstock.v1.system_service_pb2 import GetStatusRequest, GetStatusResponse
from penstock.v1.system_service_pb2_grpc import SystemServiceStub
from penstock.v1.thread_service_pb2_grpc import ThreadServiceStub
from tests.core import logs
from tests.core.faults import WAIT, GatedStore
from tests.core.logs import Sighting
from tests.core.places import Place, StoredRun
from tests.core.scripted_worker import Job, ScriptedWorker, agent
from tests.core.waits import until
from tests.core.watches import ManyWatches, Watch

if TYPE_CHECKING:  # the stubs for grpc.aio have types of their own, and no code
    from penstock.v1.agent_service_pb2_grpc import AgentServiceAsyncStub
    from penstock.v1.retention_service_pb2_grpc import RetentionServiceAsyncStub
    from penstock.v1.run_service_pb2_grpc import RunServiceAsyncStub
    from penstock.v1.schedule_service_pb2_grpc import ScheduleServiceAsyncStub
    from penstock.v1.system_service_pb2_grpc import SystemServiceAsyncStub
    from penstock.v1.thread_service_pb2_grpc import ThreadServiceAsyncStub

AGENT = "echo"


class Cancellable(Protocol):
    """A call that a client can go away from."""

    def cancel(self) -> None: ...


class RunningCore:
    """One core after the other at one place. Stubs are those of the core that runs now."""

    core: Core
    store: GatedStore
    channel: grpc.aio.Channel
    runs: RunServiceAsyncStub
    threads: ThreadServiceAsyncStub
    agents: AgentServiceAsyncStub
    system: SystemServiceAsyncStub
    schedules: ScheduleServiceAsyncStub
    retention: RetentionServiceAsyncStub

    def __init__(self, place: Place, *, clock: Clock | None = None, **settings: object) -> None:
        self.place = place
        self.clock = clock
        self.settings = settings
        self.sightings: list[Sighting] = []
        self.workers: list[ScriptedWorker] = []
        self._channels: list[grpc.aio.Channel] = []
        self.watches: list[Cancellable] = []
        self._task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()

    # ── start and stop ───────────────────────────────────────────────────────────────────────────────────────────────

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, and read everything back."""
        await self.hang_up()
        await self.stop()
        if error is None:
            self.check()

    async def start(self, **changes: object) -> None:
        """Start a core; `changes` of its settings stay."""
        self.settings |= changes
        self._stop = asyncio.Event()
        started: asyncio.Future[Core] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._serve(started))
        self._task.add_done_callback(lambda _: started.done() or started.cancel())
        async with asyncio.timeout(WAIT):
            try:
                self.core = await started
            except asyncio.CancelledError:
                await self._task  # tells why there is none
                raise
        self.connect()

    def connect(self) -> None:
        """Dial the core that runs now."""
        self.channel = grpc.aio.insecure_channel(self.core.address, options=CHANNEL_OPTIONS)
        self._channels.append(self.channel)
        self.runs = RunServiceStub(self.channel)
        self.threads = ThreadServiceStub(self.channel)
        self.agents = AgentServiceStub(self.channel)
        self.system = SystemServiceStub(self.channel)
        self.schedules = ScheduleServiceStub(self.channel)
        self.retention = RetentionServiceStub(self.channel)

    async def drain(self) -> None:
        """Stop the core; its clients are still there, and may read how their calls ended."""
        if self._task is None:
            return
        self._stop.set()
        task, self._task = self._task, None
        async with asyncio.timeout(WAIT):
            await task

    async def stop(self) -> None:
        """Stop the core and its clients."""
        await self.drain()
        for channel in self._channels:
            await channel.close()
        self._channels.clear()

    async def hang_up(self) -> None:
        """Break all streams of workers and watchers, so that nobody has to be waited for."""
        for watch in self.watches:
            watch.cancel()
        for worker in self.workers:
            await worker.cut()

    async def crash(self) -> None:
        """Stop as a kill would, as far as the database can tell: nothing of what is under way gets there."""
        self.store.die()
        await self.hang_up()
        await self.stop()

    async def restart(self, **changes: object) -> None:
        """Drain, and start again."""
        await self.stop()
        await self.start(**changes)

    async def _serve(self, started: asyncio.Future[Core]) -> None:
        settings = self.place.settings(**self.settings)
        async with serving(settings, clock=self.clock, wrap_store=self._wrap) as core:
            started.set_result(core)
            await self._stop.wait()

    def _wrap(self, store: Store) -> Any:
        self.store = GatedStore(store)
        return self.store

    # ── workers ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def worker(self, *agents: Agent, worker_id: str = "") -> ScriptedWorker:
        """A worker that has not connected yet."""
        worker = ScriptedWorker(self.channel, agents=agents or (agent(AGENT),), worker_id=worker_id)
        self.workers.append(worker)
        return worker

    async def connected_worker(self, *agents: Agent, credit: int = 1, worker_id: str = "") -> ScriptedWorker:
        """A worker that has said Hello and can take runs."""
        worker = self.worker(*agents, worker_id=worker_id)
        await worker.connect(credit=credit)
        return worker

    async def started(self, worker: ScriptedWorker, text: str = "hello", **fields: Any) -> Job:
        """A run that this worker has accepted."""
        run = await self.create(text, **fields)
        job = await worker.take()
        assert job.run_id == run.id
        return job

    # ── runs ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def create(self, text: str = "hello", **fields: Any) -> Run:
        """Create a run."""
        response = await self.runs.CreateRun(create_request(text, **fields), timeout=WAIT)
        return response.run

    async def get(self, run_id: str) -> Run:
        """The run as it is now."""
        return (await self.runs.GetRun(GetRunRequest(run_id=run_id), timeout=WAIT)).run

    async def snapshot(self, run_id: str) -> GetRunResponse:
        """The run and what was said so far."""
        return await self.runs.GetRun(GetRunRequest(run_id=run_id, view=RunView.RUN_VIEW_FULL), timeout=WAIT)

    async def ended(self, run_id: str) -> Run:
        """The run, once it has ended."""
        request = WaitRunRequest(run_id=run_id)
        request.timeout.FromSeconds(round(WAIT))
        run = (await self.runs.WaitRun(request, timeout=2 * WAIT)).run
        assert run.reason, f"{run.id} has not ended"
        return run

    async def reaches(self, run_id: str, state: RunState.ValueType) -> Run:
        """The run, once it is in a state."""
        await until(lambda: self._is_in(run_id, state))
        return await self.get(run_id)

    async def _is_in(self, run_id: str, state: RunState.ValueType) -> bool:
        return (await self.get(run_id)).state == state

    async def cancel(
        self, run_id: str, reason: EndReason.ValueType = EndReason.END_REASON_UNSPECIFIED, request_id: str = ""
    ) -> Run:
        """Ask to stop a run."""
        request = CancelRunRequest(run_id=run_id, reason=reason, request_id=request_id)
        return (await self.runs.CancelRun(request, timeout=WAIT)).run

    async def answer(self, run_id: str, *answers: InputAnswer, **fields: Any) -> Run:
        """Answer questions of a run."""
        request = SubmitInputRequest(run_id=run_id, answers=answers, **fields)
        return (await self.runs.SubmitInput(request, timeout=WAIT)).run

    async def steer(self, run_id: str, text: str, **fields: Any) -> SteerRunResponse:
        """Hand a message to a run."""
        request = SteerRunRequest(run_id=run_id, message=user_message(text), **fields)
        return await self.runs.SteerRun(request, timeout=WAIT)

    async def inputs(self, state: InputState.ValueType = InputState.INPUT_STATE_OPEN, **filters: Any) -> list[Input]:
        """The inbox."""
        return list((await self.runs.ListInputs(ListInputsRequest(state=state, **filters), timeout=WAIT)).inputs)

    async def events(self, run_id: str) -> list[Event]:
        """All events, by ListEvents."""
        found: list[Event] = []
        while True:
            request = ListEventsRequest(run_id=run_id, after_seq=len(found))
            page = await self.runs.ListEvents(request, timeout=WAIT)
            found.extend(page.events)
            if len(found) == page.head_seq:
                return found

    # ── watches ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def watch(self, run_id: str, after: int = 0) -> Watch:
        """Watch a run. What is seen is checked at the end of the test."""
        sighting = Sighting(run_id, after)
        watch = Watch(self.runs.WatchRun(WatchRunRequest(run_id=run_id, after_seq=after)), sighting)
        self.sightings.append(sighting)
        self.watches.append(watch)
        return watch

    def stream(self, text: str = "hello", **fields: Any) -> Watch:
        """Create a run and watch it; whose events these are is known from the first message on."""
        call = self.runs.StreamRun(StreamRunRequest(create=create_request(text, **fields)))
        watch = Watch(call, Sighting("", 0))
        self.watches.append(watch)
        self.sightings.append(watch.seen)
        return watch

    def watch_many(self) -> ManyWatches:
        """Many watches on one stream. What is seen is checked at the end of the test."""
        watches = ManyWatches(self.runs, self.sightings)
        self.watches.append(watches)
        return watches

    # ── what is true ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def status(self) -> GetStatusResponse:
        """What the core says of itself."""
        return await self.system.GetStatus(GetStatusRequest(), timeout=WAIT)

    async def health(self, service: str = "") -> str:
        """What the standard health service says of a service."""
        check = self.channel.unary_unary(
            f"/{health.SERVICE_NAME}/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        answer = await check(health_pb2.HealthCheckRequest(service=service), timeout=WAIT)
        return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)

    async def until_workers(self, count: int) -> None:
        """Wait until the core knows of so many connected workers."""

        async def known() -> bool:
            return len((await self.status()).workers) == count

        await until(known)

    async def until_watches(self, count: int) -> None:
        """Wait until so many watches are open."""

        async def known() -> bool:
            return (await self.status()).watches == count

        await until(known)

    async def until(self, is_true: Callable[[], bool]) -> None:
        """Wait until something is true that only the loop can bring about."""

        async def seen() -> bool:
            return is_true()

        await until(seen)

    def check(self) -> dict[str, StoredRun]:
        """Hold what is stored against the promises and against what was seen. Returns what is stored."""
        return logs.check(self.place, self.sightings)


def create_request(
    text: str = "hello", *, agent_id: str = AGENT, options: RunOptions | None = None, **fields: Any
) -> CreateRunRequest:
    """A request with one user message."""
    return CreateRunRequest(agent_id=agent_id, input=[user_message(text)], options=options, **fields)


def user_message(text: str) -> Message:
    """One user message of one text part."""
    return Message(role=Role.ROLE_USER, parts=[Part(text=TextPart(text=text))])


def texts(found: Sequence[Message]) -> list[str]:
    """The text of each message."""
    return ["".join(part.text.text for part in message.parts) for message in found]
