"""The AG-UI routes over HTTP: a real edge between a real HTTP client and a scripted core."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
import grpc
import pytest
from ag_ui.core.capabilities import AgentCapabilities

from edge.protocols.ag_ui.origin import RunIds, ids_of, request_key
from penstock.v1.event_pb2 import StatePatched
from penstock.v1.message_pb2 import Message, Part, Role, TextPart
from penstock.v1.run_pb2 import EndReason, InputAnswer, InputKind, InputOutcome, InputRequest, Run, RunState
from penstock.v1.run_service_pb2 import CancelRunRequest, CreateRunRequest, SubmitInputRequest
from penstock.v1.thread_pb2 import Thread
from penstock.v1.thread_service_pb2 import ListMessagesRequest
from tests.edge.ag_ui_client import AgUiClient, frames_of
from tests.edge.conftest import StartEdge
from tests.edge.handmade_log import HandmadeLog
from tests.edge.scripted_core import Refuse, ScriptedCore
from tests.edge.scripted_services import SAID

LIMIT = 10.0
HI = {"id": "u1", "role": "user", "content": "Hi"}
URL = "/v1/ag-ui/echo"
WAITING = RunState.RUN_STATE_WAITING
ANSWERED, DECLINED = InputOutcome.INPUT_OUTCOME_ANSWERED, InputOutcome.INPUT_OUTCOME_DECLINED
Request = TypeVar("Request")


@dataclass(frozen=True, slots=True)
class Setup:
    core: ScriptedCore
    http: aiohttp.ClientSession

    def requests(self, kind: type[Request]) -> list[Request]:
        return [request for request in self.core.requests if isinstance(request, kind)]

    async def ask(self, url: str = URL, **fields: Any) -> list[Any]:
        async with asyncio.timeout(LIMIT), self.http.post(url, json=body(**fields)) as response:
            assert response.status == 200, await response.text()
            assert response.content_type == "text/event-stream"
            return frames_of(await response.read())

    def thread(self, **fields: Any) -> Thread:
        """Put a thread in the core."""
        thread = Thread(id="t", **fields)
        self.core.threads.known["t"] = thread
        return thread

    def waiting(self, *questions: InputRequest, log: HandmadeLog | None = None) -> HandmadeLog:
        """Put a run in the core that waits for answers on the thread."""
        log = log or HandmadeLog()
        log.waiting(*questions)
        self.core.append(*log.events)
        self.core.log().run.state = WAITING
        self.core.log().run.inputs.extend(questions)
        self.thread(active_run_id="run_1")
        return log


@pytest.fixture
async def setup(core: ScriptedCore, start_edge: StartEdge) -> AsyncIterator[Setup]:
    edge = await start_edge(reattach_for=0)
    core.said = []
    core.threads.messages = []
    async with aiohttp.ClientSession(f"http://{edge.address}") as http:
        yield Setup(core, http)


def body(**fields: Any) -> dict[str, Any]:
    return {"threadId": "t", "runId": "r1", "messages": [HI], "protocolVersion": "1.0", **fields}


def finished(*pieces: str) -> HandmadeLog:
    log = HandmadeLog()
    log.text(*(pieces or ("Hi ", "there")))
    log.ended()
    return log


# ── a run ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_run_is_streamed_and_can_be_told_again_by_any_edge(setup: Setup) -> None:
    setup.core.append(*finished().events)
    tools = [{"name": "look", "description": "Looks."}]

    frames = await setup.ask(tools=tools, parentRunId="r0")

    [create] = setup.requests(CreateRunRequest)
    assert (create.agent_id, create.thread_id, create.request_id) == ("echo", "t", request_key("t", "r1"))
    assert [(message.client_id, message.parts[0].text.text) for message in create.input] == [("u1", "Hi")]
    assert [tool.name for tool in create.options.tools] == ["look"]
    assert ids_of(create.origin_json, otherwise="") == RunIds("r1", "r0")
    assert [frame["type"] for frame in frames] == [
        *("RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_CONTENT"),
        *("TEXT_MESSAGE_END", "RUN_FINISHED"),
    ]
    assert {frame["threadId"] for frame in frames if "threadId" in frame} == {"t"}


async def test_the_stream_has_the_headers_that_proxies_need_and_no_ids(setup: Setup) -> None:
    setup.core.append(*finished().events)

    async with setup.http.post(URL, json=body()) as response:
        stream = await response.text()

    assert response.headers["X-Accel-Buffering"] == "no"
    assert response.headers["X-Run-Id"] == "run_1"
    assert response.headers["X-Request-Id"]
    assert not [line for line in stream.splitlines() if line.startswith(("id:", "event:", "retry:"))]


@pytest.mark.parametrize(
    "url",
    [
        *("/v1/ag-ui/echo", "/v1/ag-ui/agents/echo/runs", "/v1/ag-ui/agent/echo/run"),
        *("/ag-ui/agent", "/v1/ag-ui/run", "/v1/ag-ui/threads/t/runs"),
    ],
)
async def test_every_path_runs_the_agent_of_the_path_or_of_the_body(setup: Setup, url: str) -> None:
    setup.core.append(*finished().events)

    frames = await setup.ask(url, forwardedProps={"agent": "echo"})

    assert frames[-1]["type"] == "RUN_FINISHED"
    assert setup.requests(CreateRunRequest)[0].agent_id == "echo"


async def test_without_an_agent_the_default_one_runs_and_without_that_none(setup: Setup, start_edge: StartEdge) -> None:
    setup.core.append(*finished().events)
    edge = await start_edge(default_agent="echo")

    async with setup.http.post("/v1/ag-ui/run", json=body()) as response:
        error = await response.json()
    frames = await setup.ask(f"http://{edge.address}/v1/ag-ui/run")

    assert (response.status, error["error"], error["field"]) == (400, "INVALID_ARGUMENT", "agentId")
    assert frames[-1]["type"] == "RUN_FINISHED"


async def test_the_same_run_sent_twice_is_one_run(setup: Setup) -> None:
    setup.core.append(*finished().events)

    first = await setup.ask()
    setup.thread()
    setup.core.threads.messages = [Message(id="msg_0", client_id="u1", role=Role.ROLE_USER)]
    second = await setup.ask()

    assert first == second
    assert len(setup.core.created) == 1


@pytest.mark.parametrize(
    ("request_body", "status", "reason", "field"),
    [
        (b"{", 400, "INVALID_JSON", None),
        (b'{"messages":' + b"[" * 100 + b"]" * 100 + b"}", 400, "JSON_TOO_DEEP", None),
        (b'{"threadId":"t","runId":"r"}', 400, "INVALID_ARGUMENT", ""),
        (b'{"threadId":"t","runId":"r","messages":[]}', 400, "INVALID_ARGUMENT", "messages"),
        (b'{"threadId":"t","runId":"r","messages":[{"role":"user"}]}', 400, "INVALID_ARGUMENT", "messages[0]"),
        (b'{"threadId":"t","runId":"r","messages":["\\ud800"]}', 400, "INVALID_JSON", None),
    ],
)
async def test_a_malformed_request_is_refused_in_json_before_anything_is_made(
    setup: Setup, request_body: bytes, status: int, reason: str, field: str | None
) -> None:
    headers = {"Content-Type": "application/json"}
    async with setup.http.post(URL, data=request_body, headers=headers) as response:
        error = await response.json()

    assert (response.status, response.content_type) == (status, "application/json")
    assert (error["error"], error.get("field")) == (reason, field)
    assert error["message"]
    assert not setup.requests(CreateRunRequest)


async def test_an_unknown_agent_is_not_found(setup: Setup) -> None:
    async with setup.http.post("/v1/ag-ui/nobody", json=body()) as response:
        error = await response.json()

    assert (response.status, error["error"]) == (404, "AGENT_NOT_FOUND")


async def test_a_full_queue_says_when_to_come_back(setup: Setup) -> None:
    setup.core.script["CreateRun"] = [Refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")]

    async with setup.http.post(URL, json=body()) as response:
        error = await response.json()

    assert (response.status, error["error"], response.headers["Retry-After"]) == (429, "QUEUE_FULL", "1")


async def test_only_what_the_thread_does_not_know_goes_into_it(setup: Setup) -> None:
    setup.core.append(*finished().events)
    setup.thread()
    setup.core.threads.messages = [SAID]
    said = {"id": SAID.id, "role": "assistant", "content": "Said."}

    await setup.ask(messages=[said, HI])

    assert [message.client_id for message in setup.requests(CreateRunRequest)[0].input] == ["u1"]


async def test_a_client_that_starts_with_nothing_is_told_the_state_and_only_changes_behind_it(setup: Setup) -> None:
    log = HandmadeLog()
    log.add(StatePatched(patch_json='[{"op":"replace","path":"/n","value":3}]', version=6))
    log.ended()
    setup.core.append(*log.events)
    setup.thread(state_json='{"n":2}', state_version=5)

    fresh = AgUiClient()
    for frame in await setup.ask(state={}):
        fresh.feed(frame)

    assert fresh.state == {"n": 3}


async def test_a_client_that_goes_away_leaves_its_run_alone(setup: Setup) -> None:
    setup.core.append(*HandmadeLog().events)
    asking = asyncio.create_task(setup.ask())
    async with asyncio.timeout(LIMIT):
        await setup.core.until_watched(starts=1)
        asking.cancel()
        await setup.core.until_watched(stops=1)

    assert not setup.requests(CancelRunRequest)


async def test_a_stream_whose_core_stays_away_ends_with_an_error(setup: Setup) -> None:
    setup.core.append(*HandmadeLog().events)

    async with asyncio.timeout(LIMIT), setup.http.post(URL, json=body()) as response:
        await response.content.readuntil(b"\n\n")
        await setup.core.stop()
        [error] = frames_of(await response.read())

    assert (error["type"], error["code"]) == ("RUN_ERROR", "CORE_UNAVAILABLE")


# ── interrupts ───────────────────────────────────────────────────────────────────────────────────────────────────────

APPROVAL = InputRequest(id="inp_1", kind=InputKind.INPUT_KIND_APPROVAL, call_id="call_a")
QUESTION = InputRequest(id="inp_2", message="How many?")


async def test_answers_to_all_questions_are_one_call_and_the_next_leg_is_streamed(setup: Setup) -> None:
    log = setup.waiting(APPROVAL, QUESTION)
    log.resumed()
    log.text("Booked.")
    log.ended()
    setup.core.goes_on = log.events[5:]

    frames = await setup.ask(
        runId="r2",
        resume=[
            {"interruptId": "inp_1", "status": "resolved", "payload": {"approved": True, "n": 1.0}},
            {"interruptId": "inp_2", "status": "cancelled"},
        ],
    )

    [submit] = setup.requests(SubmitInputRequest)
    assert (submit.run_id, submit.request_id) == ("run_1", request_key("t", "r2"))
    assert list(submit.answers) == [
        InputAnswer(input_id="inp_1", outcome=ANSWERED, answer_json='{"approved":true,"n":1.0}'),
        InputAnswer(input_id="inp_2", outcome=DECLINED),
    ]
    assert ids_of(submit.origin_json, otherwise="") == RunIds("r2")
    assert [frame["type"] for frame in frames] == [
        *("RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END", "RUN_FINISHED")
    ]
    assert not setup.requests(CreateRunRequest)


@pytest.mark.parametrize(
    "resume",
    [None, [], [{"interruptId": "inp_1", "status": "resolved", "payload": {}}]],
    ids=["no resume", "an empty one", "one of two"],
)
async def test_a_paused_thread_takes_nothing_but_answers_to_all_questions(setup: Setup, resume: Any) -> None:
    setup.waiting(APPROVAL, QUESTION)

    [error] = await setup.ask(runId="r2", resume=resume)

    assert (error["type"], error["code"]) == ("RUN_ERROR", "THREAD_WAITING")
    assert "inp_2" in error["message"]
    assert not setup.requests(SubmitInputRequest)
    assert not setup.requests(CreateRunRequest)


async def test_an_entry_that_answers_nothing_is_left_out(setup: Setup) -> None:
    log = setup.waiting(QUESTION)
    log.resumed()
    log.ended()
    setup.core.goes_on = log.events[4:]
    resume = [{"interruptId": one, "status": "resolved", "payload": {}} for one in ("inp_2", "inp_9")]

    frames = await setup.ask(runId="r2", resume=resume)

    assert frames[-1]["type"] == "RUN_FINISHED"
    assert [answer.input_id for answer in setup.requests(SubmitInputRequest)[0].answers] == ["inp_2"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.FAILED_PRECONDITION, "INPUT_ANSWERED"),
        (grpc.StatusCode.FAILED_PRECONDITION, "RUN_ENDED"),
        (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"),
    ],
)
async def test_an_answer_that_the_core_does_not_take_is_an_error_of_the_run(
    setup: Setup, code: grpc.StatusCode, reason: str
) -> None:
    setup.waiting(QUESTION)
    setup.core.script["SubmitInput"] = [Refuse(code, reason)]

    [error] = await setup.ask(runId="r2", resume=[{"interruptId": "inp_2", "status": "resolved"}])

    assert (error["type"], error["code"]) == ("RUN_ERROR", reason)


async def test_a_core_that_takes_no_answers_yet_says_so_as_a_status(setup: Setup) -> None:
    setup.waiting(QUESTION)
    setup.core.script["SubmitInput"] = [Refuse(grpc.StatusCode.UNIMPLEMENTED, "NOT_SERVED")]
    resume = [{"interruptId": "inp_2", "status": "resolved"}]

    async with setup.http.post(URL, json=body(runId="r2", resume=resume)) as response:
        error = await response.json()

    assert (response.status, error["error"]) == (501, "NOT_SERVED")


async def test_an_answer_sent_twice_is_harmless_and_streams_the_same(setup: Setup) -> None:
    log = setup.waiting(QUESTION)
    resume = [{"interruptId": "inp_2", "status": "resolved", "payload": {"answer": "7"}}]
    setup.core.threads.messages = [Message(id="msg_0", client_id="u1", role=Role.ROLE_USER)]
    log.resumed()
    log.text("Seven.")
    log.ended()
    setup.core.goes_on = log.events[4:]
    first = await setup.ask(runId="r2", resume=resume)

    setup.core.log().run.state = RunState.RUN_STATE_SUCCEEDED
    setup.thread()
    second = await setup.ask(runId="r2", resume=resume)

    assert first == second
    assert [submit.request_id for submit in setup.requests(SubmitInputRequest)] == [request_key("t", "r2")] * 2
    assert setup.core.log().run.leg == 1


async def test_answers_on_a_thread_that_waits_no_more_do_not_keep_a_new_message_out(setup: Setup) -> None:
    setup.core.append(*finished().events)
    setup.thread()
    setup.core.threads.messages = [SAID]

    frames = await setup.ask(resume=[{"interruptId": "inp_2", "status": "cancelled"}])

    assert frames[-1]["type"] == "RUN_FINISHED"
    assert len(setup.requests(CreateRunRequest)) == 1


async def test_a_tool_message_answers_a_run_that_waits_for_the_clients_tool(setup: Setup) -> None:
    log = HandmadeLog()
    log.calls({"call_a": ("look", "{}"), "call_b": ("find", "{}")})
    asked = [
        InputRequest(id=f"inp_{call}", kind=InputKind.INPUT_KIND_CLIENT_TOOL, call_id=call)
        for call in ("call_a", "call_b")
    ]
    setup.waiting(*asked, log=log)
    log.resumed()
    log.ended()
    setup.core.goes_on = log.events[-4:]
    seen = {"id": "o1", "role": "tool", "toolCallId": "call_a", "content": '{"seen": 1.0}'}
    lost = {"id": "o2", "role": "tool", "toolCallId": "call_b", "content": "", "error": "Not there."}

    [error] = await setup.ask(runId="r2", messages=[HI, seen])
    frames = await setup.ask(runId="r3", messages=[HI, seen, lost])

    assert (error["type"], error["code"]) == ("RUN_ERROR", "THREAD_WAITING")
    assert frames[-1]["type"] == "RUN_FINISHED"
    [submit] = setup.requests(SubmitInputRequest)
    assert [(answer.input_id, answer.answer_json) for answer in submit.answers] == [
        ("inp_call_a", '{"output":{"seen":1.0}}'),
        ("inp_call_b", '{"error_text":"Not there."}'),
    ]


async def test_a_message_beside_answers_is_not_lost(setup: Setup) -> None:
    log = setup.waiting(QUESTION)
    log.resumed()
    log.waiting(InputRequest(id="inp_3"))
    setup.core.goes_on = log.events[4:]
    more = {"id": "u2", "role": "user", "content": "And hurry."}

    frames = await setup.ask(
        runId="r2", messages=[HI, more], resume=[{"interruptId": "inp_2", "status": "resolved", "payload": {}}]
    )

    [snapshot] = [frame for frame in frames if frame["type"] == "MESSAGES_SNAPSHOT"]
    assert snapshot["messages"] == [HI, more]  # the client keeps it, and sends it with its next run


# ── connect, stop, what agents can do ────────────────────────────────────────────────────────────────────────────────

USER = Message(id="msg_0", client_id="u1", role=Role.ROLE_USER, parts=[Part(text=TextPart(text="Hi"))])


@pytest.mark.parametrize("url", [f"{URL}/connect", "/v1/ag-ui/agent/echo/connect"])
async def test_an_idle_thread_is_replayed_in_snapshots(setup: Setup, url: str) -> None:
    setup.thread(state_json='{"n":1.0}', state_version=2)
    setup.core.threads.messages = [USER, SAID]

    client = AgUiClient()
    frames = [client.feed(frame) for frame in await setup.ask(url, messages=[])]

    assert frames[0] == {"type": "RUN_STARTED", "threadId": "t", "runId": "r1", "protocolVersion": "1.0"}
    assert client.messages == [HI, {"id": "msg_9", "role": "assistant", "content": "Said."}]
    assert client.state == {"n": 1.0}
    assert client.end["outcome"] == {"type": "success"}


async def test_a_thread_that_nobody_has_used_takes_nothing_from_its_client(setup: Setup) -> None:
    frames = await setup.ask(f"{URL}/connect")

    assert [frame["type"] for frame in frames] == ["RUN_STARTED", "RUN_FINISHED"]


async def test_a_running_thread_is_replayed_and_then_followed(setup: Setup) -> None:
    log = finished("Half ", "a sentence.")
    setup.core.append(*log.events[:5])  # up to the first piece
    setup.thread(active_run_id="run_1")
    setup.core.threads.messages = [USER]
    stale = {"id": "msg_2", "role": "assistant", "content": "Hal"}
    client = AgUiClient(HI, stale)

    async with asyncio.timeout(LIMIT), setup.http.post(f"{URL}/connect", json=body(messages=[HI, stale])) as response:
        begun = await response.content.readuntil(b"TEXT_MESSAGE_START")
        setup.core.append(*log.events[5:])
        client.read(begun + await response.read())

    assert client.text() == "Half a sentence."
    assert [message["id"] for message in client.messages] == ["u1", "msg_2"]


async def test_a_waiting_thread_is_replayed_to_its_interrupt(setup: Setup) -> None:
    setup.waiting(QUESTION)
    setup.core.threads.messages = [USER]

    frames = await setup.ask(f"{URL}/connect", messages=[])

    assert [frame["type"] for frame in frames] == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "RUN_FINISHED"]
    assert frames[1]["messages"] == [HI]
    assert [one["id"] for one in frames[2]["outcome"]["interrupts"]] == ["inp_2"]


async def test_a_run_that_ends_while_its_thread_is_read_is_not_told_twice(setup: Setup) -> None:
    setup.core.append(*finished().events)
    setup.thread(active_run_id="run_1")
    setup.core.threads.messages = [USER, SAID]

    frames = await setup.ask(f"{URL}/connect", messages=[])

    assert [frame["type"] for frame in frames] == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "RUN_FINISHED"]
    assert len(setup.requests(ListMessagesRequest)) == 2  # the second time it is sure to have all


def put_run(core: ScriptedCore, run_id: str, client_id: str) -> Run:
    run = core.log(run_id).run
    run.origin_json = f'{{"ag_ui":{{"run_id":"{client_id}"}}}}'
    return run


@pytest.mark.parametrize(
    ("stop", "stopped"),
    [(None, ["run_1", "run_2"]), ({}, ["run_1", "run_2"]), ({"runId": "r2"}, ["run_2"]), ({"runId": "r9"}, [])],
)
@pytest.mark.parametrize("prefix", ["/v1/ag-ui/echo", "/v1/ag-ui/agent/echo"])
async def test_a_stop_cancels_what_runs_and_waits_or_the_one_that_it_names(
    setup: Setup, prefix: str, stop: object, stopped: list[str]
) -> None:
    for number in (1, 2):
        put_run(setup.core, f"run_{number}", f"r{number}")
    setup.core.append(*finished().events, run_id="run_3")

    async with setup.http.post(f"{prefix}/stop/t", **({} if stop is None else {"json": stop})) as response:
        answer = await response.json()

    cancels = setup.requests(CancelRunRequest)
    assert answer == {"stopped": bool(stopped), "runs": stopped}
    assert [(cancel.run_id, cancel.reason) for cancel in cancels] == [
        (run_id, EndReason.END_REASON_USER) for run_id in stopped
    ]


async def test_capabilities_are_those_of_the_official_models(setup: Setup) -> None:
    async with setup.http.get("/v1/ag-ui/echo/capabilities") as response:
        told = await response.json()
    async with setup.http.get("/v1/ag-ui/nobody/capabilities") as response:
        error = await response.json()

    capabilities = AgentCapabilities.model_validate(told)
    assert capabilities.identity is not None
    assert (capabilities.identity.name, capabilities.identity.description) == ("Echo", "Repeats.")
    assert AgentCapabilities.model_validate(told).model_dump(by_alias=True) == told
    assert (response.status, error["error"]) == (404, "AGENT_NOT_FOUND")


async def test_copilotkits_client_finds_the_agents(setup: Setup) -> None:
    async with setup.http.get("/v1/ag-ui/info") as response:
        info = await response.json()
    async with setup.http.post("/v1/ag-ui", json={"method": "info"}) as response:
        same = await response.json()

    assert info == same
    assert info["mode"] == "sse"
    assert (info["agents"]["echo"]["name"], info["agents"]["echo"]["description"]) == ("echo", "Repeats.")


async def test_copilotkits_client_may_send_all_to_one_url(setup: Setup) -> None:
    setup.core.append(*finished().events)
    params = {"agentId": "echo", "threadId": "t"}

    async def send(method: str, payload: object) -> bytes:
        envelope = {"method": method, "params": params, "body": payload}
        async with setup.http.post("/v1/ag-ui", json=envelope) as response:
            return await response.read()

    ran = frames_of(await send("agent/run", body()))
    connected = frames_of(await send("agent/connect", body()))

    assert (ran[-1]["type"], connected[-1]["type"]) == ("RUN_FINISHED", "RUN_FINISHED")
    assert await send("agent/stop", None) == b'{"stopped":false,"runs":[]}'
    assert b"INVALID_ARGUMENT" in await send("agent/dance", None)
