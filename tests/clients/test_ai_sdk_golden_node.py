"""The golden run and people's answers, told by a real edge to the `ai` package: what it refuses, no test of ours knows.

The core is scripted: the demo agents hold neither files nor retries, and nobody can time their questions.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from edge.app import running
from edge.config import EdgeSettings
from edge.fold import Fold
from penstock.v1.event_pb2 import Event
from penstock.v1.message_pb2 import Part, Role, ToolRunner
from penstock.v1.run_pb2 import InputKind, Run, RunState
from penstock.v1.run_service_pb2 import CreateRunRequest, SubmitInputRequest
from tests.edge.scripted_calls import Context
from tests.edge.scripted_core import ScriptedCore
from tests.golden.golden import VARIANTS, golden
from tests.grammar.outputs import ask, call, end, text, wait

if TYPE_CHECKING:
    from tests.clients.conftest import Node

JSON = dict[str, Any]

PACKAGES = ("ai", "ai-6", "ai-6-first")

ENDS = {
    "failed": ("error", "The weather service does not answer."),
    "rejected": ("error", "I only talk about the weather."),
    "timeout": ("error", "The run failed: TIMEOUT."),
    "queue_timeout": ("error", "The run failed: QUEUE_TIMEOUT."),
    "worker_lost": ("error", "The run failed: WORKER_LOST."),
}
"""Status and error of the chat; ready, without one, for all others."""

FINISHES = {"length": "length", "content_filter": "content-filter", "cancelled": None, "client_tools": "tool-calls"}
WAITING = {"waiting", "everything", "resumed", "released", "denied", "input_expired", "cancelled_while_waiting"}


class GoldenCore(ScriptedCore):
    """A core on which a run becomes the variant that its user names, and goes on as scripted once answered."""

    def __init__(self) -> None:
        super().__init__()
        self.after_answer: Sequence[Event] = ()

    async def note(self, rpc: str, request: object, context: Context) -> None:
        await super().note(rpc, request, context)
        if isinstance(request, CreateRunRequest):
            self._create(request)
        if isinstance(request, SubmitInputRequest):
            run = self.log(request.run_id).run
            run.state, run.leg = RunState.RUN_STATE_RUNNING, run.leg + 1
            del run.inputs[:]
            self.append(*self.after_answer, run_id=request.run_id)

    def play(self, events: Sequence[Event], run_id: str, request: CreateRunRequest) -> None:
        """Have a run say this, and wait where it waits."""
        first = Event()
        first.CopyFrom(events[0])
        first.run_queued.run.MergeFrom(Run(id=run_id, origin_json=request.origin_json))
        first.run_queued.input.extend(request.input)
        self.append(first, *events[1:], run_id=run_id)
        run, last = self.log(run_id).run, events[-1]
        if last.HasField("run_waiting"):
            run.state = RunState.RUN_STATE_WAITING
            run.inputs.extend(last.run_waiting.inputs)
        run.pending_call_ids.extend(last.run_ended.pending_call_ids)

    def _create(self, request: CreateRunRequest) -> None:
        run_id = f"run_{len(self.created) + 1}"
        said = request.input[-1]
        run = self.log(run_id).run
        run.thread_id, run.origin_json = request.thread_id, request.origin_json
        variant = said.parts[0].text.text if said.role == Role.ROLE_USER else "succeeded"
        self.play(VARIANTS[variant], run_id, request)
        run.leg = 0  # it is told as made just now, though the script holds its later legs too


@pytest.fixture
async def core() -> AsyncIterator[GoldenCore]:
    scripted = GoldenCore()
    await scripted.start()
    yield scripted
    await scripted.stop()


Play = Callable[..., Awaitable[list[JSON]]]


@pytest.fixture(params=PACKAGES)
async def play(request: pytest.FixtureRequest, core: GoldenCore, node: Node) -> AsyncIterator[Play]:
    """Plays a scenario before the scripted core, and returns what the script printed."""
    settings = EdgeSettings.load(port=0, core=core.address, settle=0, drain=0, request_grace=0)
    async with running(settings) as edge:

        async def run(*actions: list[Any], **scenario: Any) -> list[JSON]:
            given = json.dumps({"id": "golden", "actions": actions, **scenario})
            api = f"http://{edge.address}/v1/ai-sdk/agent"
            return await asyncio.to_thread(node.run, "ai_sdk_chat.mjs", request.param, api, given)

        yield run


def first_leg(name: str) -> Fold:
    fold = Fold()
    for event in VARIANTS[name]:
        fold.feed(event)
        if fold.has_leg_ended:
            break
    return fold


def parts_of(fold: Fold) -> list[Part]:
    """The parts of the main lane, retracted ones included: they stay on the page."""
    return [folded.part for _, folded in sorted(fold.parts.items()) if not folded.message.lane]


def text_of(message: JSON) -> str:
    return "".join(part["text"] for part in message["parts"] if part["type"] == "text")


def calls_of(message: JSON) -> dict[str, JSON]:
    return {part["toolCallId"]: part for part in message["parts"] if "toolCallId" in part}


async def test_each_variant_is_read_to_its_end_by_every_version(play: Play) -> None:
    actions: list[list[Any]] = []
    for name in VARIANTS:
        actions += [["open", name], ["send", name]]

    *steps, rest = await play(*actions)

    chats = dict(zip(VARIANTS, steps[1::2], strict=True))
    finishes = iter(rest["finishes"])
    for name, chat in chats.items():
        fold, answer = first_leg(name), chat["messages"][1]
        assert (chat["status"], chat.get("error")) == ENDS.get(name, ("ready", None)), name
        said = "".join(part.text.text for part in parts_of(fold))
        assert text_of(answer) == (said + "Good morning." if name == "client_tools" else said), name
        called = [part.tool_call for part in parts_of(fold) if part.HasField("tool_call")]
        assert list(calls_of(answer)) == [one.call_id for one in called], name
        finish = next(finishes)
        if name not in ENDS:
            default = "tool-calls" if name in WAITING else "stop"
            assert finish.get("finishReason") == FINISHES.get(name, default), name
        if name == "client_tools":
            next(finishes)  # of the run that has the result of the client's tool, and says good morning


async def test_what_else_an_answer_holds_arrives(play: Play) -> None:
    *steps, rest = await play(["send", "everything"], ["open", "another"], ["send", "silent"])

    parts = steps[0]["messages"][1]["parts"]
    by_type = {part["type"]: part for part in parts}
    assert by_type["source-url"]["url"] == "https://pages.example/1"
    assert by_type["file"] == {"type": "file", "mediaType": "image/png", "url": "https://files.example/chart.png"}
    assert by_type["data-forecast"] == {"type": "data-forecast", "id": "bern", "data": {"days": 3}}
    assert {part["type"] for part in rest["data"] if part.get("transient")} == {"data-progress", "data-penstock-state"}
    metadata = steps[0]["messages"][1]["metadata"]
    assert metadata["usage"]["totalTokens"] == 150
    marked = [part["text"] for part in parts if _mark(part) in metadata["retracted"]]
    assert marked == ["Lost "]
    assert steps[2]["messages"][1]["parts"][0] == {"type": "data-penstock-result", "data": {"answer": 42}}


def _mark(part: JSON) -> int:
    return int(part.get("providerMetadata", {}).get("penstock", {}).get("part", 0))


STATES = {
    "tool": {"call_weather": "output-available"},
    "two_tools": {"call_a": "output-available", "call_b": "output-error"},
    "failed": {"call_weather": "output-available", "call_cut": "output-error"},
    "cancelled": {"call_slow": "output-error"},
    "waiting": {"call_book": "approval-requested"},
    "retry": {"call_again": "output-error", "call_again-2": "output-available"},
}


async def test_calls_stand_as_they_ended(play: Play) -> None:
    actions: list[list[Any]] = []
    for name in STATES:
        actions += [["open", name], ["send", name]]

    *steps, _ = await play(*actions)

    states = [{key: part["state"] for key, part in calls_of(chat["messages"][1]).items()} for chat in steps[1::2]]
    assert dict(zip(STATES, states, strict=True)) == STATES


@pytest.mark.parametrize(
    ("variant", "approved", "answer", "state", "says"),
    [
        ("resumed", True, '{"approved":true,"comment":"fine"}', "output-available", "May I book? Booked."),
        ("denied", False, '{"approved":false,"comment":"fine"}', "output-denied", "May I book? Then not."),
    ],
)
async def test_an_approval_goes_on_with_the_same_message_and_is_sent_once(
    play: Play, core: GoldenCore, variant: str, approved: object, answer: str, state: str, says: str
) -> None:
    core.after_answer = VARIANTS[variant][len(VARIANTS["waiting"]) :]

    *steps, rest = await play(["send", "waiting"], ["approve", approved, "fine"])

    message = steps[-1]["messages"][1]
    assert (steps[-1]["status"], message["id"], text_of(message)) == ("ready", "run_1", says)
    assert [part["state"] for part in calls_of(message).values()] == [state]
    assert [request["status"] for request in rest["requests"]] == [200, 200]
    [submit] = [request for request in core.requests if isinstance(request, SubmitInputRequest)]
    assert submit.answers[0].answer_json == answer


async def test_a_page_that_comes_back_while_a_question_is_open_can_answer_it(play: Play, core: GoldenCore) -> None:
    core.after_answer = VARIANTS["resumed"][len(VARIANTS["waiting"]) :]

    *steps, _ = await play(["send", "waiting"], ["open", "golden", 1], ["resume"], ["approve", True])

    assert text_of(steps[-1]["messages"][1]) == "May I book? Booked."


async def test_a_client_tool_that_a_run_waits_for_is_answered_by_the_page_itself(
    play: Play, core: GoldenCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = ask("map#1", "Show it.", kind=InputKind.INPUT_KIND_CLIENT_TOOL, call_id="call_map")
    client = ToolRunner.TOOL_RUNNER_CLIENT
    script = golden().say(call("call_map", '{"zoom":3}', tool="show_map", done=True, runner=client), question, wait())
    asked = script.events()
    script.answer('{"output":{"seen":{"zoom":3}}}').say(text("Seen."), end())
    core.after_answer = script.events()[len(asked) :]
    monkeypatch.setitem(VARIANTS, "asks the client", asked)

    *steps, rest = await play(["send", "asks the client"])

    message = steps[-1]["messages"][1]
    assert (text_of(message), calls_of(message)["call_map"]["state"]) == ("Seen.", "output-available")
    assert [request["status"] for request in rest["requests"]] == [200, 200]
    [submit] = [request for request in core.requests if isinstance(request, SubmitInputRequest)]
    assert submit.answers[0].answer_json == '{"output":{"seen":{"zoom":3}}}'


async def test_other_questions_are_data_and_answered_in_the_body(
    play: Play, core: GoldenCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = golden().say(ask("city#1", "Which city?", kind=InputKind.INPUT_KIND_QUESTION), wait())
    asked = script.events()
    script.answer('{"answer":"Bern"}').say(text("Bern it is."), end())
    core.after_answer = script.events()[len(asked) :]
    monkeypatch.setitem(VARIANTS, "asks", asked)
    input_id = asked[-1].run_waiting.inputs[0].id

    *steps, _ = await play(["send", "asks"], ["answer", {input_id: {"answer": "Bern"}}])

    [before] = steps[0]["messages"][1]["parts"]
    question, *_, said = steps[1]["messages"][1]["parts"]
    assert (before["type"], before["data"]["message"]) == ("data-penstock-input", "Which city?")
    assert question["data"] | {"outcome": "answered", "answer": {"answer": "Bern"}} == question["data"]
    assert said["text"] == "Bern it is."


async def test_a_message_of_two_runs_is_whole_after_a_reload(play: Play, core: GoldenCore) -> None:
    """The client's tool ran on the page before; the run that goes on with the message is still writing."""
    *steps, _ = await play(["send", "client_tools"])
    assert text_of(steps[-1]["messages"][1]) == "Look: Good morning."
    core.log("run_2").run.state = RunState.RUN_STATE_RUNNING  # as a client sees it that asks while it writes

    *steps, _ = await play(["open", "golden", 0], ["resume"])

    [message] = steps[-1]["messages"]
    assert (message["id"], text_of(message)) == ("run_1", "Look: Good morning.")
    assert calls_of(message)["call_map"]["output"] == {"seen": {"zoom": 3}}
