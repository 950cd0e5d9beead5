"""Retention: the policies of tenants and agents, and the loop that deletes what has been kept for long enough.

It goes round all agents, takes one bounded portion of each kind at a time, and pauses after each, so that runs under
way hardly notice. Several cores may go round at once: what one has deleted, the others do not find.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import assert_never

import structlog
from google.protobuf.duration_pb2 import Duration

from core_service.domain.errors import Refusal, RetentionNotFound
from core_service.domain.pages import TextPages
from core_service.domain.retention import check_policy
from core_service.engine.agents import Agents
from core_service.engine.metrics import Metrics
from core_service.engine.tail import Tail
from core_service.ports import Bus, Clock, Keep, Kept, RetentionStore, Ring, Term
from penstock.v1.retention_service_pb2 import ListRetentionRequest, RetentionPolicy

log = structlog.get_logger(__name__)

PAUSE_SECONDS = 30.0
"""Between rounds that left nothing, give or take a fifth: several cores take turns by that."""
BREATH_SECONDS = 0.05
"""After each portion."""
RUNS_PER_PORTION = 100
TERMS_PER_READ = 200

EXPIRED = "expired"
"""The topic of the bus that tells of expired events."""
ORDER = (Kept.RUNS, Kept.EVENTS, Kept.MESSAGES)
"""What goes as a whole needs not go in parts first."""

# A policy's place in the list; a token cannot hold the empty id of the tenant's own.
_PAGES = TextPages("retention")
_MARK = "="


class Retention:
    """The use cases of RetentionService, and the loop."""

    def __init__(
        self,
        *,
        store: RetentionStore,
        bus: Bus,
        clock: Clock,
        agents: Agents,
        tail: Tail,
        metrics: Metrics,
        defaults: Keep,
        on_deleted: Callable[[Sequence[str]], None],
    ) -> None:
        """`on_deleted` is called with runs that are gone and have remains."""
        self._store = store
        self._bus = bus
        self._clock = clock
        self._agents = agents
        self._tail = tail
        self._metrics = metrics
        self._defaults = defaults
        self._on_deleted = on_deleted

    # ── policies ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def set(self, tenant: str, policy: RetentionPolicy) -> RetentionPolicy:
        """Set or replace a policy. Refuses with AgentNotFound."""
        check_policy(policy)
        if policy.agent_id:
            await self._agents.get(tenant, policy.agent_id)
        keep = Keep(
            events=_micros(policy.keep_events) if policy.HasField("keep_events") else None,
            messages=_micros(policy.keep_messages) if policy.HasField("keep_messages") else None,
            runs=_micros(policy.keep_runs) if policy.HasField("keep_runs") else None,
        )
        await self._store.set_policy(tenant, policy.agent_id, keep)
        return _policy(policy.agent_id, keep)

    async def page(self, tenant: str, request: ListRetentionRequest) -> tuple[Sequence[RetentionPolicy], str]:
        """Return a page of policies, the tenant's own first, and the token of the next."""
        size, text = _PAGES.read(request.page_size, request.page_token)
        after = text.removeprefix(_MARK) if text else None
        found = await self._store.policies(tenant, after=after, limit=size + 1)
        token = _PAGES.token(_MARK + found[size - 1][0]) if len(found) > size else ""
        return [_policy(agent_id, keep) for agent_id, keep in found[:size]], token

    async def delete(self, tenant: str, agent_id: str) -> None:
        """Remove a policy. Refuses with RetentionNotFound."""
        if not await self._store.delete_policy(tenant, agent_id):
            whose = f"{agent_id[:80]!r} has no policy of its own" if agent_id else "The tenant has no policy"
            raise RetentionNotFound(f"{whose}.", agent_id=agent_id[:80])

    # ── the loop ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Delete what is overdue until cancelled. What fails is overdue in the next round."""
        while True:
            is_behind = False
            try:
                is_behind = await self.round()
            except Refusal as error:
                log.warning("retention failed", reason=error.reason)
            except Exception:  # the loop must live
                log.exception("retention failed")
            if not is_behind:
                await self._clock.sleep(PAUSE_SECONDS * random.uniform(0.8, 1.2))

    async def round(self) -> bool:
        """Take one portion of each kind from each agent, and tell whether there may be more."""
        is_behind = False
        async for term in self._terms():
            for what in ORDER:
                if term.keep.of(what) and await self._portion(term, what):
                    is_behind = True
                    await self._clock.sleep(BREATH_SECONDS)
        return is_behind

    async def _portion(self, term: Term, what: Kept) -> bool:
        """Take one portion, and tell whether there was anything to take."""
        overdue = await self._store.overdue(term, what, limit=RUNS_PER_PORTION)
        if not overdue:
            return False
        done = await self._expire(term.tenant, what, overdue)
        self._metrics.expired.labels(what.value).inc(len(done))
        return True

    async def _expire(self, tenant: str, what: Kept, run_ids: Sequence[str]) -> Sequence[str]:
        match what:
            case Kept.RUNS:
                gone = await self._store.delete_runs(tenant, run_ids)
                self._on_deleted(gone)
                self._tell(gone)
                return gone
            case Kept.EVENTS:
                expired = await self._store.expire_events(run_ids)
                self._tell(run_ids)
                return expired
            case Kept.MESSAGES:
                return await self._store.expire_messages(run_ids)
            case _:
                assert_never(what)

    def _tell(self, run_ids: Sequence[str]) -> None:
        self._bus.ring([Ring(EXPIRED, run_id) for run_id in run_ids])

    def rung(self, run_id: str) -> None:
        """Listen to the bus: what is in memory of this run is not kept any more."""
        self._tail.forget(run_id)

    async def _terms(self) -> AsyncIterator[Term]:
        after = ("", "")
        while terms := await self._store.terms(self._defaults, after=after, limit=TERMS_PER_READ):
            for term in terms:
                yield term
            after = (terms[-1].tenant, terms[-1].agent_id)


def _policy(agent_id: str, keep: Keep) -> RetentionPolicy:
    policy = RetentionPolicy(agent_id=agent_id)
    for target, micros in (
        (policy.keep_events, keep.events),
        (policy.keep_messages, keep.messages),
        (policy.keep_runs, keep.runs),
    ):
        if micros is not None:
            target.FromMicroseconds(micros)
            target.SetInParent()
    return policy


def _micros(duration: Duration) -> int:
    return duration.ToMicroseconds()
