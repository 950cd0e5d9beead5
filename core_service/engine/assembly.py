"""The engine of one core, put together: every object once, in the order in which they need each other."""

from __future__ import annotations

from importlib.metadata import version

from core_service.config import CoreSettings
from core_service.engine.agents import Agents
from core_service.engine.bulk_cancels import BulkCancels
from core_service.engine.creates import CreateLimits, Creates
from core_service.engine.deletions import Deletions
from core_service.engine.dispatch import Dispatch
from core_service.engine.executions import Executions, Limits
from core_service.engine.folding import Folding
from core_service.engine.journal import Journal
from core_service.engine.logs import Logs
from core_service.engine.metrics import Metrics
from core_service.engine.owned import Ownership
from core_service.engine.reaper import Promotions
from core_service.engine.retention import Retention
from core_service.engine.runs import Runs
from core_service.engine.schedules import Schedules
from core_service.engine.settling import Settling
from core_service.engine.tail import Tail
from core_service.engine.thread_forks import ThreadForks
from core_service.engine.thread_states import ThreadStates
from core_service.engine.thread_watch import ThreadHub
from core_service.engine.threads import Threads
from core_service.engine.watch import WatchHub
from core_service.engine.workers import Workers
from core_service.ports import Bus, Clock, Keep, Store
from penstock.v1.system_service_pb2 import GetStatusResponse, WorkerStatus

DELETION_MARGIN = 5.0
"""Seconds beyond the grace of a cancel for which a deletion waits for its runs to end."""


class Engine:
    """All engine objects of one core. It knows the ports and no adapter."""

    def __init__(self, settings: CoreSettings, store: Store, bus: Bus, clock: Clock, core_id: str) -> None:
        self.store, self.clock, self.core_id = store, clock, core_id
        self.start_time = clock.now()
        self.metrics = metrics = Metrics()
        self.ownership = ownership = Ownership()
        self.tail = tail = Tail(run_bytes=settings.tail_run_bytes, total_bytes=settings.tail_bytes)
        self.journal = journal = Journal(store, bus, clock, tail, metrics, backlog_bytes=settings.backlog_bytes)
        self.hub = hub = WatchHub(store, ownership, tail, metrics)
        self.logs = logs = Logs(store, hub)
        self.dispatch = dispatch = Dispatch(store=store, journal=journal, bus=bus, clock=clock, core_id=core_id)
        self.agents = agents = Agents(store, clock, is_online=dispatch.is_online)
        self.executions = executions = Executions(
            journal=journal, ownership=ownership, clock=clock, metrics=metrics, limits=_limits(settings)
        )
        self.settling = settling = Settling(
            core_id=core_id,
            store=store,
            journal=journal,
            bus=bus,
            clock=clock,
            ownership=ownership,
            executions=executions,
            logs=logs,
        )
        self.workers = Workers(
            core_id=core_id,
            lease=settings.lease,
            store=store,
            clock=clock,
            agents=agents,
            dispatch=dispatch,
            ownership=ownership,
            executions=executions,
            settling=settling,
            logs=logs,
            metrics=metrics,
        )
        self.creates = Creates(
            core_id=core_id,
            store=store,
            journal=journal,
            bus=bus,
            clock=clock,
            metrics=metrics,
            agents=agents,
            dispatch=dispatch,
            executions=executions,
            limits=_create_limits(settings),
        )
        self.creates.patient_until = clock.monotonic() + settings.lease
        self.runs = Runs(store=store, hub=hub, logs=logs, settling=settling)
        self.bulk_cancels = BulkCancels(store, self.runs, clock)
        self.threads = Threads(store, clock)
        self.thread_states = ThreadStates(store)
        self.thread_forks = ThreadForks(store, logs, clock)
        self.thread_hub = thread_hub = ThreadHub(store, hub, clock)
        self.deletions = Deletions(
            store=store,
            clock=clock,
            runs=self.runs,
            hub=hub,
            thread_hub=thread_hub,
            tail=tail,
            patience=settings.cancel_grace + DELETION_MARGIN,
        )
        self.retention = Retention(
            store=store.retention,
            bus=bus,
            clock=clock,
            agents=agents,
            tail=tail,
            metrics=metrics,
            defaults=_keep(settings),
        )
        self.schedules = Schedules(
            store=store.schedules, clock=clock, agents=agents, creates=self.creates, metrics=metrics
        )
        self.promotions = Promotions(store, bus)
        self.folding = Folding(store, clock, ownership, metrics, delay=settings.fold_delay)
        executions.on_thread_free = self.promotions.add
        journal.on_published += (hub.published, thread_hub.published, self.deletions.published)
        metrics.gauge("penstock_owned_runs", "Runs that this core owns", lambda: len(ownership))
        metrics.gauge("penstock_watches", "Open watches", lambda: len(hub))
        metrics.gauge("penstock_workers", "Connected workers", lambda: len(self.workers.sessions))
        metrics.gauge("penstock_tail_bytes", "Committed events kept in memory", lambda: tail.size)
        metrics.gauge("penstock_journal_runs", "Runs that wait for a commit", lambda: journal.backlog)

    async def status(self) -> GetStatusResponse:
        """Return what SystemService.GetStatus tells."""
        available = await self.store.is_available()
        response = GetStatusResponse(
            core_id=self.core_id,
            version=version("penstock"),
            store=self.store.name,
            draining=self.creates.draining,
            owned_runs=len(self.ownership),
            queued_runs=await self.store.queued_count() if available else 0,
            watches=len(self.hub),
            store_available=available and self.journal.store_available,
        )
        response.start_time.FromMicroseconds(self.start_time)
        for session in self.workers.sessions:
            response.workers.append(
                WorkerStatus(
                    worker_id=session.worker_id,
                    agent_ids=sorted(session.versions),
                    credit=session.credit,
                    runs=len(session.runs),
                    sdk_version=session.sdk_version,
                    draining=session.draining,
                )
            )
        return response


def _limits(settings: CoreSettings) -> Limits:
    return Limits(
        lease=settings.lease,
        cancel_grace=settings.cancel_grace,
        queue_timeout=settings.queue_timeout,
        retry_backoff=settings.retry_backoff,
        max_events=settings.max_run_events,
        max_log_bytes=settings.max_run_bytes,
    )


def _create_limits(settings: CoreSettings) -> CreateLimits:
    return CreateLimits(
        queue_timeout=settings.queue_timeout,
        max_attempts=settings.max_attempts,
        max_queued_per_thread=settings.max_queued_per_thread,
        max_queued_per_agent=settings.max_queued_per_agent,
    )


def _keep(settings: CoreSettings) -> Keep:
    return Keep(
        events=round(settings.keep_events * 1_000_000),
        messages=round(settings.keep_messages * 1_000_000),
        runs=round(settings.keep_runs * 1_000_000),
    )
