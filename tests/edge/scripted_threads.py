"""One thread of the scripted core: its state, its answers, and a stream that tests write by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import grpc

from penstock.v1.event_pb2 import Event
from penstock.v1.message_pb2 import Message
from penstock.v1.thread_pb2 import Thread, ThreadStorage
from penstock.v1.thread_service_pb2 import (
    CreateThreadRequest,
    CreateThreadResponse,
    DeleteThreadRequest,
    DeleteThreadResponse,
    ForkThreadRequest,
    ForkThreadResponse,
    GetStorageRequest,
    GetStorageResponse,
    GetThreadRequest,
    GetThreadResponse,
    ListMessagesRequest,
    ListMessagesResponse,
    ListThreadsRequest,
    ListThreadsResponse,
    PatchStateRequest,
    PatchStateResponse,
    SetStateRequest,
    SetStateResponse,
    WatchThreadRequest,
    WatchThreadResponse,
)
from penstock.v1.thread_service_pb2_grpc import ThreadServiceServicer
from tests.edge.scripted_calls import SAID, Context, Refuse, ScriptedCalls, refuse

THREAD_ID = "thr_1"
NO_THREAD = Refuse(grpc.StatusCode.NOT_FOUND, "THREAD_NOT_FOUND")
MOST_EVENTS = 200
"""In one message of the stream."""


@dataclass(slots=True)
class ThreadScript:
    """The thread, and the events of its runs. It outlives a restart of the server."""

    thread: Thread = field(default_factory=lambda: Thread(id=THREAD_ID, state_json='{"n":1.0}', message_count=2))
    events: list[tuple[int, str, Event]] = field(default_factory=list)
    """(place, run id, event), in order."""
    watches: list[str] = field(default_factory=list)
    """The cursors that were asked for, in order."""
    sent: int = 0
    """Events that were sent."""
    is_mute: bool = False
    bells: set[asyncio.Event] = field(default_factory=set)

    def append(self, place: int, *events: Event) -> None:
        """Let the run at a place say more; its id is made of that."""
        self.events += [(place, f"run_{place}", event) for event in events]
        self.ring()

    def ring(self) -> None:
        for bell in self.bells:
            bell.set()

    def position(self, cursor: str) -> int:
        """How many events lie before a cursor, inclusively."""
        cursors = [f"{place}-{event.seq}" for place, _, event in self.events]
        return cursors.index(cursor) + 1 if cursor else 0


class Threads(ThreadServiceServicer):
    """ThreadService over the script."""

    def __init__(self, calls: ScriptedCalls, script: ThreadScript) -> None:
        self._calls = calls
        self._script = script
        self.known: dict[str, Thread] = {}
        """Threads that a test wants besides."""
        self.said = {THREAD_ID: [SAID]}
        """The messages of each thread."""
        self.messages: list[Message] | None = None
        """Those of any thread instead."""

    async def CreateThread(self, request: CreateThreadRequest, context: Context) -> CreateThreadResponse:
        await self._calls.note("CreateThread", request, context)
        return CreateThreadResponse(thread=Thread(id=request.thread_id or THREAD_ID, metadata=request.metadata))

    async def GetThread(self, request: GetThreadRequest, context: Context) -> GetThreadResponse:
        await self._calls.note("GetThread", request, context)
        return GetThreadResponse(thread=await self._find(request.thread_id, context))

    async def ListThreads(self, request: ListThreadsRequest, context: Context) -> ListThreadsResponse:
        await self._calls.note("ListThreads", request, context)
        return ListThreadsResponse(threads=[self._script.thread])

    async def ListMessages(self, request: ListMessagesRequest, context: Context) -> ListMessagesResponse:
        await self._calls.note("ListMessages", request, context)
        messages = self.said.get(request.thread_id) if self.messages is None else self.messages
        if messages is None:
            await refuse(context, NO_THREAD)
        return ListMessagesResponse(messages=messages)

    async def SetState(self, request: SetStateRequest, context: Context) -> SetStateResponse:
        await self._calls.note("SetState", request, context)
        return SetStateResponse(thread=await self._changed(request.thread_id, request.state_json, context))

    async def PatchState(self, request: PatchStateRequest, context: Context) -> PatchStateResponse:
        await self._calls.note("PatchState", request, context)
        return PatchStateResponse(thread=await self._changed(request.thread_id, '{"patched":true}', context))

    async def ForkThread(self, request: ForkThreadRequest, context: Context) -> ForkThreadResponse:
        await self._calls.note("ForkThread", request, context)
        await self._find(request.thread_id, context)
        made = Thread(id=request.new_thread_id or "thr_2", forked_from_thread_id=THREAD_ID, metadata=request.metadata)
        return ForkThreadResponse(thread=made)

    async def DeleteThread(self, request: DeleteThreadRequest, context: Context) -> DeleteThreadResponse:
        await self._calls.note("DeleteThread", request, context)
        await self._find(request.thread_id, context)
        return DeleteThreadResponse()

    async def GetStorage(self, request: GetStorageRequest, context: Context) -> GetStorageResponse:
        await self._calls.note("GetStorage", request, context)
        await self._find(request.thread_id, context)
        return GetStorageResponse(storage=ThreadStorage(thread_id=THREAD_ID, runs=2, event_bytes=1 << 40))

    async def WatchThread(self, request: WatchThreadRequest, context: Context) -> AsyncIterator[WatchThreadResponse]:
        await self._calls.note("WatchThread", request, context)
        await self._find(request.thread_id, context)
        script = self._script
        script.watches.append(request.after)
        bell = asyncio.Event()
        script.bells.add(bell)
        position, is_caught_up = script.position(request.after), False
        try:
            while True:
                bell.clear()
                if not script.is_mute and (batch := _batch(script, position)):
                    position += len(batch.events)
                    script.sent += len(batch.events)
                    yield batch
                elif not script.is_mute and not is_caught_up:
                    is_caught_up = True
                    yield WatchThreadResponse(cursor=request.after if position == 0 else "", caught_up=True)
                else:
                    await bell.wait()
        finally:
            script.bells.discard(bell)

    async def _find(self, thread_id: str, context: Context) -> Thread:
        if thread_id in self.known:
            return self.known[thread_id]
        if thread_id != THREAD_ID:
            await refuse(context, NO_THREAD)
        return self._script.thread

    async def _changed(self, thread_id: str, state_json: str, context: Context) -> Thread:
        thread = await self._find(thread_id, context)
        thread.state_json = state_json
        thread.state_version += 1
        return thread


def _batch(script: ThreadScript, position: int) -> WatchThreadResponse | None:
    """The next events, all of one run."""
    rest = script.events[position : position + MOST_EVENTS]
    if not rest:
        return None
    place, run_id, _ = rest[0]
    events = [event for at, _, event in rest if at == place]
    prefix = f"{place}-"
    cursor = f"{prefix}{events[-1].seq}"
    return WatchThreadResponse(run_id=run_id, events=events, cursor=cursor, cursor_prefix=prefix)
