"""Webhooks: which are taken at a create, and the loop that delivers what ended runs left in the outbox.

A delivery is made at least once: a core that dies after the POST and before its note makes another one try again, with
the same `webhook-id`. Attempts follow with growing pauses until one is answered with 2xx, or 410, or there are no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from core_service.domain import webhooks
from core_service.domain.errors import Refusal, WebhooksDisabled
from core_service.engine.metrics import Metrics
from core_service.engine.owned import OwnedRun
from core_service.engine.patience import patiently
from core_service.ports import Clock, Delivery, Response, Store, WebhookSender

log = structlog.get_logger(__name__)

POLL_SECONDS = 2.0
"""Between looks at the outbox: a retry may be due, or a run may have ended on another core."""
LEASE_MARGIN = 30.0
"""Seconds beyond an attempt's timeout for which nobody else makes it."""
GONE = 410


@dataclass(frozen=True, slots=True)
class WebhookLimits:
    """How webhooks are delivered; times in seconds."""

    secrets: Sequence[bytes]
    """Keys that sign; none: webhooks are refused."""
    allow_http: bool
    timeout: float
    attempts: int
    first_pause: float
    longest_pause: float
    concurrency: int


class Webhooks:
    """The check of a create's webhook, and the loop."""

    def __init__(
        self, *, store: Store, sender: WebhookSender, clock: Clock, metrics: Metrics, limits: WebhookLimits
    ) -> None:
        self._store = store
        self._sender = sender
        self._clock = clock
        self._metrics = metrics
        self._limits = limits
        self._sending: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()

    @property
    def in_flight(self) -> int:
        """POSTs that are under way."""
        return len(self._sending)

    async def check(self, url: str) -> None:
        """Refuse a webhook that will not be called: with WebhooksDisabled, InvalidArgument. Empty is none."""
        if not url:
            return
        if not self._limits.secrets:
            raise WebhooksDisabled(
                "This server sends no webhooks: its setting webhook_secret is empty.", field=webhooks.FIELD
            )
        webhooks.check_url(url, allow_http=self._limits.allow_http)
        await self._sender.check(url)

    def ended(self, owned: OwnedRun) -> None:
        """A run has ended here; if somebody is to be told, do it at once."""
        if owned.run.options.webhook_url:
            self._wake.set()

    # ── the loop ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Deliver until cancelled. A delivery that is cut off is due again when its lease is over."""
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    await self._begin_some(group)
                except Refusal as error:
                    log.warning("webhooks failed", reason=error.reason)
                except Exception:  # the loop must live
                    log.exception("webhooks failed")
                await self._rest()

    async def _begin_some(self, group: asyncio.TaskGroup) -> None:
        """Begin what is due, as far as there is room."""
        room = self._limits.concurrency - len(self._sending)
        if room <= 0 or not self._limits.secrets:
            return
        due = await self._store.webhooks.claim(limit=room, lease=self._limits.timeout + LEASE_MARGIN)
        for delivery in due:
            task = group.create_task(self._deliver(delivery))
            self._sending.add(task)
            task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        if len(self._sending) == self._limits.concurrency:  # what waits for room may go on
            self._wake.set()
        self._sending.discard(task)

    async def _rest(self) -> None:
        """Return when a run with a webhook has ended here, when there is room again, or after a while."""
        pause = asyncio.ensure_future(self._clock.sleep(POLL_SECONDS))
        wake = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait((pause, wake), return_when=asyncio.FIRST_COMPLETED)
        finally:
            pause.cancel()
            wake.cancel()
        self._wake.clear()

    async def _deliver(self, delivery: Delivery) -> None:
        """Make one attempt, and note what became of it."""
        try:
            await self._note(delivery, await self._attempt(delivery))
        except Exception:  # it is due again when its lease is over
            log.exception("webhook failed", delivery_id=delivery.delivery_id, run_id=delivery.run_id)

    async def _attempt(self, delivery: Delivery) -> Response:
        if delivery.attempt > self._limits.attempts:  # the last one was never noted
            return Response(None, "There were too many attempts.")
        run = await patiently(self._clock, lambda: self._store.get_run(delivery.tenant, delivery.run_id))
        if run is None:
            return Response(None, "The run was deleted.")
        body = webhooks.body(run)
        headers = webhooks.headers(self._limits.secrets, delivery.delivery_id, now=self._clock.now(), body=body)
        return await self._sender.post(delivery.url, headers=headers, body=body)

    async def _note(self, delivery: Delivery, response: Response) -> None:
        status = response.status
        host, _ = webhooks.host_and_port(delivery.url)  # not the URL: it may hold a key
        told = log.bind(delivery_id=delivery.delivery_id, run_id=delivery.run_id, host=host, attempt=delivery.attempt)
        if status is not None and 200 <= status <= 299:
            self._metrics.webhooks.labels("delivered").inc()
            told.debug("webhook delivered")
            await patiently(self._clock, lambda: self._store.webhooks.delivered(delivery))
            return
        error = response.error or f"The receiver answered with {status}."
        retry_in = self._retry_in(delivery, response)
        outcome = "given_up" if retry_in is None else "failed"
        self._metrics.webhooks.labels(outcome).inc()
        told.warning("webhook not delivered", outcome=outcome, error=error, retry_in=retry_in)
        await patiently(self._clock, lambda: self._store.webhooks.failed(delivery, error, retry_in=retry_in))

    def _retry_in(self, delivery: Delivery, response: Response) -> float | None:
        """Return the seconds until the next attempt; None: there is none."""
        if response.status == GONE or delivery.attempt >= self._limits.attempts:
            return None
        limits = self._limits
        pause = webhooks.pause(delivery.attempt, first=limits.first_pause, longest=limits.longest_pause)
        return max(pause, min(response.retry_after or 0.0, limits.longest_pause))
