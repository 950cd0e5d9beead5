"""The routes of responses over HTTP: a real edge between a real HTTP client and a scripted core."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
import grpc
import pytest

from edge.protocols.openai_responses.origin import Origin, instructions_message
from penstock.v1.message_pb2 import Message, Part, Role, TextPart, ToolCallPart, ToolOutcome, ToolRunner
from penstock.v1.run_pb2 import EndReason, InputKind, InputRequest, Run
from penstock.v1.run_service_pb2 import (
    CancelRunRequest,
    CreateRunRequest,
    DeleteRunRequest,
    SubmitInputRequest,
)
from penstock.v1.thread_service_pb2 import DeleteThreadRequest, EventRef, ForkThreadRequest
from tests.edge.conftest import StartEdge
from tests.edge.handmade_log import RUN, HandmadeLog
from tests.edge.scripted_calls import Context, Refuse
from tests.edge.scripted_core import ScriptedCore

LIMIT = 10.0
URL = "/v1/responses"
NOT_FOUND = grpc.StatusCode.NOT_FOUND
APPROVAL = InputRequest(id="inp_7", kind=InputKind.INPUT_KIND_APPROVAL, tool_name="book", arguments_json="{}")

Request = TypeVar("Request")


class TellingCore(ScriptedCore):
    """A core that tells when it is asked to cancel a run, and can end it then."""

    def __init__(self) -> None:
        super().__init__()
        self.cancelled: asyncio.Future[CancelRunRequest] = asyncio.get_running_loop().create_future()
        self.after_cancel: HandmadeLog | None = None

    async def note(self, rpc: str, request: object, context: Context) -> None:
        await super().note(rpc, request, context)
        if isinstance(request, CancelRunRequest):
            self.cancelled.set_result(request)
            if self.after_cancel is not None:
                self.after_cancel.ended(EndReason.END_REASON_USER)
                self.append(self.after_cancel.events[-1])


@dataclass(frozen=True, slots=True)
class Setup:
    core: TellingCore
    http: aiohttp.ClientSession

    def asked(self, kind: type[Request]) -> list[Request]:
        """The requests of one RPC that reached the core."""
        return [request for request in self.core.requests if isinstance(request, kind)]

    async def post(self, path: str = URL, **fields: Any) -> tuple[int, dict[str, Any]]:
        body = {"model": "echo", "input": "Hello", **fields} if path == URL else fields
        async with asyncio.timeout(LIMIT), self.http.post(path, json=body) as response:
            return response.status, await response.json()

    async def get(self, path: str, method: str = "GET") -> tuple[int, dict[str, Any]]:
        async with asyncio.timeout(LIMIT), self.http.request(method, path) as response:
            return response.status, await response.json()

    async def stream(self, path: str) -> list[dict[str, Any]]:
        async with asyncio.timeout(LIMIT), self.http.get(path) as response:
            assert response.status == 200
            return frames(await response.text())


def frames(stream: str) -> list[dict[str, Any]]:
    return [json.loads(frame.partition("data: ")[2]) for frame in stream.split("\n\n") if "data: " in frame]


@pytest.fixture
async def core() -> AsyncIterator[TellingCore]:
    telling = TellingCore()
    await telling.start()
    yield telling
    await telling.stop()


@pytest.fixture
async def setup(core: TellingCore, start_edge: StartEdge) -> AsyncIterator[Setup]:
    edge = await start_edge(reattach_for=0)
    async with aiohttp.ClientSession(f"http://{edge.address}") as http:
        yield Setup(core, http)


def finished(origin: Origin | None = None) -> HandmadeLog:
    log = HandmadeLog(with_origin(origin or Origin()))
    log.text("Hi ", "there")
    log.ended()
    return log


def with_origin(origin: Origin) -> Run:
    run = Run(origin_json=origin.to_json())
    run.MergeFrom(RUN)
    return run


def waiting(*questions: InputRequest) -> HandmadeLog:
    log = HandmadeLog(with_origin(Origin()))
    log.text("Well. ")
    log.waiting(*questions)
    return log


# ── create ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("prefix", ["/v1", "/openai/v1"])
async def test_a_blocking_call_returns_the_response_and_names_run_and_thread(setup: Setup, prefix: str) -> None:
    setup.core.append(*finished().events)

    async with setup.http.post(f"{prefix}/responses", json={"model": "echo", "input": "Hello"}) as response:
        answer = await response.json()

    assert response.status == 200
    assert (response.headers["X-Run-Id"], response.headers["X-Thread-Id"]) == ("run_1", "thr_1")
    assert (answer["id"], answer["status"], answer["model"]) == ("resp_1", "completed", "echo")
    assert answer["output"][0]["content"][0]["text"] == "Hi there"


async def test_the_run_is_created_with_all_that_was_asked(setup: Setup) -> None:
    setup.core.append(*finished().events)

    await setup.post(instructions="Be brief.", metadata={"a": "b"}, temperature=0.5)

    [create] = setup.asked(CreateRunRequest)
    assert create.request_id
    assert (create.agent_id, create.thread_id, dict(create.metadata)) == ("echo", "", {"a": "b"})
    assert create.options.HasField("retry_after_output")
    assert not create.options.retry_after_output
    assert create.options.agent_options_json == '{"temperature":0.5}'
    assert create.origin_json == Origin().to_json()
    assert list(create.input) == [
        instructions_message("Be brief."),
        Message(role=Role.ROLE_USER, parts=[Part(text=TextPart(text="Hello"))]),
    ]


async def test_a_stream_counts_from_zero_and_has_no_ids(setup: Setup) -> None:
    setup.core.append(*finished().events)

    async with setup.http.post(URL, json={"model": "echo", "input": "Hello", "stream": True}) as response:
        stream = await response.text()

    assert response.content_type == "text/event-stream"
    assert response.headers["X-Run-Id"] == "run_1"
    assert [frame["sequence_number"] for frame in frames(stream)] == list(range(11))
    assert (frames(stream)[0]["type"], frames(stream)[-1]["type"]) == ("response.created", "response.completed")
    assert "id:" not in [line[:3] for line in stream.splitlines()]


async def test_a_background_response_returns_at_once(setup: Setup) -> None:
    log = HandmadeLog(with_origin(Origin(background=True)))
    setup.core.append(*log.events)

    async with asyncio.timeout(LIMIT):
        status, answer = await setup.post(background=True)

    assert (status, answer["id"], answer["status"], answer["background"]) == (200, "resp_1", "in_progress", True)
    assert not setup.core.cancelled.done()


async def test_a_failed_run_is_a_response_with_an_error(setup: Setup) -> None:
    log = HandmadeLog()
    log.ended(EndReason.END_REASON_AGENT_ERROR)
    setup.core.append(*log.events)

    status, answer = await setup.post()

    assert (status, answer["status"], answer["error"]["code"]) == (200, "failed", "server_error")


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        ({"model": "nobody"}, 404, "model_not_found", None),
        ({"input": [{"type": "x"}]}, 400, "INVALID_ARGUMENT", "input[0].type"),
        ({"previous_response_id": "resp_9"}, 400, "previous_response_not_found", "previous_response_id"),
        ({"conversation": "conv_9"}, 404, "THREAD_NOT_FOUND", None),
        ({"input": [{"type": "item_reference", "id": "msg_9_1"}]}, 400, "INVALID_ARGUMENT", "input[0].id"),
        ({"input": [{"type": "item_reference", "id": "what"}]}, 400, "INVALID_ARGUMENT", "input[0].id"),
    ],
)
async def test_a_refusal_is_an_openai_error_and_nothing_was_made(
    setup: Setup, fields: dict[str, Any], status: int, code: str, param: str | None
) -> None:
    async with setup.http.post(URL, json={"model": "echo", "input": "Hello", **fields}) as response:
        error = (await response.json())["error"]

    assert (response.status, error["code"], error["param"]) == (status, code, param)
    assert response.headers["x-should-retry"] == "false"
    assert error["message"]
    assert not setup.core.logs


@pytest.mark.parametrize(
    ("fields", "ends_with_client"),
    [
        ({}, True),  # nobody knows its id
        ({"stream": True, "store": False}, True),  # nobody may come back to it
        ({"stream": True}, False),
    ],
)
async def test_a_client_that_goes_away_cancels_what_it_can_never_see_again(
    setup: Setup, fields: dict[str, Any], *, ends_with_client: bool
) -> None:
    setup.core.append(*HandmadeLog().events)
    asking = asyncio.create_task(read_post(setup, fields))
    async with asyncio.timeout(LIMIT):
        await setup.core.until_watched(starts=1)
        asking.cancel()
        await setup.core.until_watched(stops=1)
        if ends_with_client:
            cancel = await setup.core.cancelled
            assert (cancel.run_id, cancel.reason) == ("run_1", EndReason.END_REASON_DISCONNECTED)
    assert setup.core.cancelled.done() == ends_with_client


async def read_post(setup: Setup, fields: dict[str, Any]) -> str:
    async with setup.http.post(URL, json={"model": "echo", "input": "Hello", **fields}) as response:
        return await response.text()


async def test_a_stream_whose_core_stays_away_ends_with_an_error_that_takes_no_number(setup: Setup) -> None:
    setup.core.append(*HandmadeLog().events)

    body = {"model": "echo", "input": "Hello", "stream": True}
    async with asyncio.timeout(LIMIT), setup.http.post(URL, json=body) as response:
        while b"in_progress" not in await response.content.readuntil(b"\n\n"):
            pass
        await setup.core.stop()
        [last] = frames(await response.text())

    assert (last["type"], last["sequence_number"], last["code"]) == ("error", 2, "CORE_UNAVAILABLE")
    assert last["error"]["code"] == "CORE_UNAVAILABLE"


# ── look up ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_response_is_shown_as_far_as_it_has_come(setup: Setup) -> None:
    log = HandmadeLog(with_origin(Origin(background=True)))
    log.text("Hi ")
    setup.core.append(*log.events)
    seen = len(log.events)
    before = await setup.get(f"{URL}/resp_1")
    log.text("there")
    log.ended()
    setup.core.append(*log.events[seen:])

    status, after = await setup.get(f"{URL}/resp_1")

    assert (before[0], before[1]["status"], len(before[1]["output"])) == (200, "in_progress", 1)
    assert (status, after["status"], len(after["output"])) == (200, "completed", 2)


@pytest.mark.parametrize("number", [0, 4, 9])
async def test_a_stream_can_be_resumed_behind_any_number(setup: Setup, number: int) -> None:
    setup.core.append(*finished().events)

    whole = await setup.stream(f"{URL}/resp_1?stream=true")
    rest = await setup.stream(f"{URL}/resp_1?stream=true&starting_after={number}&include_obfuscation=false")

    assert [frame["sequence_number"] for frame in whole] == list(range(11))
    assert rest == whole[number + 1 :]


async def test_a_resumed_stream_goes_on_live(setup: Setup) -> None:
    log = HandmadeLog(with_origin(Origin(background=True)))
    setup.core.append(*log.events)
    seen = len(log.events)
    async with asyncio.timeout(LIMIT), setup.http.get(f"{URL}/resp_1?stream=true&starting_after=1") as response:
        first = await response.content.readuntil(b"\n\n")
        log.text("Hi")
        log.ended()
        setup.core.append(*log.events[seen:])
        rest = await response.text()

    numbers = [frame["sequence_number"] for frame in frames(first.decode() + rest)]
    assert numbers == list(range(2, 10))


@pytest.mark.parametrize("response_id", ["resp_9", "resp_1-1", "what", "resp_1-"])
@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("GET", "/input_items"), ("POST", "/cancel"), ("DELETE", "")]
)
async def test_a_response_that_is_not_there_is_not_found(
    setup: Setup, response_id: str, method: str, path: str
) -> None:
    setup.core.append(*finished().events)

    status, answer = await setup.get(f"{URL}/{response_id}{path}", method)

    assert (status, answer["error"]["code"]) == (404, "RUN_NOT_FOUND")


async def test_a_response_that_was_not_to_be_stored_is_not_found_later(setup: Setup) -> None:
    log = finished(Origin(store=False))
    setup.core.log().run.CopyFrom(with_origin(Origin(store=False)))
    setup.core.append(*log.events)

    _, created = await setup.post(store=False)
    status, answer = await setup.get(f"{URL}/{created['id']}")
    chained, refused = await setup.post(previous_response_id=created["id"])

    assert (created["status"], created["store"]) == ("completed", False)
    assert (status, answer["error"]["code"]) == (404, "RUN_NOT_FOUND")
    assert (chained, refused["error"]["code"]) == (400, "previous_response_not_found")


async def test_a_bad_cursor_is_refused(setup: Setup) -> None:
    setup.core.append(*finished().events)

    status, answer = await setup.get(f"{URL}/resp_1?stream=true&starting_after=x")

    assert (status, answer["error"]["param"]) == (400, "starting_after")


async def test_a_cancel_returns_the_response_as_it_ended(setup: Setup) -> None:
    log = HandmadeLog()
    log.text("Hi")
    setup.core.append(*log.events)
    setup.core.after_cancel = log

    async with asyncio.timeout(LIMIT):
        status, answer = await setup.get(f"{URL}/resp_1/cancel", "POST")
        again = await setup.get(f"{URL}/resp_1/cancel", "POST")

    assert (status, answer["status"]) == (200, "cancelled")
    assert answer["output"][0]["content"][0]["text"] == "Hi"
    assert again == (200, answer)
    assert len(setup.asked(CancelRunRequest)) == 1


async def test_a_cancel_of_an_earlier_leg_leaves_the_run_alone(setup: Setup) -> None:
    log = waiting(APPROVAL)
    log.resumed()
    setup.core.append(*log.events)

    status, answer = await setup.get(f"{URL}/resp_1/cancel", "POST")

    assert (status, answer["status"]) == (200, "completed")
    assert not setup.core.cancelled.done()


async def test_a_delete_takes_the_run_along(setup: Setup) -> None:
    setup.core.append(*finished().events)

    status, answer = await setup.get(f"{URL}/resp_1", "DELETE")

    [delete] = setup.asked(DeleteRunRequest)
    assert (status, answer) == (200, {"id": "resp_1", "object": "response", "deleted": True})
    assert (delete.run_id, delete.cancel) == ("run_1", True)
    assert (await setup.get(f"{URL}/resp_1"))[0] == 404


async def test_a_core_that_cannot_delete_says_so(setup: Setup) -> None:
    setup.core.append(*finished().events)
    setup.core.script["DeleteRun"] = [Refuse(grpc.StatusCode.UNIMPLEMENTED, "NOT_SERVED")]

    status, answer = await setup.get(f"{URL}/resp_1", "DELETE")

    assert (status, answer["error"]["code"], answer["error"]["type"]) == (501, "NOT_SERVED", "server_error")


# ── input items ──────────────────────────────────────────────────────────────────────────────────────────────────────


def user(number: int) -> Message:
    return Message(id=f"msg_{number}", role=Role.ROLE_USER, parts=[Part(text=TextPart(text=f"word {number}"))])


async def test_input_items_are_what_was_sent_newest_first_and_without_instructions(setup: Setup) -> None:
    setup.core.append(*HandmadeLog(RUN, instructions_message("Be brief."), user(1), user(2), user(3)).events)

    _, newest = await setup.get(f"{URL}/resp_1/input_items?limit=2")
    _, rest = await setup.get(f"{URL}/resp_1/input_items?limit=2&after={newest['last_id']}")
    _, oldest = await setup.get(f"{URL}/resp_1/input_items?order=asc&limit=1")

    assert [item["id"] for item in newest["data"]] == ["msg_3", "msg_2"]
    assert (newest["object"], newest["first_id"], newest["last_id"], newest["has_more"]) == (
        "list",
        "msg_3",
        "msg_2",
        True,
    )
    assert ([item["id"] for item in rest["data"]], rest["has_more"]) == (["msg_1"], False)
    assert oldest["data"] == [
        {
            "id": "msg_1",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_text", "text": "word 1"}],
        }
    ]


@pytest.mark.parametrize(("query", "param"), [("limit=0", "limit"), ("order=up", "order"), ("after=msg_9", "after")])
async def test_a_page_that_does_not_exist_is_refused(setup: Setup, query: str, param: str) -> None:
    setup.core.append(*HandmadeLog(RUN, user(1)).events)

    status, answer = await setup.get(f"{URL}/resp_1/input_items?{query}")

    assert (status, answer["error"]["param"]) == (400, param)


async def test_the_input_items_of_a_later_leg_are_the_answers_that_began_it(setup: Setup) -> None:
    log = waiting(APPROVAL, InputRequest(id="inp_8", message="Which?"))
    log.resumed(answer_json='{"approved":true,"comment":"fine"}')
    setup.core.append(*log.events)

    _, listed = await setup.get(f"{URL}/resp_1-1/input_items?order=asc")

    assert [(item["type"], item["id"]) for item in listed["data"]] == [
        ("mcp_approval_response", "mcpa_7"),
        ("message", "msg_8"),
    ]
    verdict = listed["data"][0]
    assert (verdict["approval_request_id"], verdict["approve"], verdict["reason"]) == ("mcpr_1_7", True, "fine")


# ── going on ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_newest_response_of_a_thread_is_gone_on_with_on_that_thread(setup: Setup) -> None:
    setup.core.append(*finished().events)

    status, _ = await setup.post(previous_response_id="resp_1", input="And now?")

    [create] = setup.asked(CreateRunRequest)
    assert (status, create.thread_id, len(create.input)) == (200, "thr_1", 1)
    assert create.origin_json == Origin(previous_response_id="resp_1").to_json()


async def test_an_older_response_is_branched_off_on_a_fork_of_its_thread(setup: Setup) -> None:
    for run_id in ("run_1", "run_2"):
        setup.core.append(*finished().events, run_id=run_id)

    status, _ = await setup.post(previous_response_id="resp_1", input="three")

    [fork] = setup.asked(ForkThreadRequest)
    [create] = setup.asked(CreateRunRequest)
    assert (fork.thread_id, fork.event) == ("thr_1", EventRef(run_id="run_1", seq=9))
    assert (status, create.thread_id, len(create.input)) == (200, "thr_fork", 1)


async def test_nothing_is_forked_for_an_agent_that_is_not_there(setup: Setup) -> None:
    for run_id in ("run_1", "run_2"):
        setup.core.append(*finished().events, run_id=run_id)

    status, answer = await setup.post(previous_response_id="resp_1", model="nobody")

    assert (status, answer["error"]["code"]) == (404, "model_not_found")
    assert not setup.asked(ForkThreadRequest)


async def test_a_conversation_is_gone_on_with_on_its_thread(setup: Setup) -> None:
    setup.core.append(*finished().events)

    _, answer = await setup.post(conversation="conv_1")

    [create] = setup.asked(CreateRunRequest)
    assert create.thread_id == "thr_1"
    assert create.origin_json == Origin(conversation="conv_1").to_json()
    assert answer["id"] == "resp_1"


async def test_a_result_gets_the_name_of_the_tool_from_the_call_that_it_answers(setup: Setup) -> None:
    call = ToolCallPart(call_id="call_a", tool_name="look", runner=ToolRunner.TOOL_RUNNER_CLIENT)
    log = setup.core.log()
    log.append(*finished().events)
    log.messages = [Message(role=Role.ROLE_ASSISTANT, parts=[Part(ordinal=1, tool_call=call)])]
    output = {"type": "function_call_output", "call_id": "call_a", "output": "seen"}

    await setup.post(previous_response_id="resp_1", input=[output])

    [create] = setup.asked(CreateRunRequest)
    result = create.input[0].parts[0].tool_result
    assert (create.thread_id, result.tool_name, result.output_json) == ("thr_1", "look", '"seen"')


async def test_references_are_what_the_agent_said_and_nothing_is_said_twice(setup: Setup) -> None:
    call = Part(ordinal=2, tool_call=ToolCallPart(call_id="call_a", tool_name="own"))
    result = Part(ordinal=3)
    result.tool_result.call_id = "call_a"
    setup.core.append(*finished().events)
    log = setup.core.log("run_5")
    log.run.result_json = '{"n":1}'
    log.messages = [
        Message(role=Role.ROLE_ASSISTANT, parts=[Part(ordinal=1, text=TextPart(text="Hm. ")), call]),
        Message(role=Role.ROLE_TOOL, parts=[result]),
    ]
    ids = ["msg_5_1", "mcp_5_2", "mcp_5_2", "mcp_5_3", "mcpr_5_7", "msg_5_0"]

    await setup.post(input=[{"type": "item_reference", "id": item} for item in ids])

    [create] = setup.asked(CreateRunRequest)
    said = [[part.WhichOneof("content") for part in message.parts] for message in create.input]
    assert said == [["text", "tool_call"], ["tool_result"], ["text"]]
    assert create.input[2].parts[0].text.text == '{"n":1}'


# ── answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────

YES = {"type": "mcp_approval_response", "approval_request_id": "mcpr_1_7", "approve": True}


@pytest.mark.parametrize(
    "fields",
    [
        {"input": [YES], "previous_response_id": "resp_1"},
        {"input": [YES], "conversation": "conv_1"},
        {"input": [{"role": "user", "content": "Book!"}, {"type": "item_reference", "id": "mcpr_1_7"}, YES]},
    ],
)
async def test_an_answer_begins_the_next_response(setup: Setup, fields: dict[str, Any]) -> None:
    log = waiting(APPROVAL)
    setup.core.append(*log.events)
    seen = len(log.events)
    answering = asyncio.create_task(setup.post(**fields))
    async with asyncio.timeout(LIMIT):
        await setup.core.until_watched(starts=1)
        log.resumed(origin_json=setup.asked(SubmitInputRequest)[0].origin_json)
        log.text("Booked.")
        log.ended()
        setup.core.append(*log.events[seen:])
        status, answer = await answering

    [submit] = setup.asked(SubmitInputRequest)
    assert (submit.run_id, [given.input_id for given in submit.answers]) == ("run_1", ["inp_7"])
    assert submit.request_id
    assert (status, answer["id"], answer["status"]) == (200, "resp_1-1", "completed")
    assert [item["content"][0]["text"] for item in answer["output"]] == ["Booked."]
    assert answer["previous_response_id"] == fields.get("previous_response_id")
    assert not setup.asked(CreateRunRequest)


async def test_an_answer_in_the_background_is_queued_until_the_run_resumes(setup: Setup) -> None:
    log = waiting(APPROVAL)
    setup.core.append(*log.events)

    async with asyncio.timeout(LIMIT):
        status, answer = await setup.post(input=[YES], background=True, metadata={"a": "b"})
        setup.core.log().run.ClearField("inputs")
        shown = await setup.get(f"{URL}/resp_1-1")

    assert (status, answer["id"], answer["status"], answer["background"]) == (200, "resp_1-1", "queued", True)
    assert (shown[0], shown[1]["status"]) == (200, "queued")


async def test_an_answer_can_be_streamed(setup: Setup) -> None:
    log = waiting(APPROVAL)
    setup.core.append(*log.events)
    seen = len(log.events)
    body = {"model": "echo", "input": [YES], "stream": True}
    async with asyncio.timeout(LIMIT), setup.http.post(URL, json=body) as response:
        log.resumed()
        log.text("Booked.")
        log.ended()
        setup.core.append(*log.events[seen:])
        stream = frames(await response.text())

    assert [frame["sequence_number"] for frame in stream] == list(range(len(stream)))
    assert (stream[0]["response"]["id"], stream[-1]["type"]) == ("resp_1-1", "response.completed")


async def test_a_request_that_leaves_a_question_open_is_refused(setup: Setup) -> None:
    setup.core.append(*waiting(APPROVAL).events)

    status, answer = await setup.post(previous_response_id="resp_1", input="Hello?")
    missing, named = await setup.post(conversation="thr_1", input=[{"id": "msg_1_1"}])

    assert (status, answer["error"]["param"]) == (400, "input")
    assert (missing, "mcpr_1_7" in named["error"]["message"]) == (400, True)
    assert not setup.asked(SubmitInputRequest)
    assert not setup.asked(CreateRunRequest)


async def test_an_approval_that_was_given_before_is_refused_by_the_core(setup: Setup) -> None:
    log = waiting(APPROVAL)
    log.resumed()
    setup.core.append(*log.events)
    setup.core.script["SubmitInput"] = [Refuse(grpc.StatusCode.FAILED_PRECONDITION, "INPUT_ANSWERED")]

    status, answer = await setup.post(input=[YES])

    assert (status, answer["error"]["code"]) == (409, "INPUT_ANSWERED")


# ── conversations ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_conversation_is_a_thread(setup: Setup) -> None:
    made = await setup.post("/v1/conversations", metadata={"topic": "a"})
    async with setup.http.post("/openai/v1/conversations") as response:
        empty = await response.json()
    shown = await setup.get("/v1/conversations/conv_1")
    missing, refused = await setup.get("/v1/conversations/conv_9")

    assert made == (
        200,
        {"id": "conv_1", "object": "conversation", "created_at": 0, "metadata": {"topic": "a"}},
    )
    assert empty["id"] == "conv_1"
    assert shown[1] == {"id": "conv_1", "object": "conversation", "created_at": 0, "metadata": {}}
    assert (missing, refused["error"]["code"]) == (404, "THREAD_NOT_FOUND")


async def test_the_items_of_a_conversation_are_what_was_said_in_it(setup: Setup) -> None:
    call = Part(ordinal=2)
    call.tool_call.call_id, call.tool_call.tool_name = "call_a", "own"
    result = Part(ordinal=3)
    result.tool_result.call_id = "call_a"
    result.tool_result.outcome = ToolOutcome.TOOL_OUTCOME_SUCCEEDED
    result.tool_result.output_json = '"seen"'
    setup.core.said["thr_1"] = [
        user(1),
        Message(
            id="msg_2",
            run_id="run_5",
            role=Role.ROLE_ASSISTANT,
            parts=[Part(ordinal=1, text=TextPart(text="Hm")), call],
        ),
        Message(id="msg_3", run_id="run_5", role=Role.ROLE_TOOL, parts=[result]),
    ]

    _, listed = await setup.get("/v1/conversations/conv_1/items?order=asc")
    _, one = await setup.get("/v1/conversations/conv_1/items/mcp_5_2")
    missing, refused = await setup.get("/v1/conversations/conv_1/items/mcp_5_9")

    assert [(item["type"], item["id"]) for item in listed["data"]] == [
        ("message", "msg_1"),
        ("message", "msg_5_1"),
        ("mcp_call", "mcp_5_2"),
    ]
    assert one == listed["data"][2]
    assert (one["name"], one["output"], one["status"]) == ("own", "seen", "completed")
    assert (missing, refused["error"]["code"]) == (404, "ITEM_NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/responses/compact"),
        ("POST", "/v1/responses/input_tokens"),
        ("POST", "/v1/conversations/conv_1"),
        ("POST", "/v1/conversations/conv_1/items"),
        ("DELETE", "/v1/conversations/conv_1/items/msg_1"),
    ],
)
async def test_what_no_core_can_do_is_refused_in_openais_words(setup: Setup, method: str, path: str) -> None:
    status, answer = await setup.get(path, method)

    assert (status, answer["error"]["code"]) == (501, "NOT_SERVED")


async def test_a_deleted_conversation_takes_its_thread_along(setup: Setup) -> None:
    status, answer = await setup.get("/v1/conversations/conv_1", "DELETE")
    missing, _ = await setup.get("/v1/conversations/conv_9", "DELETE")

    [delete] = setup.asked(DeleteThreadRequest)
    assert (status, answer) == (200, {"id": "conv_1", "object": "conversation.deleted", "deleted": True})
    assert (delete.thread_id, delete.cancel) == ("thr_1", True)
    assert missing == 404


async def test_a_conversation_cannot_begin_with_items(setup: Setup) -> None:
    status, answer = await setup.post("/v1/conversations", items=[{"role": "user", "content": "Hi"}])

    assert (status, answer["error"]["code"], answer["error"]["param"]) == (501, "NOT_SERVED", "items")
