"""Clients of threads: short words for their calls, and a follower that reads a thread's stream message by message."""

from __future__ import annotations

import asyncio
from typing import Any, Self

import grpc

from penstock.v1.event_pb2 import Event
from penstock.v1.message_pb2 import Message
from penstock.v1.run_service_pb2 import DeleteRunRequest
from penstock.v1.thread_pb2 import Thread
from penstock.v1.thread_service_pb2 import (
    CreateThreadRequest,
    DeleteThreadRequest,
    EventRef,
    ForkThreadRequest,
    GetThreadRequest,
    ListMessagesRequest,
    PatchStateRequest,
    SetStateRequest,
    WatchThreadRequest,
    WatchThreadResponse,
)
from tests.core.faults import WAIT
from tests.core.running_core import RunningCore

THREAD = "thr_1"


async def create_thread(core: RunningCore, thread_id: str = THREAD) -> Thread:
    return (await core.threads.CreateThread(CreateThreadRequest(thread_id=thread_id), timeout=WAIT)).thread


async def get_thread(core: RunningCore, thread_id: str = THREAD) -> Thread:
    return (await core.threads.GetThread(GetThreadRequest(thread_id=thread_id), timeout=WAIT)).thread


async def said_in(core: RunningCore, thread_id: str = THREAD) -> list[Message]:
    request = ListMessagesRequest(thread_id=thread_id)
    return list((await core.threads.ListMessages(request, timeout=WAIT)).messages)


async def set_state(core: RunningCore, state_json: str, **fields: Any) -> Thread:
    request = SetStateRequest(thread_id=THREAD, state_json=state_json, **fields)
    return (await core.threads.SetState(request, timeout=WAIT)).thread


async def patch_state(core: RunningCore, patch_json: str, **fields: Any) -> Thread:
    request = PatchStateRequest(thread_id=THREAD, patch_json=patch_json, **fields)
    return (await core.threads.PatchState(request, timeout=WAIT)).thread


async def fork(core: RunningCore, *, event: tuple[str, int] | None = None, **fields: Any) -> Thread:
    at = None if event is None else EventRef(run_id=event[0], seq=event[1])
    request = ForkThreadRequest(**({"thread_id": THREAD, "event": at} | fields))
    return (await core.threads.ForkThread(request, timeout=WAIT)).thread


async def delete_run(core: RunningCore, run_id: str, **fields: Any) -> None:
    """Delete a run. What was seen of it has nothing to be held against any more."""
    await core.runs.DeleteRun(DeleteRunRequest(run_id=run_id, **fields), timeout=2 * WAIT)
    core.sightings[:] = [seen for seen in core.sightings if seen.run_id != run_id]


async def delete_thread(core: RunningCore, thread_id: str = THREAD, **fields: Any) -> None:
    await core.threads.DeleteThread(DeleteThreadRequest(thread_id=thread_id, **fields), timeout=2 * WAIT)


class Follower:
    """A WatchThread call. Events are checked as they come: each run's are consecutive, cursors are what they say."""

    def __init__(self, call: grpc.aio.UnaryStreamCall[WatchThreadRequest, WatchThreadResponse], after: str) -> None:
        self._call = call
        self.cursor = after
        self.seen: list[tuple[str, Event]] = []
        """(run id, event), in order."""
        self.cursors: list[str] = []
        """Of each event."""
        self.caught_up_at: list[int] = []
        """How many events had been seen when the history was said to end."""
        self.messages = 0

    async def read(self) -> WatchThreadResponse:
        """Read one message. Raises the refusal that ended the stream."""
        async with asyncio.timeout(WAIT):
            message = await self._call.read()
        assert isinstance(message, WatchThreadResponse), "the stream of a thread completed"
        self.messages += 1
        if message.events:
            assert message.run_id
            self.seen += [(message.run_id, event) for event in message.events]
            self.cursors += [f"{message.cursor_prefix}{event.seq}" for event in message.events]
            assert message.cursor == self.cursors[-1]
        self.cursor = message.cursor
        if message.caught_up:
            self.caught_up_at.append(len(self.seen))
        return message

    async def read_until(self, kind: str, *, times: int = 1) -> Self:
        """Read until so many events of a kind have been seen."""
        while self.kinds.count(kind) < times:
            await self.read()
        return self

    async def read_until_caught_up(self) -> Self:
        while not self.caught_up_at:
            await self.read()
        return self

    @property
    def kinds(self) -> list[str]:
        return [str(event.WhichOneof("payload")) for _, event in self.seen]

    @property
    def seqs(self) -> dict[str, list[int]]:
        """The seqs of each run, in the order in which the runs came."""
        found: dict[str, list[int]] = {}
        for run_id, event in self.seen:
            found.setdefault(run_id, []).append(event.seq)
        return found

    @property
    def text(self) -> str:
        return "".join(event.part_delta.text for _, event in self.seen)

    def cancel(self) -> None:
        self._call.cancel()


def follow(core: RunningCore, after: str = "", thread_id: str = THREAD) -> Follower:
    """Follow a thread; the call ends with the core."""
    follower = Follower(core.threads.WatchThread(WatchThreadRequest(thread_id=thread_id, after=after)), after)
    core.watches.append(follower)
    return follower
