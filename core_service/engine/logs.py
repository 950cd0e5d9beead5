"""Reading whole logs back: pages of events, and the grammar of a run as its log tells it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from core_service.domain.errors import EventsExpired, LogDamaged
from core_service.domain.grammar import Grammar, StepKey
from core_service.domain.records import RunRecords
from core_service.domain.segments import events, skip
from core_service.engine.watch import WatchHub, expired
from core_service.ports import Segment, Store
from penstock.v1.event_pb2 import Event
from penstock.v1.run_service_pb2 import ListEventsResponse, WatchRunResponse

ROWS_PER_READ = 64
MAX_PAGE_EVENTS = 10_000
DEFAULT_PAGE_EVENTS = 1_000
MAX_PAGE_BYTES = 1 << 20


class Logs:
    """Reads logs from the store; what it returns is committed."""

    def __init__(self, store: Store, hub: WatchHub) -> None:
        self._store = store
        self._hub = hub

    async def page(self, tenant: str, run_id: str, *, after_seq: int, page_size: int) -> ListEventsResponse:
        """Return up to `page_size` events behind a cursor, about 1 MiB at most. Refuses as a watch does."""
        size = min(page_size or DEFAULT_PAGE_EVENTS, MAX_PAGE_EVENTS)
        watcher = await self._hub.open(tenant, run_id, after_seq, lambda _: None)
        found: list[Event] = []
        with self._hub.closing(watcher):
            read = 0
            while len(found) < size and read < MAX_PAGE_BYTES:
                segment = await watcher.next(MAX_PAGE_BYTES)
                if segment is None:
                    break
                read += len(segment.data)
                found.extend(WatchRunResponse.FromString(segment.data).events)
            return ListEventsResponse(events=found[:size], head_seq=watcher.feed.last_seq)

    async def grammar(
        self,
        run_id: str,
        *,
        up_to: int,
        records: RunRecords | None = None,
        state_json: str | None = None,
        state_version: int = 0,
    ) -> Grammar:
        """Fold the log up to and with a seq. Mere readers need not know what no log holds: records, and the state.
        Refuses with EventsExpired.

        The folding is done in a thread: a long log takes tens of milliseconds.
        """
        data = [segment async for segment in self._segments(run_id, up_to)]
        read = (event for piece in data for event in events(piece) if event.seq <= up_to)
        kept = records or RunRecords()
        return await asyncio.to_thread(
            Grammar.rebuild,
            read,
            ask_keys={row.key: row.request.id for row in kept.questions},
            step_keys={row.started_seq: StepKey(row.key, row.parent_key, row.args_hash) for row in kept.steps},
            read_messages=[row.message.id for row in kept.inbox if row.read_no is not None],
            state_json=state_json,
            state_version=state_version,
        )

    async def _segments(self, run_id: str, up_to: int) -> AsyncIterator[bytes]:
        seq = 0
        while seq < up_to:
            rows = await self._store.read_segments(run_id, after_seq=seq, limit=ROWS_PER_READ)
            for row in rows:
                if row.first_seq > seq + 1:
                    raise await self._gap(run_id, seq)
                yield _behind(row, seq)
                seq = row.last_seq
            if not rows:
                raise await self._gap(run_id, seq)

    async def _gap(self, run_id: str, seq: int) -> EventsExpired | LogDamaged:
        """Return why a log has nothing behind a seq that lies within it."""
        head = await self._store.head(run_id)
        if head is not None and seq + 1 < head.oldest_seq:
            return expired(run_id, head.oldest_seq)
        return LogDamaged(f"The log of {run_id} has no event {seq + 1}.")


def _behind(row: Segment, seq: int) -> bytes:
    return row.data if row.first_seq == seq + 1 else row.data[skip(row.data, seq + 1 - row.first_seq) :]
