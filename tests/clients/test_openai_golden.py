"""Every leg of every variant of the golden run, judged by the stream helpers of OpenAI's SDKs.

The helpers are strict: they raise when an item is not added before its content, when an id changes, when something is
left open. The core is a scripted one, which has the golden logs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

import pytest
from openai import AsyncOpenAI
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from edge.app import Edge, running
from edge.config import EdgeSettings
from edge.fold import Fold
from edge.protocols.openai_responses import ResponsesEncoder
from penstock.v1.event_pb2 import Event
from penstock.v1.run_pb2 import EndReason, RunState
from tests.edge.conftest import QUICK
from tests.edge.scripted_core import ScriptedCore
from tests.golden.golden import VARIANTS

if TYPE_CHECKING:
    from tests.clients.conftest import Node

EVENT: TypeAdapter[object] = TypeAdapter(ResponseStreamEvent)
RUNS = {name: f"run_{number}" for number, name in enumerate(VARIANTS, start=1)}
LEGS = [
    (name, leg)
    for name, events in VARIANTS.items()
    for leg in [0] + [event.run_resumed.leg for event in events if event.HasField("run_resumed")]
]


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    """An edge before a core that has the golden runs."""
    core = ScriptedCore()
    await core.start()
    for name, events in VARIANTS.items():
        core.append(*named(events, RUNS[name]), run_id=RUNS[name])
    async with running(EdgeSettings.load(**(QUICK | {"core": core.address}))) as edge:
        yield edge
    await core.stop()


def response_id(name: str, leg: int) -> str:
    return f"resp_{RUNS[name].removeprefix('run_')}" + (f"-{leg}" if leg else "")


def named(events: Sequence[Event], run_id: str) -> list[Event]:
    """Return the log as that of another run."""
    queued = Event()
    queued.CopyFrom(events[0])
    queued.run_queued.run.id = run_id
    return [queued, *events[1:]]


def final_status(name: str, leg: int) -> str:
    """OpenAI's word for the end, from the log alone."""
    end = VARIANTS[name][-1].run_ended
    if leg == 0 and any(event.HasField("run_waiting") for event in VARIANTS[name]):
        return "completed"
    if end.reason in (EndReason.END_REASON_LENGTH, EndReason.END_REASON_CONTENT_FILTER):
        return "incomplete"
    return {RunState.RUN_STATE_SUCCEEDED: "completed", RunState.RUN_STATE_FAILED: "failed"}.get(end.state, "cancelled")


def text_of(name: str, leg: int) -> str:
    """The text of a leg, from the log alone."""
    fold = Fold()
    for event in VARIANTS[name]:
        fold.feed(event)
    text = "".join(part.text.text for part in fold.said(leg=leg))
    return text or (fold.end.result_json if fold.end is not None and leg == fold.leg else "")


@pytest.mark.parametrize(("name", "leg"), LEGS)
async def test_the_python_helper_takes_every_frame(edge: Edge, name: str, leg: int) -> None:
    status = final_status(name, leg)
    async with AsyncOpenAI(base_url=f"http://{edge.address}/v1", api_key="none") as client:
        async with client.responses.stream(response_id=response_id(name, leg)) as stream:
            numbers = [event.sequence_number async for event in stream if event.type != "error"]
            final = await stream.get_final_response() if status == "completed" else None
        shown = await client.responses.retrieve(response_id(name, leg))

    assert numbers == list(range(len(numbers)))
    assert (shown.status, shown.output_text) == (status, text_of(name, leg))
    assert final is None or [item.type for item in final.output] == [item.type for item in shown.output]
    assert final is None or final.output_text == shown.output_text


@pytest.mark.parametrize(("name", "leg"), LEGS)
def test_every_frame_is_of_the_types_of_the_sdk(name: str, leg: int) -> None:
    encoder = ResponsesEncoder(leg=leg)
    frames = b"".join(encoder.feed(event) for event in VARIANTS[name]).decode().split("\n\n")[:-1]

    for frame in frames:
        EVENT.validate_json(frame.partition("data: ")[2])


async def test_the_javascript_helper_takes_every_frame(edge: Edge, node: Node) -> None:
    ids = [response_id(name, leg) for name, leg in LEGS]

    seen = await asyncio.to_thread(node.run, "openai_golden.mjs", f"http://{edge.address}/v1", *ids)

    for (name, leg), replay in zip(LEGS, seen, strict=True):
        final: dict[str, Any] = replay["response"]
        assert replay["numbers"] == list(range(len(replay["numbers"])))
        assert (final["status"], final["output_text"]) == (final_status(name, leg), text_of(name, leg))
