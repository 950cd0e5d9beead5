"""Calls about runs: start, watch, wait, list, cancel, delete."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from penstock.client.caller import Caller, duration, new_request_id, timestamp
from penstock.client.run_text import RunText
from penstock.client.watches import events
from penstock.errors import RunFailed
from penstock.input import to_messages
from penstock.v1 import run_service_pb2
from penstock.v1.event_pb2 import Event
from penstock.v1.message_pb2 import Message
from penstock.v1.run_pb2 import EndReason, Run, RunOptions, RunState
from penstock.v1.run_service_pb2 import WatchRunResponse

if TYPE_CHECKING:
    from penstock.v1.run_service_pb2_grpc import RunServiceAsyncStub

LONGEST_WAIT = 60.0
"""Seconds of one WaitRun call; a longer wait is several."""

_AT_REST = frozenset(
    (
        RunState.RUN_STATE_WAITING,
        RunState.RUN_STATE_SUCCEEDED,
        RunState.RUN_STATE_FAILED,
        RunState.RUN_STATE_CANCELLED,
    )
)


class RunCalls:
    """The part of a client that is about runs."""

    _caller: Caller
    _runs: RunServiceAsyncStub

    async def create(
        self,
        agent_id: str,
        input: object,
        *,
        thread_id: str = "",
        options: RunOptions | None = None,
        metadata: Mapping[str, str] | None = None,
        request_id: str = "",
    ) -> Run:
        """Start a run and return it. The input is text, a message, several messages, or any other JSON value.

        The same `request_id` and arguments return the same run; without one, only this call's own repeats do.
        """
        request = _create_request(agent_id, input, thread_id, options, metadata, request_id)
        return (await self._caller.call(self._runs.CreateRun, request)).run

    def stream(
        self,
        agent_id: str,
        input: object,
        *,
        thread_id: str = "",
        options: RunOptions | None = None,
        metadata: Mapping[str, str] | None = None,
        request_id: str = "",
    ) -> AsyncGenerator[Event, None]:
        """Start a run and yield its events, from the first to `run_ended`. Leaving early does not stop the run."""
        create = _create_request(agent_id, input, thread_id, options, metadata, request_id)
        return self._events(create, run_id="", after=0)

    def watch(self, run_id: str, *, after: int = 0) -> AsyncGenerator[Event, None]:
        """Yield the events behind the seq `after`, then those to come, to `run_ended`."""
        return self._events(None, run_id=run_id, after=after)

    async def text(
        self,
        agent_id: str,
        input: object,
        *,
        thread_id: str = "",
        options: RunOptions | None = None,
        metadata: Mapping[str, str] | None = None,
        request_id: str = "",
    ) -> str:
        """Start a run, wait for its end, and return its text. Raises RunFailed unless it succeeded."""
        told = RunText()
        async for event in self.stream(
            agent_id, input, thread_id=thread_id, options=options, metadata=metadata, request_id=request_id
        ):
            told.feed(event)
        if told.end.state != RunState.RUN_STATE_SUCCEEDED:
            raise RunFailed(told.run_id, told.end)
        return told.text

    async def wait(self, run_id: str, *, timeout: float | None = None) -> Run:
        """Return the run once it has ended or waits for an answer; after `timeout` seconds as it is."""
        rest = timeout if timeout is not None else float("inf")
        while True:
            lap = min(rest, LONGEST_WAIT)
            request = run_service_pb2.WaitRunRequest(run_id=run_id, timeout=duration(lap))
            run = (await self._caller.call(self._runs.WaitRun, request, extra=lap)).run
            rest -= lap
            if run.state in _AT_REST or rest <= 0:
                return run

    async def get(self, run_id: str) -> Run:
        """Return a run as it is."""
        return (await self._caller.call(self._runs.GetRun, run_service_pb2.GetRunRequest(run_id=run_id))).run

    async def snapshot(self, run_id: str) -> tuple[Run, Sequence[Message]]:
        """Return a run and what was said in it so far; a watch after the run's `last_seq` goes on from there."""
        request = run_service_pb2.GetRunRequest(run_id=run_id, view=run_service_pb2.RunView.RUN_VIEW_FULL)
        answer = await self._caller.call(self._runs.GetRun, request)
        return answer.run, answer.messages

    async def cancel(
        self, run_id: str, *, reason: EndReason.ValueType = EndReason.END_REASON_USER, request_id: str = ""
    ) -> Run:
        """Ask a run to stop, and return it as it is. A run that has ended stays as it is."""
        request = run_service_pb2.CancelRunRequest(
            request_id=request_id or new_request_id(), run_id=run_id, reason=reason
        )
        return (await self._caller.call(self._runs.CancelRun, request)).run

    async def cancel_all(
        self,
        *,
        thread_id: str = "",
        agent_id: str = "",
        states: Iterable[RunState.ValueType] = (),
        created_before: datetime | None = None,
        metadata: Mapping[str, str] | None = None,
        every_one: bool = False,
        reason: EndReason.ValueType = EndReason.END_REASON_USER,
    ) -> Sequence[str]:
        """Ask all active runs that match to stop, and return their ids. Really all of them only when told so."""
        cancelled: list[str] = []
        states = tuple(states)
        while True:
            request = run_service_pb2.CancelRunsRequest(
                request_id=new_request_id(),
                thread_id=thread_id,
                agent_id=agent_id,
                states=states,
                created_before=timestamp(created_before),
                metadata=metadata,
                all=every_one,
                reason=reason,
            )
            page = await self._caller.call(self._runs.CancelRuns, request)
            cancelled += page.run_ids
            if not page.more:
                return cancelled

    async def delete(self, run_id: str, *, cancel: bool = False, request_id: str = "") -> None:
        """Delete a run with its log. One that is active is refused with RUN_ACTIVE unless it may be cancelled first."""
        request = run_service_pb2.DeleteRunRequest(
            request_id=request_id or new_request_id(), run_id=run_id, cancel=cancel
        )
        await self._caller.call(self._runs.DeleteRun, request)

    def list(
        self,
        *,
        thread_id: str = "",
        agent_id: str = "",
        states: Iterable[RunState.ValueType] = (),
        created_since: datetime | None = None,
        created_before: datetime | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Run]:
        """Yield runs, newest first: those that have all these labels, of this time, in one of these states."""
        request = run_service_pb2.ListRunsRequest(
            thread_id=thread_id,
            agent_id=agent_id,
            states=states,
            created_since=timestamp(created_since),
            created_before=timestamp(created_before),
            metadata=metadata,
        )
        return self._caller.pages(self._runs.ListRuns, request, lambda page: page.runs)

    def _events(
        self, create: run_service_pb2.CreateRunRequest | None, *, run_id: str, after: int
    ) -> AsyncGenerator[Event, None]:
        """The events of a run. Until its id is known it is created, again and again: that makes one run."""

        async def open_watch(run_id: str, after: int) -> AsyncGenerator[WatchRunResponse, None]:
            batches = (
                self._runs.WatchRun(run_service_pb2.WatchRunRequest(run_id=run_id, after_seq=after))
                if run_id
                else self._runs.StreamRun(run_service_pb2.StreamRunRequest(create=create))
            )
            try:
                async for batch in batches:
                    yield batch
            finally:
                batches.cancel()

        return events(open_watch, run_id=run_id, after=after, patience=self._caller.patience())


def _create_request(
    agent_id: str,
    given: object,
    thread_id: str,
    options: RunOptions | None,
    metadata: Mapping[str, str] | None,
    request_id: str,
) -> run_service_pb2.CreateRunRequest:
    return run_service_pb2.CreateRunRequest(
        request_id=request_id or new_request_id(),
        agent_id=agent_id,
        thread_id=thread_id,
        input=to_messages(given),
        options=options,
        metadata=metadata,
    )
