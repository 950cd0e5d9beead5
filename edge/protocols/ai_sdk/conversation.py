"""What the core holds of a chat: which messages the thread knows, and its newest run.

Owns the calls that find out. A chat id is a thread id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import grpc

from edge.core import CoreClient
from penstock.v1.run_pb2 import Run, RunState
from penstock.v1.run_service_pb2 import GetRunRequest, ListRunsRequest
from penstock.v1.thread_service_pb2 import ListMessagesRequest

PAGE_SIZE = 200
"""Messages asked for at a time: a page must stay below gRPC's limit, and messages may be long."""

ACTIVE = (RunState.RUN_STATE_QUEUED, RunState.RUN_STATE_RUNNING, RunState.RUN_STATE_WAITING)


@dataclass(frozen=True, slots=True)
class Conversation:
    """A thread, as far as the next request needs it."""

    runs: Mapping[str, str] = field(default_factory=dict)
    """The run that a message came with, by the message's id: ours, and the client's if it has one."""
    newest: Run | None = None


async def read_conversation(core: CoreClient, thread_id: str) -> Conversation:
    """Return what there is; a thread that does not exist holds nothing."""
    if not thread_id:
        return Conversation()
    runs, newest = await asyncio.gather(_messages(core, thread_id), _newest(core, thread_id))
    if newest is not None and newest.state == RunState.RUN_STATE_WAITING:
        newest = (await core.call(core.runs.GetRun, GetRunRequest(run_id=newest.id))).run  # with its questions
    return Conversation(runs, newest)


async def active_runs(core: CoreClient, thread_id: str, *, most: int) -> list[Run]:
    """Return the runs of a thread that have not ended and are not about to, newest first."""
    asked = ListRunsRequest(thread_id=thread_id, states=ACTIVE, page_size=most)
    runs = (await core.call(core.runs.ListRuns, asked)).runs
    return [run for run in runs if not run.cancel_requested]


async def _newest(core: CoreClient, thread_id: str) -> Run | None:
    runs = (await core.call(core.runs.ListRuns, ListRunsRequest(thread_id=thread_id, page_size=1))).runs
    return runs[0] if runs else None


async def _messages(core: CoreClient, thread_id: str) -> dict[str, str]:
    runs: dict[str, str] = {}
    page = ListMessagesRequest(thread_id=thread_id, page_size=PAGE_SIZE)
    while True:
        try:
            answer = await core.call(core.threads.ListMessages, page)
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                return {}
            raise
        for message in answer.messages:
            runs[message.id] = message.run_id
            if message.client_id:
                runs[message.client_id] = message.run_id
        if not answer.next_page_token:
            return runs
        page = ListMessagesRequest(thread_id=thread_id, page_size=PAGE_SIZE, page_token=answer.next_page_token)
