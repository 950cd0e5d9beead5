"""Runs as clients see them: create, read, list, wait, cancel."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from core_service.domain.errors import CoreDraining, NoWorker, RunNotFound, StoreFull, StoreUnavailable
from core_service.domain.grammar import Grammar
from core_service.domain.ids import new_id
from core_service.domain.pages import TimePages
from core_service.domain.run_requests import (
    check_create,
    check_request_id,
    fingerprint,
    new_messages,
    normalised_options,
)
from core_service.domain.runs import ENDED, WAITING
from core_service.engine.agents import Agents
from core_service.engine.dispatch import Dispatch
from core_service.engine.errands import Errands
from core_service.engine.executions import Executions
from core_service.engine.journal import Journal, Published
from core_service.engine.logs import Logs
from core_service.engine.metrics import Metrics
from core_service.engine.owned import OwnedRun
from core_service.engine.sessions import WorkerSession
from core_service.engine.settling import Settling
from core_service.engine.watch import WatchHub
from core_service.ports import Bus, Clock, Created, NewRun, Page, RequestKey, Ring, RunFilter, Segment, Store
from penstock.v1.message_pb2 import Message
from penstock.v1.run_pb2 import BusyPolicy, EndReason, Run, RunState
from penstock.v1.run_service_pb2 import CreateRunRequest, ListRunsRequest

MAX_WAIT_SECONDS = 600.0
_PAGES = TimePages("runs")


@dataclass(frozen=True, slots=True)
class CreateLimits:
    """Defaults and bounds of creates; times in seconds."""

    queue_timeout: float
    max_attempts: int
    max_queued_per_thread: int
    max_queued_per_agent: int


class Runs:
    """The use cases of RunService, watching aside."""

    def __init__(
        self,
        *,
        core_id: str,
        store: Store,
        journal: Journal,
        bus: Bus,
        clock: Clock,
        metrics: Metrics,
        agents: Agents,
        dispatch: Dispatch,
        executions: Executions,
        hub: WatchHub,
        logs: Logs,
        settling: Settling,
        limits: CreateLimits,
    ) -> None:
        self._core_id = core_id
        self._store = store
        self._journal = journal
        self._bus = bus
        self._clock = clock
        self._metrics = metrics
        self._agents = agents
        self._dispatch = dispatch
        self._executions = executions
        self._hub = hub
        self._logs = logs
        self._settling = settling
        self._limits = limits
        self._errands = Errands()
        self.draining = False
        self.patient_until = 0.0
        """Monotonic time until which nobody is refused for want of a worker: after a start they come back first."""

    # ── create ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def create(self, tenant: str, request: CreateRunRequest) -> Run:
        """Create a run and start it at once if a worker is free. See RunService.CreateRun for the refusals."""
        return await self._errands.run(self._create(tenant, request))

    async def _create(self, tenant: str, request: CreateRunRequest) -> Run:
        if self.draining:
            raise CoreDraining("This core shuts down; repeat with the same request_id in a moment.")
        check_create(request)
        agent = await self._agents.get(tenant, request.agent_id)
        run, messages = self._new_run(request)
        queue_timeout = self._queue_timeout(run)
        if not queue_timeout and not agent.online:
            queue_timeout = self.patient_until - self._clock.monotonic()
            if queue_timeout <= 0:
                raise NoWorker(f"No worker that runs {agent.id} is connected.", agent_id=agent.id)
        grammar = Grammar(client_tools=[tool.name for tool in run.options.tools])
        grammar.queue(run, messages, run.create_time.ToMicroseconds())
        queued = grammar.take()
        session = self._dispatch.reserve(run.agent_id)
        started = self._start(grammar, run, session) if session is not None else None
        created: Created | None = None
        try:
            created = await self._store.create_run(
                self._new(tenant, request, run, messages, queued, started, session, queue_timeout)
            )
        except (StoreUnavailable, StoreFull):
            if session is not None:
                self._dispatch.doubt(session, tenant)
            raise
        finally:
            if session is not None and (created is None or not created.started):
                session.unreserve(run.agent_id)
        if not created.repeated:
            self._metrics.created.labels(run.agent_id).inc()
            self._begin(created, tenant, grammar, messages, queued, started, session)
        return created.run

    def _new_run(self, request: CreateRunRequest) -> tuple[Run, list[Message]]:
        now = self._clock.now()
        run = Run(
            id=new_id("run"),
            agent_id=request.agent_id,
            thread_id=request.thread_id or new_id("thr"),
            state=RunState.RUN_STATE_QUEUED,
            options=normalised_options(request.options),
            metadata=request.metadata,
            origin_json=request.origin_json,
        )
        run.create_time.FromMicroseconds(now)
        return run, new_messages(request.input, run_id=run.id, now=now)

    def _queue_timeout(self, run: Run) -> float:
        if run.options.HasField("queue_timeout"):
            return run.options.queue_timeout.ToMicroseconds() / 1_000_000
        return self._limits.queue_timeout

    @staticmethod
    def _start(grammar: Grammar, run: Run, session: WorkerSession) -> bytes:
        grammar.start(1, session.versions[run.agent_id], session.worker_id, run.create_time.ToMicroseconds())
        return grammar.take()

    def _new(
        self,
        tenant: str,
        request: CreateRunRequest,
        run: Run,
        messages: Sequence[Message],
        queued: bytes,
        started: bytes | None,
        session: WorkerSession | None,
        queue_timeout: float,
    ) -> NewRun:
        now = run.create_time.ToMicroseconds()
        key = RequestKey("create", request.request_id, fingerprint(request, tenant=tenant))
        return NewRun(
            tenant=tenant,
            run=run,
            input=tuple(messages),
            queued=queued,
            started=started,
            owner=self._core_id,
            session=session.worker_id if session else None,
            request=key if request.request_id else None,
            policy=run.options.busy_policy or BusyPolicy.BUSY_POLICY_ENQUEUE,
            new_thread=not request.thread_id,
            available_time=now,
            start_by=now + round(queue_timeout * 1_000_000) if queue_timeout else None,
            max_attempts=run.options.max_attempts or self._limits.max_attempts,
            max_queued_per_thread=self._limits.max_queued_per_thread,
            max_queued_per_agent=self._limits.max_queued_per_agent,
        )

    def _begin(
        self,
        created: Created,
        tenant: str,
        grammar: Grammar,
        messages: Sequence[Message],
        queued: bytes,
        started: bytes | None,
        session: WorkerSession | None,
    ) -> None:
        run = created.run
        if created.started and started is not None and session is not None:
            news = Published(tenant, run.id, Segment(1, 2, queued + started), RunState.RUN_STATE_RUNNING)
            owned = OwnedRun(run, tenant, grammar, fence=1, stored_seq=2, stored_state=RunState.RUN_STATE_RUNNING)
            owned.max_attempts = run.options.max_attempts or self._limits.max_attempts
            self._executions.begin(owned, session, history=created.history, new=messages, state_json=created.state_json)
            self._journal.publish([news])
            self._metrics.queue_seconds.observe(0.0)
        else:
            self._journal.publish([Published(tenant, run.id, Segment(1, 1, queued), RunState.RUN_STATE_QUEUED)])
            self._bus.ring([Ring("work", run.agent_id)])

    # ── read ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def get(self, tenant: str, run_id: str) -> Run:
        """Return a run. Refuses with RunNotFound."""
        run = await self._store.get_run(tenant, run_id)
        if run is None:
            raise RunNotFound(f"There is no run {run_id[:80]!r}.", run_id=run_id[:80])
        return run

    async def snapshot(self, tenant: str, run_id: str) -> tuple[Run, list[Message]]:
        """Return a run and all its own messages, true at run.last_seq. Refuses with RunNotFound."""
        run = await self.get(tenant, run_id)
        grammar = await self._logs.grammar(run_id, up_to=run.last_seq)
        return run, grammar.messages()

    async def page(self, tenant: str, request: ListRunsRequest) -> tuple[Sequence[Run], str]:
        """Return a page of runs, newest first, and the token of the next."""
        size, after = _PAGES.read(request.page_size, request.page_token)
        which = RunFilter(
            thread_id=request.thread_id or None,
            agent_id=request.agent_id or None,
            states=tuple(request.states),
            created_since=request.created_since.ToMicroseconds() if request.HasField("created_since") else None,
            created_before=request.created_before.ToMicroseconds() if request.HasField("created_before") else None,
        )
        runs = await self._store.list_runs(tenant, which, Page(size + 1, after))
        if len(runs) <= size:
            return runs, ""
        last = runs[size - 1]
        return runs[:size], _PAGES.token(last.create_time.ToMicroseconds(), last.id)

    async def wait(self, tenant: str, run_id: str, timeout: float) -> Run:
        """Return the run once it has ended or waits for an answer, or as it is after `timeout` seconds."""
        changed = asyncio.Event()
        watcher = await self._hub.open(tenant, run_id, 0, lambda _: changed.set())
        with self._hub.closing(watcher), contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(timeout, MAX_WAIT_SECONDS)):
                while watcher.feed.state not in ENDED and watcher.feed.state != WAITING:
                    if self._hub.draining:
                        raise CoreDraining("This core shuts down; wait again in a moment.")
                    await changed.wait()
                    changed.clear()
        return await self.get(tenant, run_id)

    # ── cancel ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def cancel(self, tenant: str, run_id: str, reason: EndReason.ValueType, *, request_id: str) -> Run:
        """Ask to stop a run; an ended one is returned as it is. Refuses with RunNotFound."""
        check_request_id(request_id)
        key = RequestKey("cancel", request_id, f"{tenant}\0{run_id}\0{reason}".encode()) if request_id else None
        await self._errands.run(self._cancel(tenant, run_id, reason, key))
        return await self.get(tenant, run_id)

    async def _cancel(self, tenant: str, run_id: str, reason: EndReason.ValueType, key: RequestKey | None) -> None:
        head = await self._store.request_cancel(tenant, run_id, reason, request=key)
        if head is None:
            raise RunNotFound(f"There is no run {run_id[:80]!r}.", run_id=run_id[:80])
        await self._settling.cancel(head)
