"""Forking a thread: at its end, behind a message, or in the middle of a run, behind one of its events."""

from __future__ import annotations

from core_service.domain.errors import InvalidArgument, RunNotFound
from core_service.domain.ids import new_id
from core_service.domain.run_requests import check_labels, check_thread_id
from core_service.engine.logs import Logs
from core_service.engine.request_keys import request_key
from core_service.engine.watch import expired
from core_service.ports import AtEnd, AtEvent, AtMessage, Clock, ForkPoint, Store
from penstock.v1.thread_pb2 import Thread
from penstock.v1.thread_service_pb2 import EventRef, ForkThreadRequest


class ThreadForks:
    """The use case of ForkThread."""

    def __init__(self, store: Store, logs: Logs, clock: Clock) -> None:
        self._store = store
        self._logs = logs
        self._clock = clock

    async def fork(self, tenant: str, request: ForkThreadRequest) -> Thread:
        """Make a thread with the messages and the state of another one up to some point, and return it.

        Refuses with ThreadNotFound, MessageNotFound, RunNotFound, ThreadExists, EventsExpired, IdempotencyMismatch.
        """
        key = request_key("fork_thread", tenant, request)
        check_thread_id(request.new_thread_id)
        check_labels(request.metadata)
        thread = Thread(
            id=request.new_thread_id or new_id("thr"),
            metadata=request.metadata,
            forked_from_thread_id=request.thread_id,
        )
        thread.create_time.FromMicroseconds(self._clock.now())
        at = await self._point(tenant, request)
        return await self._store.fork_thread(tenant, request.thread_id, thread, at, request=key)

    async def _point(self, tenant: str, request: ForkThreadRequest) -> ForkPoint:
        match request.WhichOneof("at"):
            case "message_id":
                return AtMessage(request.message_id)
            case "event":
                return await self._at_event(tenant, request.event)
            case _:
                return AtEnd()

    async def _at_event(self, tenant: str, event: EventRef) -> AtEvent:
        """Read the run's log up to the event: it tells what had been said, and what the state was."""
        head = await self._store.head(event.run_id)
        state_before = await self._store.state_before(tenant, event.run_id)
        if head is None or state_before is None:
            raise RunNotFound(f"There is no run {event.run_id[:80]!r}.", run_id=event.run_id[:80])
        if not 1 <= event.seq <= head.last_seq:
            raise InvalidArgument(f"The run has events 1 to {head.last_seq}, not {event.seq}.", field="event.seq")
        if head.oldest_seq > 1:
            raise expired(event.run_id, head.oldest_seq)
        records = await self._store.run_records(event.run_id)
        grammar = await self._logs.grammar(event.run_id, up_to=event.seq, records=records, state_json=state_before)
        return AtEvent(event.run_id, tuple(grammar.history()), grammar.state_json)
