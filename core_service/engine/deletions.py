"""Deleting runs and threads, and clearing what they leave behind.

What is active is refused, or cancelled first: as CancelRun does it, and then its end is awaited. What is deleted is
gone at once, for watchers too; its remains go piece by piece, and those that a crash left go at the next start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress

import structlog

from core_service.domain.errors import Refusal, RunActive, RunNotFound, ThreadBusy
from core_service.domain.runs import ACTIVE, ENDED
from core_service.engine.errands import Errands
from core_service.engine.journal import Published
from core_service.engine.request_keys import request_key
from core_service.engine.runs import Runs
from core_service.engine.tail import Tail
from core_service.engine.thread_watch import ThreadHub
from core_service.engine.watch import WatchHub
from core_service.ports import Clock, Page, Remains, RunFilter, Store
from penstock.v1.run_pb2 import EndReason
from penstock.v1.run_service_pb2 import DeleteRunRequest
from penstock.v1.thread_service_pb2 import DeleteThreadRequest

log = structlog.get_logger(__name__)

Delete = Callable[[], Awaitable[None]]
FindActive = Callable[[], Awaitable[Sequence[str]]]

LOOK_SECONDS = 1.0
"""A run that is awaited may have been ended by somebody who could not tell: then the store is asked."""
LONGEST_ERRAND = 600.0
RUNS_PER_LOOK = 100
REMAINS_PER_LOOK = 100
PAUSE_SECONDS = 1.0


class Deletions:
    """The use cases of DeleteRun and DeleteThread, and the loop that clears remains."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        runs: Runs,
        hub: WatchHub,
        thread_hub: ThreadHub,
        tail: Tail,
        patience: float,
    ) -> None:
        """`patience`: seconds for which a caller waits for runs to end; after that the deletion goes on without it."""
        self._store = store
        self._clock = clock
        self._runs = runs
        self._hub = hub
        self._thread_hub = thread_hub
        self._tail = tail
        self._patience = patience
        self._errands = Errands()
        self._vigils: list[_Vigil] = []
        self._has_remains = asyncio.Event()
        self._has_remains.set()

    # ── use cases ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def delete_run(self, tenant: str, request: DeleteRunRequest) -> None:
        """Delete a run. Refuses with RunNotFound, RunActive, IdempotencyMismatch."""
        key = request_key("delete_run", tenant, request)
        run_id = request.run_id

        async def delete() -> None:
            await self._store.delete_run(tenant, run_id, request=key)
            self._forget([run_id])
            self._has_remains.set()

        async def active() -> Sequence[str]:
            return [run_id]

        late = RunActive("The run was asked to stop, and is deleted once it has ended. Ask again later.", run_id=run_id)
        await self._carry_out(tenant, delete, active if request.cancel else None, late=late)

    async def delete_thread(self, tenant: str, request: DeleteThreadRequest) -> None:
        """Delete a thread with all that is in it. Refuses with ThreadNotFound, ThreadBusy, IdempotencyMismatch.

        Returns once its id is free again.
        """
        key = request_key("delete_thread", tenant, request)
        thread_id = request.thread_id
        remains = Remains(tenant, thread_id, is_thread=True)

        async def delete() -> None:
            await self._store.delete_thread(tenant, thread_id, request=key)
            self._thread_hub.ring(tenant, thread_id)
            try:
                await self._clear(remains)
            finally:
                self._has_remains.set()

        async def active() -> Sequence[str]:
            """Newest first: what waits is cancelled before its turn comes."""
            which = RunFilter(thread_id=thread_id, states=tuple(ACTIVE))
            return [run.id for run in await self._store.list_runs(tenant, which, Page(RUNS_PER_LOOK))]

        late = ThreadBusy("Its runs were asked to stop, and it is deleted once they have ended. Ask again later.")
        await self._carry_out(tenant, delete, active if request.cancel else None, late=late)

    async def _carry_out(self, tenant: str, delete: Delete, active: FindActive | None, *, late: Refusal) -> None:
        """Delete, whether the caller stays or not. It is refused with `late` when it has waited long enough."""
        work = self._errands.run(self._stop_and_delete(tenant, delete, active))
        if active is None:
            await work
            return
        try:
            async with asyncio.timeout(self._patience):
                await work
        except TimeoutError:
            raise late from None

    async def _stop_and_delete(self, tenant: str, delete: Delete, active: FindActive | None) -> None:
        """Delete, as soon as nothing is active any more. Others may start runs meanwhile: these are stopped as well."""
        until = self._clock.monotonic() + LONGEST_ERRAND
        while True:
            try:
                await delete()
            except (RunActive, ThreadBusy):
                if active is None or self._clock.monotonic() > until:
                    raise
            else:
                return
            await self._stop(tenant, await active())

    async def _stop(self, tenant: str, run_ids: Collection[str]) -> None:
        """Cancel runs, and return once they have ended, or after a while: then it is time to look again."""
        with self._vigil(run_ids) as vigil, suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                for run_id in run_ids:
                    if await self._cancelled(tenant, run_id):
                        vigil.note(run_id)
                await vigil.over.wait()

    async def _cancelled(self, tenant: str, run_id: str) -> bool:
        """Ask a run to stop, and tell whether it has ended already."""
        try:
            run = await self._runs.cancel(tenant, run_id, EndReason.END_REASON_USER, request_id="")
        except RunNotFound:
            return True
        return run.state in ENDED

    # ── ends that are awaited ────────────────────────────────────────────────────────────────────────────────────────

    def published(self, news: Sequence[Published]) -> None:
        """Tell those who wait for ends."""
        if self._vigils:
            for item in news:
                if item.state in ENDED:
                    for vigil in self._vigils:
                        vigil.note(item.run_id)

    @contextmanager
    def _vigil(self, run_ids: Collection[str]) -> Iterator[_Vigil]:
        vigil = _Vigil(run_ids)
        self._vigils.append(vigil)
        try:
            yield vigil
        finally:
            self._vigils.remove(vigil)

    # ── remains ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def deleted(self, run_ids: Collection[str]) -> None:
        """Runs were deleted by somebody else on this core: nobody is served from memory, and their remains go."""
        self._forget(run_ids)
        self._has_remains.set()

    async def run(self) -> None:
        """Clear remains until cancelled: those that the last life of this core left, then what is deleted."""
        while True:
            await self._has_remains.wait()
            self._has_remains.clear()
            try:
                await self._clear_all()
            except Refusal as error:
                log.warning("remains not cleared", reason=error.reason)
            except Exception:  # the loop must live
                log.exception("remains not cleared")
            else:
                continue
            self._has_remains.set()
            await self._clock.sleep(PAUSE_SECONDS)

    async def _clear_all(self) -> None:
        while found := await self._store.remains(limit=REMAINS_PER_LOOK):
            for what in found:
                await self._clear(what)

    async def _clear(self, what: Remains) -> None:
        """Clear one thread's or run's remains, with room for others between the pieces."""
        is_done = False
        while not is_done:
            cleared = await self._store.clear_remains(what)
            self._forget(cleared.run_ids)
            is_done = cleared.is_done
        if not what.is_thread:  # an end that was told late, from a commit before the deletion
            self._forget([what.resource_id])

    def _forget(self, run_ids: Collection[str]) -> None:
        for run_id in run_ids:
            self._tail.forget(run_id)
            self._hub.forget(run_id)


class _Vigil:
    """Waits for the ends of some runs."""

    def __init__(self, run_ids: Collection[str]) -> None:
        self._left = set(run_ids)
        self.over = asyncio.Event()
        if not self._left:
            self.over.set()

    def note(self, run_id: str) -> None:
        """A run has ended."""
        self._left.discard(run_id)
        if not self._left:
            self.over.set()
