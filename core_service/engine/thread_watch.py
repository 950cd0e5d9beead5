"""Watching threads: the logs of a thread's runs, one after the other in the order of their places, then live.

A watcher is a thread and a cursor: the place of a run and a seq in its log. Each run is watched as `engine/watch.py`
does it; what is new here is only which run comes next. Followers of a thread whose runs have all ended rest until a run
is created (the journal tells), or until the store shows that the thread has grown (asked once a second, for all of them
together).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from core_service.domain.errors import (
    CoreDraining,
    CursorAhead,
    EventsExpired,
    InvalidArgument,
    Refusal,
    RunNotFound,
    ThreadNotFound,
)
from core_service.domain.segments import events
from core_service.engine.journal import Published
from core_service.engine.watch import Watcher, WatchHub
from core_service.ports import Clock, RunInThread, Store

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
RUNS_PER_READ = 100
_CURSOR = re.compile(r"([0-9]{1,18})-([0-9]{1,9})")


@dataclass(frozen=True, slots=True)
class Cursor:
    """Behind which event of which run a follower stands. Its text is opaque to clients."""

    place: int = 0
    seq: int = 0

    @classmethod
    def read(cls, text: str) -> Cursor:
        """Return the cursor that a text names; the beginning when it is empty. Refuses with InvalidArgument."""
        if not text:
            return cls()
        match = _CURSOR.fullmatch(text)
        if match is None:
            raise InvalidArgument("after must be the cursor of an event of this thread's stream.", field="after")
        return cls(int(match[1]), int(match[2]))

    @property
    def prefix(self) -> str:
        return f"{self.place}-"

    def __str__(self) -> str:
        return f"{self.place}-{self.seq}" if self.place else ""


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive events of one of the runs."""

    run_id: str
    cursor: Cursor
    """Of the last of them."""
    data: bytes
    """They, as a segment."""
    is_level: bool
    """The run goes on, and nothing more of it is known."""


class _Feed:
    """A thread that somebody follows."""

    __slots__ = ("bells", "newest_place", "tenant", "thread_id")

    def __init__(self, tenant: str, thread_id: str) -> None:
        self.tenant = tenant
        self.thread_id = thread_id
        self.newest_place: int | None = None
        """As the store said last; None: there is no such thread."""
        self.bells: set[asyncio.Event] = set()

    def learn(self, newest_place: int | None) -> None:
        """Note what the store says, and ring when it is news."""
        if newest_place != self.newest_place:
            self.newest_place = newest_place
            self.ring()

    def ring(self) -> None:
        for bell in self.bells:
            bell.set()


class ThreadWatcher:
    """A thread and a cursor. Made by `ThreadHub.opened`."""

    def __init__(self, store: Store, runs: WatchHub, feed: _Feed, cursor: Cursor) -> None:
        self._store = store
        self._runs = runs
        self._tenant, self._thread_id = feed.tenant, feed.thread_id
        self._place = cursor.place
        """Of the run that is watched; else the first place at which the next one may be."""
        self._watcher: Watcher | None = None
        self._upcoming: list[RunInThread] = []
        self.cursor = cursor
        """Behind the last event that was taken."""
        self.bell = asyncio.Event()
        """Rings when there may be something to take. Clear it before `next`, wait for it after a None."""

    async def next(self, max_bytes: int) -> Piece | None:
        """Return the next events, or None when there are none for now.

        Deleted runs are passed over, and so are expired events of runs that are read from their beginning. Refuses with
        ThreadNotFound once the thread is deleted, with EventsExpired, with CoreDraining.
        """
        while self._watcher is not None or await self._enter_next():
            piece = await self._take(max_bytes)
            if piece is not None or self._watcher is not None:
                return piece
        return None

    async def _take(self, max_bytes: int) -> Piece | None:
        """Return the next events of the run that is watched. Leaves it when it has no more, and never will."""
        watcher = self._watcher
        assert watcher is not None, "a run is watched"
        try:
            segment = await watcher.next(max_bytes)
        except RunNotFound:  # deleted meanwhile
            self._leave()
            return None
        except EventsExpired as expired:
            if watcher.cursor:
                raise
            self.close()
            self._watcher = await self._open(watcher.feed.run_id, _before_oldest(expired))
            return await self._take(max_bytes)
        if segment is None:
            if watcher.over:
                self._leave()
            return None
        self.cursor = Cursor(self._place, segment.last_seq)
        return Piece(watcher.feed.run_id, self.cursor, segment.data, not watcher.behind and not watcher.over)

    async def _enter_next(self) -> bool:
        """Watch the next run; False when there is none yet."""
        while self._upcoming or await self._look_ahead():
            entry = self._upcoming.pop(0)
            self._place = entry.place
            after = self.cursor.seq if entry.place == self.cursor.place else 0
            try:
                self._watcher = await self._open(entry.run_id, after)
            except RunNotFound:
                self._place += 1
            else:
                return True
        return False

    async def _look_ahead(self) -> bool:
        self._upcoming = await self._store.next_runs(
            self._tenant, self._thread_id, place=self._place, limit=RUNS_PER_READ
        )
        return bool(self._upcoming)

    async def _open(self, run_id: str, after: int) -> Watcher:
        try:
            return await self._runs.open(self._tenant, run_id, after, self._ring)
        except EventsExpired as expired:
            if after:
                raise
            return await self._runs.open(self._tenant, run_id, _before_oldest(expired), self._ring)

    def _ring(self, _: Watcher) -> None:
        self.bell.set()

    def _leave(self) -> None:
        self.close()
        self._place += 1

    def close(self) -> None:
        """Watch no run any more."""
        if self._watcher is not None:
            self._runs.close(self._watcher)
            self._watcher = None


class ThreadHub:
    """All followers of threads on this core."""

    def __init__(self, store: Store, runs: WatchHub, clock: Clock) -> None:
        self._store = store
        self._runs = runs
        self._clock = clock
        self._feeds: dict[tuple[str, str], _Feed] = {}

    @property
    def draining(self) -> bool:
        """True when followers are to leave, once they are level."""
        return self._runs.draining

    @asynccontextmanager
    async def opened(self, tenant: str, thread_id: str, after: str) -> AsyncIterator[ThreadWatcher]:
        """Follow a thread behind a cursor. Refuses with ThreadNotFound, InvalidArgument, CursorAhead, CoreDraining."""
        if self.draining:
            raise CoreDraining("This core shuts down; watch again in a moment.")
        cursor = Cursor.read(after)
        feed = self._feeds.setdefault((tenant, thread_id), _Feed(tenant, thread_id))
        watcher = ThreadWatcher(self._store, self._runs, feed, cursor)
        feed.bells.add(watcher.bell)  # interested first, then look: news in between are not missed
        try:
            await self._look(tenant, [feed])
            _admit(feed, cursor)
            yield watcher
        finally:
            watcher.close()
            feed.bells.discard(watcher.bell)
            if not feed.bells and self._feeds.get((tenant, thread_id)) is feed:
                del self._feeds[tenant, thread_id]

    def published(self, news: Sequence[Published]) -> None:
        """Ring at those whose thread has a new run."""
        if self._feeds:
            for item in news:
                if item.segment.first_seq == 1:
                    self.ring(item.tenant, events(item.segment.data)[0].run_queued.run.thread_id)

    def ring(self, tenant: str, thread_id: str) -> None:
        """Something about the thread has changed: it has a new run, or is no more."""
        if (feed := self._feeds.get((tenant, thread_id))) is not None:
            feed.ring()

    def drain(self) -> None:
        """Wake everybody: their streams end after the last committed event."""
        for feed in self._feeds.values():
            feed.ring()

    async def run(self) -> None:
        """Look once a second whether threads have grown without a ring, until cancelled."""
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            try:
                for tenant in {tenant for tenant, _ in self._feeds}:
                    await self._look(tenant, [feed for feed in self._feeds.values() if feed.tenant == tenant])
            except Refusal as error:
                log.warning("threads not looked at", reason=error.reason)
            except Exception:  # the loop must live
                log.exception("threads not looked at")

    async def _look(self, tenant: str, feeds: Sequence[_Feed]) -> None:
        newest = await self._store.newest_places(tenant, [feed.thread_id for feed in feeds])
        for feed in feeds:
            feed.learn(newest.get(feed.thread_id))


def _before_oldest(expired: EventsExpired) -> int:
    return int(expired.metadata["oldest_seq"]) - 1


def _admit(feed: _Feed, cursor: Cursor) -> None:
    if feed.newest_place is None:
        raise ThreadNotFound(f"There is no thread {feed.thread_id[:80]!r}.", thread_id=feed.thread_id[:80])
    if cursor.place > feed.newest_place:
        raise CursorAhead(f"The thread has no event {cursor}: it was never stored here.")
