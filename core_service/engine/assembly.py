"""The engine of one core, put together: every object once, in the order in which they need each other."""

from __future__ import annotations

from importlib.metadata import version

from core_service.config import CoreSettings
from core_service.domain.webhooks import parse_secrets
from core_service.engine.agents import Agents
from core_service.engine.attendance import Attendance
from core_service.engine.bulk_cancels import BulkCancels
from core_service.engine.creates import CreateLimits, Creates
from core_service.engine.deletions import Deletions
from core_service.engine.departures import Departures
from core_service.engine.dispatch import Dispatch
from core_service.engine.endings import Endings
from core_service.engine.executions import Executions
from core_service.engine.folding import Folding
from core_service.engine.follow_ups import FollowUps
from core_service.engine.inputs import Inputs
from core_service.engine.journal import Journal
from core_service.engine.limits import Limits
from core_service.engine.logs import Logs
from core_service.engine.metrics import Metrics
from core_service.engine.offspring import Offspring
from core_service.engine.owned import Ownership
from core_service.engine.reaper import Promotions
from core_service.engine.recovery import Recovery
from core_service.engine.retention import Retention
from core_service.engine.runs import Runs
from core_service.engine.schedules import Schedules
from core_service.engine.settling import Settling
from core_service.engine.signals import Signals
from core_service.engine.sweeps import Sweeps
from core_service.engine.tail import Tail
from core_service.engine.thread_forks import ThreadForks
from core_service.engine.thread_states import ThreadStates
from core_service.engine.thread_watch import ThreadHub
from core_service.engine.threads import Threads
from core_service.engine.watch import WatchHub
from core_service.engine.webhooks import WebhookLimits, Webhooks
from core_service.engine.workers import Workers
from core_service.ports import Bus, Clock, Keep, Ring, Store, WebhookSender
from penstock.v1.system_service_pb2 import GetStatusResponse, WorkerStatus

DELETION_MARGIN = 5.0
"""Seconds beyond the grace of a cancel for which a deletion waits for its runs to end."""


class Engine:
    """All engine objects of one core. It knows the ports and no adapter."""

    def __init__(
        self, settings: CoreSettings, store: Store, bus: Bus, clock: Clock, sender: WebhookSender, core_id: str
    ) -> None:
        self.store, self.clock, self.core_id, self.start_time = store, clock, core_id, clock.now()
        self.metrics = metrics = Metrics()
        self.ownership = ownership = Ownership()
        self.tail = tail = Tail(run_bytes=settings.tail_run_bytes, total_bytes=settings.tail_bytes)
        self.journal = journal = Journal(store, bus, clock, tail, metrics, backlog_bytes=settings.backlog_bytes)
        self.hub = hub = WatchHub(store, ownership, tail, metrics)
        self.logs = logs = Logs(store, hub)
        self.dispatch = dispatch = Dispatch(store=store, journal=journal, bus=bus, clock=clock, core_id=core_id)
        self.agents = agents = Agents(store, clock, is_online=dispatch.is_online)
        limits = _limits(settings)
        endings = Endings(journal, clock)
        signals = Signals(journal=journal, clock=clock, endings=endings)
        departures = Departures(journal=journal, clock=clock, metrics=metrics, limits=limits, endings=endings)
        self.executions = executions = Executions(
            journal=journal,
            ownership=ownership,
            clock=clock,
            metrics=metrics,
            limits=limits,
            endings=endings,
            departures=departures,
            signals=signals,
        )
        self.recovery = recovery = Recovery(
            core_id=core_id,
            store=store,
            clock=clock,
            ownership=ownership,
            executions=executions,
            signals=signals,
            logs=logs,
            is_replayable=agents.is_replayable,
        )
        self.settling = settling = Settling(
            store=store,
            journal=journal,
            bus=bus,
            ownership=ownership,
            executions=executions,
            endings=endings,
            departures=departures,
            signals=signals,
            recovery=recovery,
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
            departures=departures,
            recovery=recovery,
            metrics=metrics,
        )
        self.webhooks = webhooks = Webhooks(
            store=store, sender=sender, clock=clock, metrics=metrics, limits=_webhook_limits(settings)
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
            settling=settling,
            limits=_create_limits(settings),
            webhooks=webhooks,
        )
        self.creates.patient_until = clock.monotonic() + settings.lease
        self.runs = runs = Runs(
            store=store, clock=clock, hub=hub, logs=logs, settling=settling, max_unread=settings.max_unread_messages
        )
        self.inputs = Inputs(
            store=store, clock=clock, journal=journal, ownership=ownership, settling=settling, runs=runs
        )
        self._serve_threads(patience=settings.cancel_grace + DELETION_MARGIN)
        self.retention = Retention(
            store=store.retention,
            bus=bus,
            clock=clock,
            agents=agents,
            tail=tail,
            metrics=metrics,
            defaults=_keep(settings),
            on_deleted=self.deletions.deleted,
        )
        self.schedules = Schedules(
            store=store.schedules,
            clock=clock,
            agents=agents,
            creates=self.creates,
            webhooks=webhooks,
            metrics=metrics,
        )
        self.promotions = Promotions(store, bus)
        self.folding = Folding(store, clock, ownership, metrics, delay=settings.fold_delay)
        self.sweeps = Sweeps(store=store, bus=bus, clock=clock, ownership=ownership, settling=settling)
        self.attendance = Attendance(store, clock, hub)
        self.follow_ups = FollowUps(store, self.creates)
        self.offspring = Offspring(store, settling)
        executions.on_ended += [self.promotions.ended, self.offspring.ended, self.follow_ups.ended, webhooks.ended]
        executions.on_queued = lambda owned: bus.ring([Ring("work", owned.run.agent_id)])
        journal.on_published += (hub.published, self.thread_hub.published, self.deletions.published)
        self._show_gauges()

    def _show_gauges(self) -> None:
        self.metrics.gauge("penstock_owned_runs", "Runs that this core owns", lambda: len(self.ownership))
        self.metrics.gauge("penstock_watches", "Open watches", lambda: len(self.hub))
        self.metrics.gauge("penstock_workers", "Connected workers", lambda: len(self.workers.sessions))
        self.metrics.gauge("penstock_tail_bytes", "Committed events kept in memory", lambda: self.tail.size)
        self.metrics.gauge("penstock_webhooks_in_flight", "Webhooks under way", lambda: self.webhooks.in_flight)
        self.metrics.gauge("penstock_journal_runs", "Runs that wait for a commit", lambda: self.journal.backlog)

    def _serve_threads(self, *, patience: float) -> None:
        """Put together what serves threads, deletions and bulk cancels: it needs all the rest, and nothing needs it."""
        store, clock, runs, hub = self.store, self.clock, self.runs, self.hub
        self.bulk_cancels = BulkCancels(store, runs, clock)
        self.threads = Threads(store, clock)
        self.thread_states = ThreadStates(store)
        self.thread_forks = ThreadForks(store, self.logs, clock)
        self.thread_hub = thread_hub = ThreadHub(store, hub, clock)
        self.deletions = Deletions(
            store=store, clock=clock, runs=runs, hub=hub, thread_hub=thread_hub, tail=self.tail, patience=patience
        )

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
        max_retry_backoff=settings.max_retry_backoff,
        max_events=settings.max_run_events,
        max_log_bytes=settings.max_run_bytes,
    )


def _create_limits(settings: CoreSettings) -> CreateLimits:
    return CreateLimits(
        queue_timeout=settings.queue_timeout,
        max_attempts=settings.max_attempts,
        max_queued_per_thread=settings.max_queued_per_thread,
        max_queued_per_agent=settings.max_queued_per_agent,
        disconnect_grace=settings.disconnect_grace,
        max_depth=settings.max_depth,
    )


def _keep(settings: CoreSettings) -> Keep:
    return Keep(
        events=round(settings.keep_events * 1_000_000),
        messages=round(settings.keep_messages * 1_000_000),
        runs=round(settings.keep_runs * 1_000_000),
    )


def _webhook_limits(settings: CoreSettings) -> WebhookLimits:
    return WebhookLimits(
        secrets=parse_secrets(settings.webhook_secret.get_secret_value()),
        allow_http=settings.webhook_allow_http,
        timeout=settings.webhook_timeout,
        attempts=settings.webhook_attempts,
        first_pause=settings.webhook_backoff,
        longest_pause=settings.webhook_max_backoff,
        concurrency=settings.webhook_concurrency,
    )
