"""What threads hold, in the store: their state, their forks, their runs in order, what they occupy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from core_service.ports.records import RequestKey
from penstock.v1.message_pb2 import Message
from penstock.v1.thread_pb2 import Thread, ThreadStorage


@dataclass(frozen=True, slots=True)
class AtEnd:
    """A fork of everything that the thread holds now."""


@dataclass(frozen=True, slots=True)
class AtMessage:
    """A fork of everything up to a message, with the state from which the next run behind it set out."""

    message_id: str


@dataclass(frozen=True, slots=True)
class AtEvent:
    """A fork in the middle of a run: what was there before it, its input, and what it had said."""

    run_id: str
    said: tuple[Message, ...]
    """In order; stored with new ids."""
    state_json: str


ForkPoint: TypeAlias = AtEnd | AtMessage | AtEvent


@dataclass(frozen=True, slots=True)
class RunInThread:
    """A run and its place among the runs of its thread."""

    run_id: str
    place: int


class HistoryStore(Protocol):
    """What threads hold. Methods refuse with ThreadNotFound where there is none, and with IdempotencyMismatch where
    they take a request.
    """

    async def look_at_thread(self, tenant: str, thread_id: str, *, request: RequestKey | None) -> tuple[Thread, bool]:
        """Return a thread, and whether this request has been carried out before."""
        ...

    async def set_state(
        self, tenant: str, thread_id: str, state_json: str, *, expected_version: int | None, request: RequestKey | None
    ) -> Thread:
        """Replace the state of an idle thread: version + 1. Returns the thread; a known request changes nothing.

        Refuses with ThreadBusy while a run is active or waits for its turn, and with StateChanged when the version is
        not the expected one (None: any).
        """
        ...

    async def state_before(self, tenant: str, run_id: str) -> str | None:
        """Return the thread's state from which a run set out; one that has not started yet would find the newest.

        Empty when the state was never set. None: no such run.
        """
        ...

    async def fork_thread(
        self, tenant: str, source_id: str, thread: Thread, at: ForkPoint, *, request: RequestKey | None
    ) -> Thread:
        """Make `thread` with the state of another one and copies of its shown messages up to a point: order, places
        and clients' ids are kept, the ids are new.

        A known request returns the thread of its first call. Refuses with ThreadExists, MessageNotFound, RunNotFound
        (also when the run is not one of the source).
        """
        ...

    async def next_runs(self, tenant: str, thread_id: str, *, place: int, limit: int) -> list[RunInThread]:
        """Return the runs at a place and behind it, in order. Delayed runs have none before they are due."""
        ...

    async def newest_places(self, tenant: str, thread_ids: Sequence[str]) -> dict[str, int]:
        """Return the newest place of each of these threads, and so whether it has grown; unknown ones are left out."""
        ...

    async def storage_of(self, tenant: str, thread_id: str) -> ThreadStorage:
        """Return what a thread occupies."""
        ...
