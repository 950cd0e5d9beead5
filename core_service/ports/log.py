"""The log of every run, as the engine sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from core_service.ports.records import Append, AppendOutcome, Head, Segment


class LogStore(Protocol):
    """Appends, reads, folding, and the heads that say who may append."""

    async def append(self, batch: Sequence[Append]) -> list[AppendOutcome]:
        """Append to the logs of many runs in one transaction; at most one append per run.

        A call is refused alone, without harm to the others, when heads.fence or heads.last_seq differ. Making the same
        call again is harmless: what was written is WRITTEN. Changes of accepted appends follow in the same transaction.
        What an accepted append notes is written first, then its change. At an end, questions that the log does not
        tell of as settled become WITHDRAWN (EXPIRED at INPUT_EXPIRED), unread steering messages RETURNED or
        TO_FOLLOW_UP, and a delivery is made for `webhook_url`. Any other exception is about the content of some append:
        the caller bisects (ENGINE.md A7).
        """
        ...

    async def read_segments(self, run_id: str, *, after_seq: int, limit: int) -> list[Segment]:
        """Return up to `limit` segments whose last_seq is above `after_seq`, in order.

        The first may begin before it.
        """
        ...

    async def head(self, run_id: str) -> Head | None:
        """Return the head of a run, whatever its tenant; the caller compares the tenant."""
        ...

    async def heads(self, run_ids: Sequence[str]) -> list[Head]:
        """Return the heads of many runs; unknown ones are left out."""
        ...

    async def foldable(self, *, ended_before: int, limit: int) -> list[str]:
        """Return ended runs whose segments have not been folded yet, oldest first."""
        ...

    async def fold(self, run_id: str, chunks: Sequence[Segment]) -> None:
        """Replace all segments of an ended run by `chunks`, compressed. Nothing else about the run changes."""
        ...
