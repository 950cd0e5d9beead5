"""The async client for services that speak gRPC to a core.

Owns what makes a core's restart invisible: request ids, so that a repeated call changes nothing twice, and watches that
go on behind the last event they saw. What it takes and returns are messages of the contract; what fails raises one of
`penstock.errors`.

    async with Client("127.0.0.1:50051") as client:
        async for event in client.stream("echo", "hi"):
            print(event.part_delta.text, end="")
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self, TypeAlias, TypeVar

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration

from penstock.answers import Answer
from penstock.calls import Patience, call
from penstock.errors import RunFailed
from penstock.grpc_options import CHANNEL_OPTIONS
from penstock.input import to_messages
from penstock.v1 import agent_service_pb2, run_service_pb2, thread_service_pb2
from penstock.v1.agent_pb2 import Agent
from penstock.v1.agent_service_pb2_grpc import AgentServiceStub
from penstock.v1.event_pb2 import Event
from penstock.v1.message_pb2 import Message
from penstock.v1.run_pb2 import EndReason, Run, RunOptions, RunState
from penstock.v1.run_service_pb2_grpc import RunServiceStub
from penstock.v1.thread_pb2 import Thread
from penstock.v1.thread_service_pb2_grpc import ThreadServiceStub

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


class _ListRequest(Protocol):
    page_token: str


class _ListResponse(Protocol):
    next_page_token: str


_Batches: TypeAlias = (
    grpc.aio.UnaryStreamCall[run_service_pb2.WatchRunRequest, run_service_pb2.WatchRunResponse]
    | grpc.aio.UnaryStreamCall[run_service_pb2.StreamRunRequest, run_service_pb2.WatchRunResponse]
)

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")
PageRequest = TypeVar("PageRequest", bound=_ListRequest)
PageResponse = TypeVar("PageResponse", bound=_ListResponse)
Item = TypeVar("Item")


class Client:
    """A connection to a core, or to a load balancer before several. An async context manager."""

    def __init__(self, address: str = "127.0.0.1:50051", *, timeout: float = 30.0, patience: float = 60.0) -> None:
        """`timeout` is that of one call, in seconds; without a core, calls and watches are repeated for `patience`."""
        self.address = address
        self._timeout = timeout
        self._patience = patience

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(self.address, options=CHANNEL_OPTIONS)
        self._agents = AgentServiceStub(self._channel)
        self._threads = ThreadServiceStub(self._channel)
        self._runs = RunServiceStub(self._channel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._channel.close()

    # ── runs ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def create(
        self,
        agent_id: str,
        input: object = "",
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
        return (await self._call(self._runs.CreateRun, request)).run

    def stream(
        self,
        agent_id: str,
        input: object = "",
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
        input: object = "",
        *,
        thread_id: str = "",
        options: RunOptions | None = None,
        metadata: Mapping[str, str] | None = None,
        request_id: str = "",
    ) -> str:
        """Start a run, wait for its end, and return its text. Raises RunFailed unless it succeeded."""
        answer = Answer()
        async for event in self.stream(
            agent_id, input, thread_id=thread_id, options=options, metadata=metadata, request_id=request_id
        ):
            answer.feed(event)
        if answer.end.state != RunState.RUN_STATE_SUCCEEDED:
            raise RunFailed(answer.run_id, answer.end)
        return answer.text

    async def wait(self, run_id: str, *, timeout: float | None = None) -> Run:
        """Return the run once it has ended or waits for an answer; after `timeout` seconds as it is."""
        rest = timeout if timeout is not None else float("inf")
        while True:
            lap = min(rest, LONGEST_WAIT)
            request = run_service_pb2.WaitRunRequest(run_id=run_id, timeout=_duration(lap))
            run = (await self._call(self._runs.WaitRun, request, extra=lap)).run
            rest -= lap
            if run.state in _AT_REST or rest <= 0:
                return run

    async def get(self, run_id: str) -> Run:
        """Return a run as it is."""
        return (await self._call(self._runs.GetRun, run_service_pb2.GetRunRequest(run_id=run_id))).run

    async def snapshot(self, run_id: str) -> tuple[Run, Sequence[Message]]:
        """Return a run and what was said in it so far; a watch after the run's `last_seq` goes on from there."""
        request = run_service_pb2.GetRunRequest(run_id=run_id, view=run_service_pb2.RunView.RUN_VIEW_FULL)
        answer = await self._call(self._runs.GetRun, request)
        return answer.run, answer.messages

    async def cancel(
        self, run_id: str, *, reason: EndReason.ValueType = EndReason.END_REASON_USER, request_id: str = ""
    ) -> Run:
        """Ask a run to stop, and return it as it is. A run that has ended stays as it is."""
        request = run_service_pb2.CancelRunRequest(
            request_id=request_id or _new_request_id(), run_id=run_id, reason=reason
        )
        return (await self._call(self._runs.CancelRun, request)).run

    def list(
        self, *, thread_id: str = "", agent_id: str = "", states: Iterable[RunState.ValueType] = ()
    ) -> AsyncIterator[Run]:
        """Yield runs, newest first."""
        request = run_service_pb2.ListRunsRequest(thread_id=thread_id, agent_id=agent_id, states=states)
        return self._pages(self._runs.ListRuns, request, lambda page: page.runs)

    # ── threads and agents ────────────────────────────────────────────────────────────────────────────────────────────

    async def create_thread(
        self, thread_id: str = "", *, metadata: Mapping[str, str] | None = None, request_id: str = ""
    ) -> Thread:
        """Start a conversation. Runs that name no thread get one by themselves."""
        request = thread_service_pb2.CreateThreadRequest(
            request_id=request_id or _new_request_id(), thread_id=thread_id, metadata=metadata
        )
        return (await self._call(self._threads.CreateThread, request)).thread

    async def thread(self, thread_id: str) -> Thread:
        """Return a thread."""
        request = thread_service_pb2.GetThreadRequest(thread_id=thread_id)
        return (await self._call(self._threads.GetThread, request)).thread

    def threads(self) -> AsyncIterator[Thread]:
        """Yield threads, newest first."""
        request = thread_service_pb2.ListThreadsRequest()
        return self._pages(self._threads.ListThreads, request, lambda page: page.threads)

    def messages(self, thread_id: str) -> AsyncIterator[Message]:
        """Yield what was said in a thread, oldest first."""
        request = thread_service_pb2.ListMessagesRequest(thread_id=thread_id)
        return self._pages(self._threads.ListMessages, request, lambda page: page.messages)

    async def agent(self, agent_id: str) -> Agent:
        """Return an agent."""
        request = agent_service_pb2.GetAgentRequest(agent_id=agent_id)
        return (await self._call(self._agents.GetAgent, request)).agent

    def agents(self) -> AsyncIterator[Agent]:
        """Yield all agents, by id."""
        request = agent_service_pb2.ListAgentsRequest()
        return self._pages(self._agents.ListAgents, request, lambda page: page.agents)

    # ── how ───────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[RequestT, ResponseT],
        request: RequestT,
        *,
        extra: float = 0.0,
    ) -> ResponseT:
        return await call(lambda: method(request, timeout=self._timeout + extra), patience=self._patience)

    async def _pages(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[PageRequest, PageResponse],
        request: PageRequest,
        items: Callable[[PageResponse], Iterable[Item]],
    ) -> AsyncIterator[Item]:
        while True:
            page = await self._call(method, request)
            for item in items(page):
                yield item
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def _events(
        self, create: run_service_pb2.CreateRunRequest | None, *, run_id: str, after: int
    ) -> AsyncGenerator[Event, None]:
        """The events of a run: a new stream goes on where the last one broke. Until its id is known it is created."""
        patience = Patience(self._patience)
        while True:
            batches = self._open(create, run_id, after)
            try:
                async for batch in batches:
                    patience.renew()
                    run_id = batch.run_id or run_id
                    for event in batch.events:
                        after = event.seq
                        yield event
                return  # only the end of the run completes a stream
            except grpc.aio.AioRpcError as error:
                await patience.bear(error)
            finally:
                batches.cancel()

    def _open(self, create: run_service_pb2.CreateRunRequest | None, run_id: str, after: int) -> _Batches:
        if run_id:
            return self._runs.WatchRun(run_service_pb2.WatchRunRequest(run_id=run_id, after_seq=after))
        return self._runs.StreamRun(run_service_pb2.StreamRunRequest(create=create))


def _create_request(
    agent_id: str,
    given: object,
    thread_id: str,
    options: RunOptions | None,
    metadata: Mapping[str, str] | None,
    request_id: str,
) -> run_service_pb2.CreateRunRequest:
    return run_service_pb2.CreateRunRequest(
        request_id=request_id or _new_request_id(),
        agent_id=agent_id,
        thread_id=thread_id,
        input=to_messages(given),
        options=options,
        metadata=metadata,
    )


def _new_request_id() -> str:
    return uuid.uuid4().hex


def _duration(seconds: float) -> Duration:
    whole = int(seconds)
    return Duration(seconds=whole, nanos=int((seconds - whole) * 1e9))
