"""Where a request goes on: in a conversation, behind a response, in a run that waits, or on a thread of its own.

Owns the calls of the core that find it out. A response that others went on from already is branched off, on a fork of
its thread: OpenAI's responses form a tree, and the runs of a thread do not.
"""

from __future__ import annotations

from dataclasses import dataclass

import grpc

from edge.core import CoreClient
from edge.openai.answers import no_answer
from edge.protocols.openai_responses import ids
from edge.protocols.openai_responses.input import Approved, behind_last_answer
from edge.protocols.openai_responses.origin import read_origin
from edge.protocols.openai_responses.request import ResponseRequest, unknown_previous
from penstock.v1.agent_service_pb2 import GetAgentRequest
from penstock.v1.run_pb2 import Run, RunState
from penstock.v1.run_service_pb2 import GetRunRequest, ListRunsRequest
from penstock.v1.thread_service_pb2 import EventRef, ForkThreadRequest, GetThreadRequest


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run is to go on."""

    thread_id: str = ""
    """Empty: a new thread."""
    fork: EventRef | None = None
    """Where the thread is to be forked first, when it has gone on since."""
    waiting: Run | None = None
    """The run that asked a question, when this is the place to answer it."""
    last_run_id: str = ""
    """The run whose calls the request may answer; empty when there is none."""


async def find_place(core: CoreClient, asked: ResponseRequest) -> Place:
    """Return where a request goes on. Raises Refusal when the response or conversation is not there."""
    if (run_id := _run_of_approvals(asked)) is not None:
        run = (await core.call(core.runs.GetRun, GetRunRequest(run_id=run_id))).run
        return Place(run.thread_id, waiting=run)
    if asked.previous is not None:
        return await _behind(core, asked.previous)
    if asked.thread_id:
        return await _in_conversation(core, asked.thread_id)
    return Place()


async def fork_thread(core: CoreClient, place: Place, asked: ResponseRequest) -> str:
    """Return the thread of a place, a new one where it has to be forked. Raises Refusal before anything is made."""
    if place.fork is None:
        return place.thread_id
    await core.call(core.agents.GetAgent, GetAgentRequest(agent_id=asked.agent_id))  # else the fork is for nothing
    fork = ForkThreadRequest(request_id=asked.request_id, thread_id=place.thread_id, event=place.fork)
    return (await core.call(core.threads.ForkThread, fork)).thread.id


def _run_of_approvals(asked: ResponseRequest) -> str | None:
    """Return the run that the request's approvals answer: their ids tell it, so nothing else must be sent along."""
    for entry in behind_last_answer(asked.entries):
        if isinstance(entry, Approved):
            ref = ids.question_ref(entry.approval_id)
            if ref is None:
                raise no_answer(f"{entry.where}.approval_request_id")
            return ref.run_id
    return None


async def _behind(core: CoreClient, previous: ids.ResponseRef) -> Place:
    run = await _previous_run(core, previous)
    if run.state == RunState.RUN_STATE_WAITING and run.leg == previous.leg:
        return Place(run.thread_id, waiting=run)
    newest = await _newest_run(core, run.thread_id)
    if newest is None or newest.id == run.id:
        return Place(run.thread_id, last_run_id=run.id)
    return Place(run.thread_id, fork=EventRef(run_id=run.id, seq=run.last_seq), last_run_id=run.id)


async def _in_conversation(core: CoreClient, thread_id: str) -> Place:
    thread = (await core.call(core.threads.GetThread, GetThreadRequest(thread_id=thread_id))).thread
    if thread.active_run_id:
        active = (await core.call(core.runs.GetRun, GetRunRequest(run_id=thread.active_run_id))).run
        if active.state == RunState.RUN_STATE_WAITING:
            return Place(thread.id, waiting=active)
    newest = await _newest_run(core, thread_id)
    return Place(thread.id, last_run_id=newest.id if newest is not None else "")


async def _previous_run(core: CoreClient, previous: ids.ResponseRef) -> Run:
    try:
        run = (await core.call(core.runs.GetRun, GetRunRequest(run_id=previous.run_id))).run
    except grpc.aio.AioRpcError as error:
        if error.code() == grpc.StatusCode.NOT_FOUND:
            raise unknown_previous(previous.id) from error
        raise
    if previous.leg > run.leg or not read_origin(run.origin_json).store:
        raise unknown_previous(previous.id)
    return run


async def _newest_run(core: CoreClient, thread_id: str) -> Run | None:
    runs = (await core.call(core.runs.ListRuns, ListRunsRequest(thread_id=thread_id, page_size=1))).runs
    return runs[0] if runs else None
