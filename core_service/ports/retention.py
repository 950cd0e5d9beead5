"""How long things are kept, as the engine sees it. Conventions: `core_service/ports/__init__.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from penstock.v1.message_pb2 import Message


class Kept(Enum):
    """What of an ended run expires by itself."""

    EVENTS = "events"
    MESSAGES = "messages"
    RUNS = "runs"
    """The run with everything that is left of it."""


@dataclass(frozen=True, slots=True)
class Keep:
    """How long after its end a run's things are kept, in microseconds. 0: for ever; None: somebody else says."""

    events: int | None = None
    messages: int | None = None
    runs: int | None = None

    def of(self, what: Kept) -> int | None:
        """Return how long this is kept."""
        return {Kept.EVENTS: self.events, Kept.MESSAGES: self.messages, Kept.RUNS: self.runs}[what]


@dataclass(frozen=True, slots=True)
class Term:
    """What holds for the runs of one agent, all policies considered; 0 is for ever."""

    tenant: str
    agent_id: str
    keep: Keep


class RetentionStore(Protocol):
    """Policies, and the expiry of ended runs in portions that hold nobody up."""

    async def set_policy(self, tenant: str, agent_id: str, keep: Keep) -> None:
        """Set or replace a policy; that of an empty `agent_id` is the tenant's."""
        ...

    async def policies(self, tenant: str, *, after: str | None, limit: int) -> Sequence[tuple[str, Keep]]:
        """Return policies by agent id, behind `after`; None: from the first, which is the tenant's own."""
        ...

    async def delete_policy(self, tenant: str, agent_id: str) -> bool:
        """Remove a policy. False: there is none."""
        ...

    async def terms(self, defaults: Keep, *, after: tuple[str, str], limit: int) -> Sequence[Term]:
        """Return what holds for each agent, by (tenant, agent id) behind `after`: its own policy, else the tenant's,
        else `defaults`, field by field.
        """
        ...

    async def overdue(self, term: Term, what: Kept, *, limit: int) -> Sequence[str]:
        """Return ended runs of which something is kept for longer than it should be, longest ended first.

        A run is not overdue as a whole while its webhook is to be delivered, or a run is to be made of what it left.
        """
        ...

    async def expire_events(self, run_ids: Sequence[str]) -> Sequence[str]:
        """Delete the events of ended runs, oldest first, up to a bound. Returns the runs that have none left.

        What is left of a run begins at its head's oldest_seq; without any that lies behind the last. From the first
        event on that is deleted, folding leaves the run alone.
        """
        ...

    async def expire_messages(self, run_ids: Sequence[str]) -> Sequence[str]:
        """Delete what ended runs brought and said from the histories of their threads. Returns these runs."""
        ...

    async def delete_runs(self, tenant: str, run_ids: Sequence[str]) -> Sequence[str]:
        """Delete ended runs, with what they brought and said in their threads. Returns the runs that are gone.

        They leave remains (`DeletionStore.remains`), and their request ids (ENGINE.md, H4).
        """
        ...

    async def own_messages(self, tenant: str, run_id: str) -> Sequence[Message]:
        """Return what a run itself said, as its thread keeps it: in order, without input and steering."""
        ...
