"""AG-UI's official clients read every variant of the golden run: a real edge before a core that holds their logs.

What no demo agent does is judged here: subagents, steps, activities, retries, questions, and joining at any place.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from edge.app import running
from edge.config import EdgeSettings
from penstock.v1.event_pb2 import Event
from penstock.v1.run_pb2 import InputRequest, RunState
from penstock.v1.thread_pb2 import Thread
from tests.clients.test_ag_ui_node import CONNECT, PACKAGES, RUN, kinds, new, say
from tests.edge.conftest import QUICK
from tests.edge.scripted_core import ScriptedCore
from tests.golden.golden import VARIANTS

if TYPE_CHECKING:
    from tests.clients.conftest import Node

ASKING = [name for name, events in VARIANTS.items() if any(event.HasField("run_waiting") for event in events)]
STRAIGHT = [name for name in VARIANTS if name not in ASKING]
ENDS = {"success": "RUN_FINISHED", "interrupt": "RUN_FINISHED", "cancelled": "RUN_FINISHED", None: "RUN_ERROR"}
DECADES = 10**9


@dataclass(frozen=True, slots=True)
class Stage:
    """A core that holds logs, an edge before it, and a client before both."""

    core: ScriptedCore
    node: Node
    url: str
    version: str

    async def play(self, *plan: dict[str, Any]) -> list[Any]:
        """Carry out a plan. The client may neither warn nor throw."""
        arguments = (PACKAGES[self.version], self.url, json.dumps(plan))
        results: list[Any] = await asyncio.to_thread(self.node.run, "ag_ui.mjs", *arguments)
        assert [result["warnings"] for result in results] == [[]] * len(results)
        assert [result.get("failure") for result in results] == [None] * len(results)
        return results

    def hold(self, run_id: str, events: Sequence[Event]) -> None:
        """Put a log into the core as the active run of a thread that is called like it."""
        self.core.append(*events, run_id=run_id)
        run = self.core.log(run_id).run
        if events[-1].HasField("run_waiting"):
            run.state = RunState.RUN_STATE_WAITING
            del run.inputs[:]
            run.inputs.extend(events[-1].run_waiting.inputs)
        self.core.threads.known[run_id] = Thread(id=run_id, active_run_id=run_id)


@pytest.fixture(params=PACKAGES)
async def stage(request: pytest.FixtureRequest, node: Node) -> AsyncIterator[Stage]:
    core = ScriptedCore()
    core.said = []
    core.threads.messages = []
    await core.start()
    settings = EdgeSettings.load(**(QUICK | {"core": core.address}))
    async with running(settings) as edge:
        yield Stage(core, node, f"http://{edge.address}/v1/ag-ui/echo", request.param)
    await core.stop()


def variant(name: str) -> list[Event]:
    """A variant's log; the clients refuse to answer what has expired, so its questions expire in the far future."""
    events = [Event.FromString(event.SerializeToString()) for event in VARIANTS[name]]
    for event in events:
        asked = [event.input_requested.input] if event.HasField("input_requested") else []
        for question in [*asked, *(event.run_waiting.inputs if event.HasField("run_waiting") else ())]:
            assert isinstance(question, InputRequest)
            question.expire_time.seconds += DECADES
    return events


def first_pause(events: Sequence[Event]) -> int:
    return next(event.seq for event in events if event.HasField("run_waiting"))


async def test_the_official_client_takes_every_run_to_its_end(stage: Stage) -> None:
    plan = []
    for number, name in enumerate(STRAIGHT, start=1):  # the core gives its runs to creates in this order
        stage.core.append(*variant(name), run_id=f"run_{number}")
        plan += [new(name), say("Go.", "u1"), RUN]

    results = await stage.play(*plan)

    for name, result in zip(STRAIGHT, results, strict=True):
        assert kinds(result)[-1] == ENDS[result.get("outcome")], name
        assert "Lost " not in json.dumps(result["messages"])
    assert {kind for result in results for kind in kinds(result)} >= {
        *("SUBAGENT_STARTED", "SUBAGENT_FINISHED", "SUBAGENT_ERROR", "STEP_STARTED", "ACTIVITY_SNAPSHOT"),
        *("REASONING_ENCRYPTED_VALUE", "MESSAGES_SNAPSHOT", "STATE_SNAPSHOT", "TOOL_CALL_RESULT", "RUN_ERROR"),
    }


@pytest.mark.parametrize("name", [name for name in ASKING if name != "waiting"])
async def test_the_official_client_is_asked_and_answers_and_sees_the_end(stage: Stage, name: str) -> None:
    events = variant(name)
    pause = first_pause(events)
    stage.hold("run_1", events[:pause])
    stage.core.goes_on = events[pause:]

    asked, answered = await stage.play(new("run_1"), CONNECT, RUN | {"answer": {"approved": True}})

    assert asked["outcome"] == "interrupt"
    assert [interrupt["reason"] for interrupt in asked["pendingInterrupts"]] == ["tool_call"]
    assert kinds(answered)[-1] == ENDS[answered.get("outcome")]
    assert kinds(answered)[:2] == ["RUN_STARTED", "TOOL_CALL_RESULT"]


async def test_the_official_client_may_join_at_any_place(stage: Stage) -> None:
    events = variant("everything")
    pause = first_pause(events)
    places = range(1, pause, 5)
    for seq in places:
        stage.hold(f"run_{seq}", events[:seq])
    asking = asyncio.create_task(stage.play(*(step for seq in places for step in (new(f"run_{seq}"), CONNECT))))
    for number, seq in enumerate(places, start=1):
        await stage.core.until_watched(starts=number)
        stage.core.append(*events[seq:pause], run_id=f"run_{seq}")

    results = await asking

    ids = [[message["id"] for message in result["messages"]] for result in results]
    assert ids == [ids[0]] * len(places)
    assert len(ids[0]) > 15
    assert {result["outcome"] for result in results} == {"interrupt"}
