"""A thread that nothing runs on, as a stream: what was said and its state, in snapshots, between a start and an end."""

from __future__ import annotations

from edge.protocols.ag_ui.conversation import entries_of, messages_snapshot, put_aside
from edge.protocols.ag_ui.frames import frame
from edge.protocols.ag_ui.request import AgUiRequest
from edge.protocols.ag_ui.threads import KnownThread
from penstock.flat_json import inline


def whole_thread(asked: AgUiRequest, known: KnownThread | None) -> bytes:
    """Return all frames. A thread that nobody has used yet takes nothing from its client."""
    run = {"threadId": asked.thread_id, "runId": asked.ids.run_id}
    started = frame("RUN_STARTED", {**run, "protocolVersion": asked.dialect.version})
    finished = frame("RUN_FINISHED", {**run, "outcome": {"type": "success"}})
    return started + (_snapshots(asked, known) if known is not None else b"") + finished


def _snapshots(asked: AgUiRequest, known: KnownThread) -> bytes:
    state_json = known.thread.state_json
    state = frame("STATE_SNAPSHOT", {"snapshot": inline(state_json)}) if state_json else b""
    return state + messages_snapshot(put_aside(entries_of(known.messages, asked.dialect)), ())
