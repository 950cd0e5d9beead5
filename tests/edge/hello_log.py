"""The log of a run that says something, of any length, and the frames that native clients get for it."""

from __future__ import annotations

from collections.abc import Iterator

from penstock.v1.event_pb2 import (
    Event,
    MessageEnded,
    MessageStarted,
    PartDelta,
    PartEnded,
    PartStarted,
    RunEnded,
    RunQueued,
    RunStarted,
)
from penstock.v1.message_pb2 import Completion, Message, Part, PartKind, Role, TextPart
from penstock.v1.run_pb2 import EndReason, Run, RunState

HEAD = 4
"""Events before the first delta."""


def beginning() -> list[Event]:
    """Up to the open text part: seqs 1 to 4."""
    message = Message(id="msg_1", role=Role.ROLE_ASSISTANT)
    text = Part(ordinal=1, text=TextPart())
    return [
        Event(seq=1, run_queued=RunQueued(run=Run(id="run_1", agent_id="echo"))),
        Event(seq=2, run_started=RunStarted(attempt=1)),
        Event(seq=3, message_started=MessageStarted(message=message)),
        Event(seq=4, part_started=PartStarted(message_id="msg_1", part=text)),
    ]


def delta(seq: int, text: str = "piece ") -> Event:
    return Event(seq=seq, part_delta=PartDelta(part=1, kind=PartKind.PART_KIND_TEXT, text=text))


def ending(seq: int) -> list[Event]:
    """The last three events, from a seq on."""
    done = Completion.COMPLETION_COMPLETE
    text = Part(ordinal=1, completion=done, text=TextPart(text="said"))
    end = RunEnded(state=RunState.RUN_STATE_SUCCEEDED, reason=EndReason.END_REASON_COMPLETED)
    return [
        Event(seq=seq, part_ended=PartEnded(message_id="msg_1", part=text)),
        Event(seq=seq + 1, message_ended=MessageEnded(message_id="msg_1", completion=done)),
        Event(seq=seq + 2, run_ended=end),
    ]


def whole(deltas: int) -> Iterator[Event]:
    """A whole run with so many deltas."""
    yield from beginning()
    yield from (delta(HEAD + number) for number in range(1, deltas + 1))
    yield from ending(HEAD + deltas + 1)
