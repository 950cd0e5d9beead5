"""What the core knows of a thread before a run of AG-UI begins on it, or goes on.

Owns the reading: the thread, its messages, the run that is active, and what that has said so far, which is not among
the thread's messages before it has ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge.core import CoreClient
from edge.lists import all_messages, find_thread
from penstock.v1.message_pb2 import Message
from penstock.v1.run_pb2 import Run, RunState
from penstock.v1.run_service_pb2 import GetRunRequest, ListRunsRequest, RunView
from penstock.v1.thread_pb2 import Thread

ACTIVE = (RunState.RUN_STATE_QUEUED, RunState.RUN_STATE_RUNNING, RunState.RUN_STATE_WAITING)


@dataclass(frozen=True, slots=True)
class KnownThread:
    """A thread as it was a moment ago."""

    thread: Thread
    messages: Sequence[Message]
    active: Run | None = None
    said: Sequence[Message] = ()
    """What the active run has said so far, with what it took back."""

    @property
    def waiting(self) -> Run | None:
        """The run that waits for answers."""
        is_waiting = self.active is not None and self.active.state == RunState.RUN_STATE_WAITING
        return self.active if is_waiting else None


async def look_up(core: CoreClient, thread_id: str) -> KnownThread | None:
    """Return a thread; None when nobody has used it yet."""
    ended = ""
    while True:
        thread = await find_thread(core, thread_id)
        if thread is None:
            return None
        messages = [message async for message in all_messages(core, thread_id)]
        if thread.active_run_id in ("", ended):
            return KnownThread(thread, messages)
        asked = GetRunRequest(run_id=thread.active_run_id, view=RunView.RUN_VIEW_FULL)
        answer = await core.call(core.runs.GetRun, asked)
        if answer.run.state in ACTIVE:
            return KnownThread(thread, messages, answer.run, answer.messages)
        ended = answer.run.id  # in between, so nobody can tell whether the messages have its own: look again


async def active_runs(core: CoreClient, thread_id: str) -> Sequence[Run]:
    """Return the runs of a thread that have not ended."""
    asked = ListRunsRequest(thread_id=thread_id, states=ACTIVE)
    return (await core.call(core.runs.ListRuns, asked)).runs


async def newest_run(core: CoreClient, thread_id: str) -> Run | None:
    """Return the run of a thread that was created last."""
    answer = await core.call(core.runs.ListRuns, ListRunsRequest(thread_id=thread_id, page_size=1))
    return answer.runs[0] if answer.runs else None
