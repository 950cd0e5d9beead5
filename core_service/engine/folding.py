"""Folding: the many small segments of an ended run become few compressed ones.

A chunk is at most 1 MiB raw and 4,096 events, so that a reader never unpacks more. Watchers do not notice: the same
query finds the chunk.
"""

from __future__ import annotations

import structlog

from core_service.domain.errors import LogDamaged, Refusal
from core_service.domain.segments import cuts
from core_service.engine.metrics import Metrics
from core_service.engine.owned import Ownership
from core_service.ports import Clock, Segment, Store

log = structlog.get_logger(__name__)

MAX_CHUNK_BYTES = 1 << 20
MAX_CHUNK_EVENTS = 4_096
ROWS_PER_READ = 256
RUNS_PER_TURN = 100
RUNS_PER_BUSY_TURN = 10
PAUSE_SECONDS = 5.0
"""Between turns that left nothing to fold."""
BREATH_SECONDS = 0.2
"""Between turns that did."""


class Folding:
    """Folds runs that have been ended for a while."""

    def __init__(self, store: Store, clock: Clock, ownership: Ownership, metrics: Metrics, *, delay: float) -> None:
        self._store = store
        self._clock = clock
        self._ownership = ownership
        self._metrics = metrics
        self._delay = delay
        self._damaged: set[str] = set()

    async def run(self) -> None:
        """Fold until cancelled, a turn at a time; what a turn left or failed to do, the next one does."""
        while True:
            is_behind = False
            try:
                is_behind = await self.fold_some()
            except Refusal as error:
                log.warning("folding failed", reason=error.reason)
            except Exception:  # the loop must live
                log.exception("folding failed")
            await self._clock.sleep(BREATH_SECONDS if is_behind else PAUSE_SECONDS)

    async def fold_some(self) -> bool:
        """Fold some runs, oldest first, and tell whether there may be more.

        While this core is busy only a few, so that folding hardly competes with runs.
        """
        limit = max(RUNS_PER_BUSY_TURN, RUNS_PER_TURN - len(self._ownership)) + len(self._damaged)
        ended_before = self._clock.now() - round(self._delay * 1_000_000)
        found = await self._store.foldable(ended_before=ended_before, limit=limit)
        for run_id in found:
            if run_id not in self._damaged:
                await self._fold_alone(run_id)
        return len(found) == limit

    async def _fold_alone(self, run_id: str) -> None:
        """A damaged log stays as it is, and does not keep the others from being folded."""
        try:
            await self.fold(run_id)
        except (LogDamaged, ValueError) as error:
            log.error("log damaged", run_id=run_id, error=str(error))
            self._metrics.damaged.inc()
            self._damaged.add(run_id)

    async def fold(self, run_id: str) -> None:
        """Fold one ended run."""
        rows: list[Segment] = []
        seq = 0
        while found := await self._store.read_segments(run_id, after_seq=seq, limit=ROWS_PER_READ):
            rows.extend(found)
            seq = found[-1].last_seq
        await self._store.fold(run_id, chunks(rows))
        self._metrics.folded.inc()


def chunks(rows: list[Segment]) -> list[Segment]:
    """Join consecutive rows and cut them anew at the limits of a chunk."""
    found: list[Segment] = []
    first = rows[0].first_seq if rows else 1
    data = b"".join(row.data for row in rows)
    for count, piece in cuts(data, max_bytes=MAX_CHUNK_BYTES, max_records=MAX_CHUNK_EVENTS):
        found.append(Segment(first, first + count - 1, piece))
        first += count
    return found
