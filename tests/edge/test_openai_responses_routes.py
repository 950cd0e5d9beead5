"""The routes of responses over HTTP: a real edge between a real HTTP client and a scripted core."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import grpc
import pytest

from edge.protocols.openai_responses.origin import Origin, instructions_message
from penstock.v1.message_pb2 import Message, Part, Role, TextPart
from penstock.v1.run_pb2 import EndReason, InputKind, InputRequest
from penstock.v1.run_service_pb2 import (
    CancelRunRequest,
    CreateRunRequest,
    DeleteRunRequest,
)
from tests.edge.conftest import StartEdge
from tests.edge.handmade_log import RUN, HandmadeLog
from tests.edge.responses_setup import LIMIT, URL, Setup, TellingCore, finished, frames, waiting, with_origin
from tests.edge.scripted_calls import Refuse

APPROVAL = InputRequest(id="inp_7", kind=InputKind.INPUT_KIND_APPROVAL, tool_name="book", arguments_json="{}")


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
        else:
            await setup.get(f"{URL}/resp_1")  # goes to the core behind a cancel, if there were one
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
    log.waiting(InputRequest(id="inp_9", message="Really?"))
    log.resumed(2, answer_json='{"answer":"yes"}')
    setup.core.append(*log.events[setup.core.log().run.last_seq :])
    _, second = await setup.get(f"{URL}/resp_1-2/input_items")
    assert [item["id"] for item in second["data"]] == ["msg_9"]
    assert (verdict["approval_request_id"], verdict["approve"], verdict["reason"]) == ("mcpr_1_7", True, "fine")
