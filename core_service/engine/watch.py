"""Watching runs: history, live, reconnect and other replicas by one rule.

A watcher is a run and a cursor; it holds no queue. It takes what lies behind its cursor from the tail, else reads it
from the store, and rests when it is level with the log until the bell rings. A gap is never delivered (ENGINE.md
J1–J3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from core_service.domain.errors import (
    CoreDraining,
    CursorAhead,
    EventsExpired,
    InvalidArgument,
    LogDamaged,
    RunNotFound,
)
from core_service.domain.runs import ENDED
from core_service.domain.segments import cuts, skip
from core_service.engine.journal import Published
from core_service.engine.metrics import Metrics
from core_service.engine.owned import Ownership
from core_service.engine.tail import Tail
from core_service.ports import Segment, Store
from penstock.v1.run_pb2 import RunState

MAX_READ_ROWS = 64
MAX_READ_BYTES = 1 << 20


class Feed:
    """What is known of a run that somebody watches: where its log ends, and its state there."""

    __slots__ = ("grace", "is_deleted", "last_seq", "oldest_seq", "run_id", "state", "tenant", "watchers")

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.tenant: str | None = None
        self.last_seq = 0
        self.oldest_seq = 1
        self.state: RunState.ValueType = RunState.RUN_STATE_UNSPECIFIED
        self.is_deleted = False
        self.watchers: dict[Watcher, None] = {}
        self.grace: int | None = None
        """Microseconds without a watcher after which the run is cancelled; None: never."""

    def learn(self, last_seq: int, state: RunState.ValueType) -> None:
        """Note where the log ends; older news than what is known are ignored."""
        if last_seq >= self.last_seq:
            self.last_seq, self.state = last_seq, state


class Watcher:
    """A run and a cursor. `notify` is called, in the event loop, whenever there may be something to take."""

    def __init__(self, hub: WatchHub, feed: Feed, cursor: int, notify: Callable[[Watcher], None]) -> None:
        self._hub = hub
        self.feed = feed
        self.cursor = cursor
        self.notify = notify
        self._read_ahead: list[Segment] = []
        self._rows = 16

    @property
    def behind(self) -> bool:
        """True when there is something to take behind the cursor: events, or the news that the run was deleted."""
        return self.cursor < self.feed.last_seq or self.feed.is_deleted

    @property
    def over(self) -> bool:
        """True when everything was taken and nothing will follow."""
        return self.cursor >= self.feed.last_seq and self.feed.state in ENDED

    def take(self, max_bytes: int) -> Segment | None:
        """Return the next events if they are in memory, about `max_bytes` of them, and move the cursor."""
        if self._read_ahead:
            segment = self._read_ahead.pop(0)
        else:
            found = self._hub.tail.after(self.feed.run_id, self.cursor, max_bytes=max_bytes)
            if found is None:
                return None
            segment = found
            if len(found.data) > max_bytes:  # one commit took more than one message carries
                segment, *self._read_ahead = regroup((found,), self.cursor, max_bytes)
        self.cursor = segment.last_seq
        return segment

    async def read(self, max_bytes: int) -> None:
        """Read what lies behind the cursor from the store, so that `take` finds it.

        Refuses with RunNotFound, EventsExpired, LogDamaged.
        """
        if self.feed.is_deleted:
            raise not_found(self.feed.run_id)
        rows = await self._hub.store.read_segments(self.feed.run_id, after_seq=self.cursor, limit=self._rows)
        if not self._follow(rows):
            await self._explain_gap()
        size = sum(len(row.data) for row in rows)
        if size > MAX_READ_BYTES:
            self._rows = max(1, self._rows // 4)
        elif size < max_bytes:
            self._rows = min(MAX_READ_ROWS, self._rows * 2)
        self._read_ahead = list(regroup(rows, self.cursor, max_bytes))

    async def next(self, max_bytes: int) -> Segment | None:
        """Return the next events, from memory or from the store; None when level with the log."""
        if (segment := self.take(max_bytes)) is not None:
            return segment
        if not self.behind:
            return None
        await self.read(max_bytes)
        return self.take(max_bytes)

    def _follow(self, rows: Sequence[Segment]) -> bool:
        """Tell whether rows follow one another from the cursor on (ENGINE.md J2)."""
        seq = self.cursor
        for row in rows:
            if row.first_seq > seq + 1:
                return False
            seq = row.last_seq
        return bool(rows)

    async def _explain_gap(self) -> None:
        """Refuse to go on: the run was deleted, or its events have expired, since it was last looked at, or worse."""
        run_id = self.feed.run_id
        head = await self._hub.store.head(run_id)
        if head is None:
            raise not_found(run_id)
        self.feed.oldest_seq = head.oldest_seq
        if self.cursor + 1 < head.oldest_seq:
            raise expired(run_id, head.oldest_seq)
        self._hub.metrics.damaged.inc()
        raise LogDamaged(f"The log of {run_id} has no event {self.cursor + 1}.")


def not_found(run_id: str) -> RunNotFound:
    """Return the refusal of a run that is not there."""
    return RunNotFound(f"There is no run {run_id[:80]!r}.", run_id=run_id[:80])


def expired(run_id: str, oldest_seq: int) -> EventsExpired:
    """Return the refusal of a cursor below what is kept."""
    return EventsExpired(
        f"The events of {run_id} are kept from {oldest_seq} on. Start there, from a snapshot of the run.",
        oldest_seq=str(oldest_seq),
    )


def regroup(rows: Sequence[Segment], cursor: int, max_bytes: int) -> Iterator[Segment]:
    """Yield the events of consecutive rows behind a cursor in pieces of about `max_bytes`, joined and cut as needed."""
    pieces: list[bytes] = []
    size, first, last = 0, cursor + 1, cursor
    for row in rows:
        if row.last_seq <= cursor:
            continue
        data = row.data if row.first_seq > cursor else row.data[skip(row.data, cursor + 1 - row.first_seq) :]
        if size and size + len(data) > max_bytes:
            yield Segment(first, last, b"".join(pieces))
            pieces, size, first = [], 0, last + 1
        if len(data) > max_bytes:
            yield from _cut(Segment(first, row.last_seq, data), max_bytes)
            first = row.last_seq + 1
        else:
            pieces.append(data)
            size += len(data)
        last = row.last_seq
    if pieces:
        yield Segment(first, last, b"".join(pieces))


def _cut(segment: Segment, max_bytes: int) -> Iterator[Segment]:
    first = segment.first_seq
    for count, data in cuts(segment.data, max_bytes=max_bytes):
        yield Segment(first, first + count - 1, data)
        first += count


class WatchHub:
    """All watchers of this core."""

    def __init__(self, store: Store, ownership: Ownership, tail: Tail, metrics: Metrics) -> None:
        self.store = store
        self.tail = tail
        self.metrics = metrics
        self.draining = False
        self._ownership = ownership
        self._feeds: dict[str, Feed] = {}

    def __len__(self) -> int:
        return sum(len(feed.watchers) for feed in self._feeds.values())

    def published(self, news: Sequence[Published]) -> None:
        """Wake the watchers of what was committed."""
        for item in news:
            feed = self._feeds.get(item.run_id)
            if feed is not None:
                feed.learn(item.segment.last_seq, item.state)
                for watcher in tuple(feed.watchers):
                    watcher.notify(watcher)

    def forget(self, run_id: str) -> None:
        """The run was deleted: its watchers are told, and whoever comes next finds none."""
        feed = self._feeds.pop(run_id, None)
        if feed is not None:
            feed.is_deleted = True
            for watcher in tuple(feed.watchers):
                watcher.notify(watcher)

    def kept_alive(self) -> dict[str, float]:
        """Return the watched runs that are cancelled when nobody watches them, each with its grace in seconds."""
        return {
            feed.run_id: feed.grace / 1_000_000
            for feed in self._feeds.values()
            if feed.grace is not None and feed.watchers and feed.state not in ENDED
        }

    def drain(self) -> None:
        """Refuse new watches and wake everybody: their streams end after the last committed event."""
        self.draining = True
        for feed in self._feeds.values():
            for watcher in tuple(feed.watchers):
                watcher.notify(watcher)

    async def open(self, tenant: str, run_id: str, after: int | None, notify: Callable[[Watcher], None]) -> Watcher:
        """Start to watch a run behind `after`; None: behind its newest event.

        Refuses with RunNotFound, CursorAhead, EventsExpired, CoreDraining.
        """
        if self.draining:
            raise CoreDraining("This core shuts down; watch again in a moment.")
        feed = self._feeds.setdefault(run_id, Feed(run_id))
        watcher = Watcher(self, feed, after or 0, notify)
        feed.watchers[watcher] = None  # interested first, then look: news in between are not missed
        try:
            await self._look(feed)
            if after is None:
                watcher.cursor = feed.last_seq
            elif after > feed.last_seq:  # of a commit that this core made and has not heard of yet
                await self._look_up(feed)
            self._admit(tenant, feed, watcher.cursor)
        except BaseException:
            self.close(watcher)
            raise
        return watcher

    def close(self, watcher: Watcher) -> None:
        """Stop watching."""
        feed = watcher.feed
        feed.watchers.pop(watcher, None)
        if not feed.watchers and self._feeds.get(feed.run_id) is feed:
            del self._feeds[feed.run_id]

    @contextmanager
    def closing(self, watcher: Watcher) -> Iterator[Watcher]:
        """Close the watcher at the end of the block."""
        try:
            yield watcher
        finally:
            self.close(watcher)

    async def _look(self, feed: Feed) -> None:
        """Find out where the log ends: from its owner here, from the tail when it has ended, or from the store."""
        if feed.tenant is not None:
            return
        if (end := self.tail.end(feed.run_id)) is not None:
            feed.tenant = end.tenant
            feed.learn(end.last_seq, end.state)
            return
        if (owned := self._ownership.get(feed.run_id)) is not None:
            feed.tenant = owned.tenant
            feed.learn(owned.stored_seq, owned.stored_state)
            feed.grace = owned.disconnect_grace
            return
        await self._look_up(feed)

    async def _look_up(self, feed: Feed) -> None:
        """Ask the store."""
        if (head := await self.store.head(feed.run_id)) is not None:
            feed.tenant = head.tenant
            feed.oldest_seq = head.oldest_seq
            feed.grace = head.disconnect_grace
            feed.learn(head.last_seq, head.state)

    @staticmethod
    def _admit(tenant: str, feed: Feed, after: int) -> None:
        if feed.tenant != tenant:
            raise not_found(feed.run_id)
        if after < 0:
            raise InvalidArgument("after_seq must not be negative.", field="after_seq")
        if after > feed.last_seq:
            raise CursorAhead(
                f"{feed.run_id} ends at event {feed.last_seq}; event {after} was never stored here.",
                last_seq=str(feed.last_seq),
            )
        if after + 1 < feed.oldest_seq:
            raise expired(feed.run_id, feed.oldest_seq)
