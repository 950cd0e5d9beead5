"""Creating runs, and starting them at once when a worker is free and nobody waits before them (ENGINE.md G3, I3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from core_service.domain.errors import CoreDraining, NoWorker, StoreFull, StoreUnavailable
from core_service.domain.grammar import Grammar
from core_service.domain.ids import new_id
from core_service.domain.json_text import compact
from core_service.domain.run_requests import check_create, fingerprint, is_delayed, new_messages, normalised_options
from core_service.domain.runs import QUEUED, RUNNING
from core_service.engine.agents import Agents
from core_service.engine.dispatch import Dispatch
from core_service.engine.errands import Errands
from core_service.engine.executions import Executions
from core_service.engine.journal import Journal, Published
from core_service.engine.metrics import Metrics
from core_service.engine.owned import OwnedRun
from core_service.engine.sessions import WorkerSession
from core_service.engine.settling import Settling
from core_service.engine.webhooks import Webhooks
from core_service.ports import Bus, Clock, Created, DueTime, FollowUp, NewRun, RequestKey, Ring, Segment, Store
from penstock.v1.message_pb2 import Message
from penstock.v1.run_pb2 import BusyPolicy, DisconnectPolicy, Run, RunOptions
from penstock.v1.run_service_pb2 import CreateRunRequest, CreateRunResponse

log = structlog.get_logger(__name__)

ENQUEUE = BusyPolicy.BUSY_POLICY_ENQUEUE
CANCEL = DisconnectPolicy.DISCONNECT_POLICY_CANCEL


@dataclass(frozen=True, slots=True)
class CreateLimits:
    """Defaults and bounds of creates; times in seconds."""

    queue_timeout: float
    max_attempts: int
    max_queued_per_thread: int
    max_queued_per_agent: int
    disconnect_grace: float
    max_depth: int


@dataclass(frozen=True, slots=True)
class _Cause:
    """What makes a run, when it is more than the wish of a client."""

    follow_up_of: str = ""
    due: DueTime | None = None


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
        settling: Settling,
        limits: CreateLimits,
        webhooks: Webhooks,
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
        self._settling = settling
        self._limits = limits
        self._webhooks = webhooks
        self._errands = Errands()
        self.draining = False
        self.patient_until = 0.0
        """Monotonic time until which nobody is refused for want of a worker: after a start they come back first."""

    async def create(self, tenant: str, request: CreateRunRequest, *, due: DueTime | None = None) -> CreateRunResponse:
        """Create a run and start it at once if a worker is free. See RunService.CreateRun for the refusals.

        With `due` it is the run of a schedule, which goes on to its next time with it. Raises DueTimePassed.
        """
        await self._webhooks.check(request.options.webhook_url)
        return await self._errands.run(self._create(tenant, request, _Cause(due=due)))

    async def follow_up(self, follow_up: FollowUp) -> Run:
        """Create the run that takes over what nobody read before the end of another one. A repeat makes one run."""
        ended = follow_up.run
        request = CreateRunRequest(
            request_id=ended.id,
            agent_id=ended.agent_id,
            thread_id=ended.thread_id,
            input=follow_up.messages,
            options=ended.options,
            metadata=ended.metadata,
            origin_json=ended.origin_json,
        )
        request.options.ClearField("start_time")
        request.options.busy_policy = ENQUEUE
        return (await self._errands.run(self._create(follow_up.tenant, request, _Cause(ended.id)))).run

    async def _create(self, tenant: str, request: CreateRunRequest, cause: _Cause) -> CreateRunResponse:
        if self.draining:
            raise CoreDraining("This core shuts down; repeat with the same request_id in a moment.")
        check_create(request)
        online = await self._agents.is_online(tenant, request.agent_id)
        depth = await self._depth(tenant, request.parent_run_id)
        draft = self._draft(tenant, request, online=online, depth=depth)
        created = await self._store_draft(draft, request, cause)
        if created.steered is not None:
            await self._settling.signal(created.steered)
        elif not created.repeated:
            self._metrics.created.labels(draft.run.agent_id).inc()
            log.debug("run created", run_id=created.run.id, agent_id=created.run.agent_id, started=created.started)
            self._begin(draft, created)
            for head in created.superseded:
                await self._settling.signal(head)
        return CreateRunResponse(run=created.run, steered=created.steered is not None)

    async def _depth(self, tenant: str, parent_run_id: str) -> int:
        """Return how many runs are above a new one. Whether they may be, the store decides."""
        if not parent_run_id:
            return 0
        parent = await self._store.get_run(tenant, parent_run_id)
        return parent.depth + 1 if parent is not None else 0

    def _draft(self, tenant: str, request: CreateRunRequest, *, online: bool, depth: int) -> _Draft:
        run = self._new_run(request)
        run.depth = depth
        now = run.create_time.ToMicroseconds()
        messages = new_messages(request.input, run_id=run.id, now=now)
        queue_timeout = self._queue_timeout(run, online=online)
        grammar = Grammar(client_tools=[tool.name for tool in run.options.tools])
        grammar.queue(run, messages, now)
        queued, started = grammar.take(), None
        session = None if is_delayed(run.options, now) else self._dispatch.reserve(run.agent_id)
        if session is not None:
            grammar.start(1, session.versions[run.agent_id], session.worker_id, now)
            started = grammar.take()
        return _Draft(tenant, run, messages, queue_timeout, grammar, queued, started, session)

    def _new_run(self, request: CreateRunRequest) -> Run:
        run = Run(
            id=new_id("run"),
            agent_id=request.agent_id,
            thread_id=request.thread_id or new_id("thr"),
            state=QUEUED,
            options=normalised_options(request.options),
            metadata=request.metadata,
            origin_json=request.origin_json,
            parent_run_id=request.parent_run_id,
            parent_call_id=request.parent_call_id,
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

    async def _store_draft(self, draft: _Draft, request: CreateRunRequest, cause: _Cause) -> Created:
        """Store the run. The credit that was reserved for it comes back unless the run was started."""
        session, created = draft.session, None
        try:
            created = await self._store.create_run(self._new(draft, request, cause))
        except (StoreUnavailable, StoreFull):
            if session is not None:
                self._dispatch.doubt(session, draft.tenant)
            raise
        finally:
            if session is not None and (created is None or not created.started):
                session.unreserve(draft.run.agent_id)
        return created

    def _new(self, draft: _Draft, request: CreateRunRequest, cause: _Cause) -> NewRun:
        run, options = draft.run, draft.run.options
        now = run.create_time.ToMicroseconds()
        key = None
        if request.request_id:
            operation = "follow_up" if cause.follow_up_of else "create"
            key = RequestKey(operation, request.request_id, fingerprint(request, tenant=draft.tenant))
        available = max(now, options.start_time.ToMicroseconds())
        return NewRun(
            tenant=draft.tenant,
            run=run,
            input=tuple(draft.messages),
            queued=draft.queued,
            started=draft.started,
            owner=self._core_id,
            session=draft.session.worker_id if draft.session else None,
            request=key,
            policy=options.busy_policy or ENQUEUE,
            new_thread=not request.thread_id,
            available_time=available,
            start_by=available + round(draft.queue_timeout * 1_000_000) if draft.queue_timeout else None,
            max_attempts=self._max_attempts(run),
            max_queued_per_thread=self._limits.max_queued_per_thread,
            max_queued_per_agent=self._limits.max_queued_per_agent,
            delayed=is_delayed(options, now),
            run_left=options.run_timeout.ToMicroseconds() if options.HasField("run_timeout") else None,
            disconnect_grace=self._disconnect_grace(options),
            state_json=compact(request.state_json) if request.state_json else "",
            max_depth=self._limits.max_depth,
            follow_up_of=cause.follow_up_of,
            unread_policy=options.unread_policy,
            due=cause.due,
        )

    def _disconnect_grace(self, options: RunOptions) -> int | None:
        """Return for how long, in microseconds, a run may be without watchers; None: for ever."""
        if options.on_disconnect != CANCEL:
            return None
        if options.HasField("disconnect_grace"):
            return options.disconnect_grace.ToMicroseconds()
        return round(self._limits.disconnect_grace * 1_000_000)

    def _max_attempts(self, run: Run) -> int:
        return run.options.max_attempts or self._limits.max_attempts

    def _begin(self, draft: _Draft, created: Created) -> None:
        """Hand a started run to its worker; tell everybody of one that waits."""
        run, tenant = created.run, draft.tenant
        if not created.started or draft.started is None or draft.session is None:
            queued = Segment(1, 1, draft.queued)
            self._journal.publish([Published(tenant, run.id, queued, QUEUED)])
            self._bus.ring([Ring("work", run.agent_id)])
            return
        draft.grammar.inherit(created.state_json, created.state_version)
        owned = OwnedRun(
            run,
            tenant,
            draft.grammar,
            fence=1,
            stored_seq=2,
            stored_state=RUNNING,
            max_attempts=self._max_attempts(run),
            stored_state_version=created.state_version,
            deadline=created.deadline,
            disconnect_grace=self._disconnect_grace(run.options),
        )
        self._executions.begin(
            owned, draft.session, history=created.history, new=draft.messages, state_json=created.state_json
        )
        started = Segment(1, 2, draft.queued + draft.started)
        self._journal.publish([Published(tenant, run.id, started, RUNNING)])
        self._metrics.queue_seconds.observe(0.0)
