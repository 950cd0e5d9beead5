"""Creating runs, and starting them at once when a worker is free and nobody waits before them (ENGINE.md G3, I3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from core_service.domain.errors import CoreDraining, NoWorker, StoreFull, StoreUnavailable
from core_service.domain.grammar import Grammar
from core_service.domain.ids import new_id
from core_service.domain.run_requests import check_create, fingerprint, new_messages, normalised_options
from core_service.engine.agents import Agents
from core_service.engine.dispatch import Dispatch
from core_service.engine.errands import Errands
from core_service.engine.executions import Executions
from core_service.engine.journal import Journal, Published
from core_service.engine.metrics import Metrics
from core_service.engine.owned import OwnedRun
from core_service.engine.sessions import WorkerSession
from core_service.ports import Bus, Clock, Created, NewRun, RequestKey, Ring, Segment, Store
from penstock.v1.message_pb2 import Message
from penstock.v1.run_pb2 import BusyPolicy, Run, RunState
from penstock.v1.run_service_pb2 import CreateRunRequest

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CreateLimits:
    """Defaults and bounds of creates; times in seconds."""

    queue_timeout: float
    max_attempts: int
    max_queued_per_thread: int
    max_queued_per_agent: int


@dataclass(frozen=True, slots=True)
class _Draft:
    """A run on its way to the store."""

    tenant: str
    run: Run
    messages: Sequence[Message]
    queue_timeout: float
    """Seconds; 0: none."""
    grammar: Grammar
    queued: bytes
    started: bytes | None
    """Set when `session` is: a worker's credit is reserved for it."""
    session: WorkerSession | None


class Creates:
    """The use case of CreateRun."""

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
        self._limits = limits
        self._errands = Errands()
        self.draining = False
        self.patient_until = 0.0
        """Monotonic time until which nobody is refused for want of a worker: after a start they come back first."""

    async def create(self, tenant: str, request: CreateRunRequest) -> Run:
        """Create a run and start it at once if a worker is free. See RunService.CreateRun for the refusals."""
        return await self._errands.run(self._create(tenant, request))

    async def _create(self, tenant: str, request: CreateRunRequest) -> Run:
        if self.draining:
            raise CoreDraining("This core shuts down; repeat with the same request_id in a moment.")
        check_create(request)
        agent = await self._agents.get(tenant, request.agent_id)
        draft = self._draft(tenant, request, online=agent.online)
        created = await self._store_draft(draft, request)
        if not created.repeated:
            self._metrics.created.labels(draft.run.agent_id).inc()
            log.debug("run created", run_id=created.run.id, agent_id=created.run.agent_id, started=created.started)
            self._begin(draft, created)
        return created.run

    def _draft(self, tenant: str, request: CreateRunRequest, *, online: bool) -> _Draft:
        run = self._new_run(request)
        now = run.create_time.ToMicroseconds()
        messages = new_messages(request.input, run_id=run.id, now=now)
        queue_timeout = self._queue_timeout(run, online=online)
        grammar = Grammar(client_tools=[tool.name for tool in run.options.tools])
        grammar.queue(run, messages, now)
        queued, started = grammar.take(), None
        session = self._dispatch.reserve(run.agent_id)
        if session is not None:
            grammar.start(1, session.versions[run.agent_id], session.worker_id, now)
            started = grammar.take()
        return _Draft(tenant, run, messages, queue_timeout, grammar, queued, started, session)

    def _new_run(self, request: CreateRunRequest) -> Run:
        run = Run(
            id=new_id("run"),
            agent_id=request.agent_id,
            thread_id=request.thread_id or new_id("thr"),
            state=RunState.RUN_STATE_QUEUED,
            options=normalised_options(request.options),
            metadata=request.metadata,
            origin_json=request.origin_json,
        )
        run.create_time.FromMicroseconds(self._clock.now())
        return run

    def _queue_timeout(self, run: Run, *, online: bool) -> float:
        """Return how long the run may wait. Refuses with NoWorker when it may not, and nobody is there."""
        timeout = self._limits.queue_timeout
        if run.options.HasField("queue_timeout"):
            timeout = run.options.queue_timeout.ToMicroseconds() / 1_000_000
        if timeout or online:
            return timeout
        patience = self.patient_until - self._clock.monotonic()
        if patience <= 0:
            raise NoWorker(f"No worker that runs {run.agent_id} is connected.", agent_id=run.agent_id)
        return patience

    async def _store_draft(self, draft: _Draft, request: CreateRunRequest) -> Created:
        """Store the run. The credit that was reserved for it comes back unless the run was started."""
        session, created = draft.session, None
        try:
            created = await self._store.create_run(self._new(draft, request))
        except (StoreUnavailable, StoreFull):
            if session is not None:
                self._dispatch.doubt(session, draft.tenant)
            raise
        finally:
            if session is not None and (created is None or not created.started):
                session.unreserve(draft.run.agent_id)
        return created

    def _new(self, draft: _Draft, request: CreateRunRequest) -> NewRun:
        run = draft.run
        now = run.create_time.ToMicroseconds()
        key = None
        if request.request_id:
            key = RequestKey("create", request.request_id, fingerprint(request, tenant=draft.tenant))
        return NewRun(
            tenant=draft.tenant,
            run=run,
            input=tuple(draft.messages),
            queued=draft.queued,
            started=draft.started,
            owner=self._core_id,
            session=draft.session.worker_id if draft.session else None,
            request=key,
            policy=run.options.busy_policy or BusyPolicy.BUSY_POLICY_ENQUEUE,
            new_thread=not request.thread_id,
            available_time=now,
            start_by=now + round(draft.queue_timeout * 1_000_000) if draft.queue_timeout else None,
            max_attempts=self._max_attempts(run),
            max_queued_per_thread=self._limits.max_queued_per_thread,
            max_queued_per_agent=self._limits.max_queued_per_agent,
        )

    def _max_attempts(self, run: Run) -> int:
        return run.options.max_attempts or self._limits.max_attempts

    def _begin(self, draft: _Draft, created: Created) -> None:
        """Hand a started run to its worker; tell everybody of one that waits."""
        run, tenant = created.run, draft.tenant
        if not created.started or draft.started is None or draft.session is None:
            queued = Segment(1, 1, draft.queued)
            self._journal.publish([Published(tenant, run.id, queued, RunState.RUN_STATE_QUEUED)])
            self._bus.ring([Ring("work", run.agent_id)])
            return
        draft.grammar.inherit(created.state_json, created.state_version)
        owned = OwnedRun(
            run,
            tenant,
            draft.grammar,
            fence=1,
            stored_seq=2,
            stored_state=RunState.RUN_STATE_RUNNING,
            max_attempts=self._max_attempts(run),
            state_version=created.state_version,
        )
        self._executions.begin(
            owned, draft.session, history=created.history, new=draft.messages, state_json=created.state_json
        )
        started = Segment(1, 2, draft.queued + draft.started)
        self._journal.publish([Published(tenant, run.id, started, RunState.RUN_STATE_RUNNING)])
        self._metrics.queue_seconds.observe(0.0)
