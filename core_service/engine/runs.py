"""Runs as clients see them: read, list, wait, cancel. Creates are in `creates.py`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from core_service.domain.errors import CoreDraining, EventsExpired, RunNotFound
from core_service.domain.pages import TimePages
from core_service.domain.run_requests import check_request_id, digest, new_messages
from core_service.domain.runs import ENDED, WAITING
from core_service.engine.errands import Errands
from core_service.engine.logs import Logs
from core_service.engine.settling import Settling
from core_service.engine.watch import WatchHub
from core_service.ports import Clock, Page, RequestKey, RunFilter, Store
from penstock.v1.message_pb2 import Message
from penstock.v1.run_pb2 import EndReason, Run
from penstock.v1.run_service_pb2 import ListRunsRequest, SteerRunRequest

MAX_WAIT_SECONDS = 600.0
_PAGES = TimePages("runs")


class Runs:
    """The use cases of RunService but for creates and watches."""

    def __init__(
        self, *, store: Store, clock: Clock, hub: WatchHub, logs: Logs, settling: Settling, max_unread: int
    ) -> None:
        self._store = store
        self._clock = clock
        self._max_unread = max_unread
        self._hub = hub
        self._logs = logs
        self._settling = settling
        self._errands = Errands()

    # ── read ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def get(self, tenant: str, run_id: str) -> Run:
        """Return a run, with its open questions. Refuses with RunNotFound."""
        run = await self._store.get_run(tenant, run_id)
        if run is None:
            raise RunNotFound(f"There is no run {run_id[:80]!r}.", run_id=run_id[:80])
        return run

    async def snapshot(self, tenant: str, run_id: str) -> tuple[Run, Sequence[Message]]:
        """Return a run and all its own messages, true at run.last_seq. Refuses with RunNotFound.

        Of a run whose events have expired: the messages that its thread keeps.
        """
        run = await self.get(tenant, run_id)
        try:
            grammar = await self._logs.grammar(run_id, up_to=run.last_seq)
        except EventsExpired:
            return run, await self._store.retention.own_messages(tenant, run_id)
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
            labels=tuple(sorted(request.metadata.items())),
        )
        runs = await self._store.list_runs(tenant, which, Page(size + 1, after))
        if len(runs) <= size:
            return runs, ""
        last = runs[size - 1]
        return runs[:size], _PAGES.token(last.create_time.ToMicroseconds(), last.id)

    async def wait(self, tenant: str, run_id: str, timeout: float) -> Run:
        """Return the run once it has ended or waits for an answer, or as it is after `timeout` seconds."""
        changed = asyncio.Event()
        watcher = await self._hub.open(tenant, run_id, None, lambda _: changed.set())
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
        if not await self._settling.cancel(tenant, run_id, reason, request=key):
            raise RunNotFound(f"There is no run {run_id[:80]!r}.", run_id=run_id[:80])

    # ── steering ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def steer(self, tenant: str, request: SteerRunRequest) -> tuple[Run, Message]:
        """Hand a message to a run that is under way. Refuses with RunNotFound, RunHasEnded, QueueFull."""
        check_request_id(request.request_id)
        message = new_messages([request.message], run_id=request.run_id, now=self._clock.now())[0]
        key = None
        if request.request_id:
            bare = SteerRunRequest(run_id=request.run_id, message=request.message, unread_policy=request.unread_policy)
            key = RequestKey("steer", request.request_id, digest(bare, tenant=tenant))
        stored = await self._errands.run(self._steer(tenant, request, message, key))
        return await self.get(tenant, request.run_id), stored

    async def _steer(self, tenant: str, request: SteerRunRequest, message: Message, key: RequestKey | None) -> Message:
        head, stored = await self._store.steer(
            tenant,
            request.run_id,
            message,
            unread_policy=request.unread_policy,
            max_unread=self._max_unread,
            request=key,
        )
        await self._settling.signal(head)
        return stored
