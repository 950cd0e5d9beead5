"""What the core holds of a chat: whether its thread has messages, which ones, and its newest run.

Owns the calls that find out. A chat id is a thread id. The ids of a thread's messages are read only where a decision
needs them: its messages come with them, and tools may have said a lot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from edge.core import CoreClient
from edge.lists import all_messages, find_thread
from penstock.v1.run_pb2 import Run, RunState
from penstock.v1.run_service_pb2 import GetRunRequest, ListRunsRequest

"""Messages asked for at a time: a page must stay below gRPC's limit, and messages may be long."""

ACTIVE = (RunState.RUN_STATE_QUEUED, RunState.RUN_STATE_RUNNING, RunState.RUN_STATE_WAITING)


@dataclass(frozen=True, slots=True)
class Conversation:
    """A thread, as far as the next request needs it."""

    has_messages: bool = False
    newest: Run | None = None
    runs: Mapping[str, str] = field(default_factory=dict)
    """The run that a message came with, by the message's id: ours, and the client's if it has one. May be unread."""


async def read_conversation(core: CoreClient, thread_id: str, *, with_ids: bool) -> Conversation:
    """Return what there is, `with_ids` the messages' too; a thread that does not exist holds nothing."""
    if not thread_id:
        return Conversation()
    if with_ids:
        newest, runs = await asyncio.gather(_newest(core, thread_id), _runs(core, thread_id))
        return Conversation(has_messages=bool(runs), newest=newest, runs=runs)
    newest, thread = await asyncio.gather(_newest(core, thread_id), find_thread(core, thread_id))
    has_messages = thread is not None and thread.message_count > 0
    return Conversation(has_messages=has_messages, newest=newest)


async def active_runs(core: CoreClient, thread_id: str, *, most: int) -> list[Run]:
    """Return the runs of a thread that have not ended and are not about to, newest first."""
    asked = ListRunsRequest(thread_id=thread_id, states=ACTIVE, page_size=most)
    runs = (await core.call(core.runs.ListRuns, asked)).runs
    return [run for run in runs if not run.cancel_requested]


async def _newest(core: CoreClient, thread_id: str) -> Run | None:
    runs = (await core.call(core.runs.ListRuns, ListRunsRequest(thread_id=thread_id, page_size=1))).runs
    if not runs or runs[0].state != RunState.RUN_STATE_WAITING:
        return runs[0] if runs else None
    return (await core.call(core.runs.GetRun, GetRunRequest(run_id=runs[0].id))).run  # with its questions


async def _runs(core: CoreClient, thread_id: str) -> dict[str, str]:
    thread = await find_thread(core, thread_id)
    if thread is None or not thread.message_count:
        return {}
    runs: dict[str, str] = {}
    async for message in all_messages(core, thread_id):
        runs[message.id] = message.run_id
        if message.client_id:
            runs[message.client_id] = message.run_id
    return runs
