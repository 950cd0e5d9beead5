"""The client: what it repeats, where it goes on, what failures become."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone

import grpc
import pytest
from google.protobuf.json_format import ParseDict

from penstock import Client, errors
from penstock.v1.event_pb2 import Event
from penstock.v1.message_pb2 import Message, Role
from penstock.v1.run_pb2 import InputAnswer, InputOutcome, Run, RunState
from penstock.v1.run_service_pb2 import (
    CancelRunsRequest,
    CreateRunRequest,
    DeleteRunRequest,
    InputState,
    ListInputsRequest,
    ListRunsRequest,
    SteerRunRequest,
    StreamRunRequest,
    SubmitInputRequest,
    WatchRunRequest,
)
from tests.sdk.scripted_runs import Refusal, ScriptedRuns, scripted_runs, succeeded


@pytest.fixture
async def runs() -> AsyncIterator[ScriptedRuns]:
    async with scripted_runs() as runs:
        yield runs


@pytest.fixture
async def client(runs: ScriptedRuns) -> AsyncIterator[Client]:
    async with Client(runs.address, patience=5.0) as client:
        yield client


def log(*payloads: dict[str, object]) -> list[Event]:
    return [ParseDict({"seq": seq, **payload}, Event()) for seq, payload in enumerate(payloads, 1)]


def part(ordinal: int, text: str, message: str = "msg_1") -> dict[str, object]:
    return {"part_ended": {"message_id": message, "part": {"ordinal": ordinal, "text": {"text": text}}}}


QUEUED: dict[str, object] = {"run_queued": {"run": {"id": "run_1"}}}
MESSAGE: dict[str, object] = {"message_started": {"message": {"id": "msg_1"}}}
ENDED: dict[str, object] = {"run_ended": {"state": "RUN_STATE_SUCCEEDED", "reason": "END_REASON_COMPLETED"}}
TOLD = log(QUEUED, MESSAGE, part(1, "a"), part(2, "b"), ENDED)


async def test_a_create_is_repeated_with_the_same_request_id_while_the_core_is_away(
    runs: ScriptedRuns, client: Client
) -> None:
    runs.refusals = [Refusal(), Refusal(grpc.StatusCode.CANCELLED, ""), Refusal(reason="STORE_UNAVAILABLE")]

    run = await client.create("echo", "hi", metadata={"a": "b"})

    assert run.id == "run_1"
    assert len(runs.requests) == 4
    assert all(request == runs.requests[0] for request in runs.requests)
    [request, *_] = runs.requests
    assert isinstance(request, CreateRunRequest)
    assert len(request.request_id) == 32
    assert (request.input[0].role, request.input[0].parts[0].text.text) == (Role.ROLE_USER, "hi")


async def test_a_request_id_of_the_caller_is_kept_and_two_creates_have_two(runs: ScriptedRuns, client: Client) -> None:
    await client.create("echo", "hello", request_id="mine")
    await client.create("echo", "hello")
    await client.create("echo", "hello")

    ids = [request.request_id for request in runs.requests if isinstance(request, CreateRunRequest)]
    assert ids[0] == "mine"
    assert len(set(ids)) == 3


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ("", []),
        ("hi", [{"text": {"text": "hi"}}]),
        ("a\ud800", [{"text": {"text": "a\ufffd"}}]),
        ({"deltas": 3}, [{"data": {"value_json": '{"deltas":3}'}}]),
        ([1, 2], [{"data": {"value_json": "[1,2]"}}]),
        (Message(role=Role.ROLE_SYSTEM), []),
        ([Message(role=Role.ROLE_USER), Message(role=Role.ROLE_TOOL)], []),
    ],
    ids=["nothing", "text", "surrogate", "object", "array", "message", "messages"],
)
async def test_input_is_text_json_or_messages(
    runs: ScriptedRuns, client: Client, given: object, parts: list[dict[str, object]]
) -> None:
    await client.create("echo", given)

    [request] = runs.requests
    assert isinstance(request, CreateRunRequest)
    assert [one for message in request.input for one in message.parts] == [
        ParseDict({"parts": [expected]}, Message()).parts[0] for expected in parts
    ]
    if isinstance(given, Message):
        assert list(request.input) == [given]


REFUSALS = [
    (grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND", errors.NotFound),
    (grpc.StatusCode.ALREADY_EXISTS, "IDEMPOTENCY_MISMATCH", errors.Conflict),
    (grpc.StatusCode.FAILED_PRECONDITION, "THREAD_BUSY", errors.NotPossible),
    (grpc.StatusCode.OUT_OF_RANGE, "EVENTS_EXPIRED", errors.OutOfRange),
    (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL", errors.Exhausted),
    (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", errors.InvalidRequest),
    (grpc.StatusCode.UNIMPLEMENTED, "NOT_SERVED", errors.NotServed),
    (grpc.StatusCode.UNAVAILABLE, "NO_WORKER", errors.Unavailable),
    (grpc.StatusCode.INTERNAL, "LOG_DAMAGED", errors.PenstockError),
]


@pytest.mark.parametrize(("code", "reason", "kind"), REFUSALS, ids=[reason for _, reason, _ in REFUSALS])
async def test_a_refusal_is_raised_at_once_with_its_reason(
    runs: ScriptedRuns, client: Client, code: grpc.StatusCode, reason: str, kind: type[errors.PenstockError]
) -> None:
    runs.refusals = [Refusal(code, reason, {"oldest_seq": "7"})]

    with pytest.raises(kind) as caught:
        await client.get("run_1")

    assert type(caught.value) is kind
    assert (caught.value.reason, caught.value.metadata) == (reason, {"oldest_seq": "7"})
    assert str(caught.value) == f"refused: {reason}"
    assert len(runs.requests) == 1


async def test_patience_ends(runs: ScriptedRuns) -> None:
    runs.refusals = [Refusal()] * 100
    async with Client(runs.address, patience=0.3) as client:
        with pytest.raises(errors.Unavailable) as caught:
            await client.get("run_1")

    assert caught.value.reason == "CORE_DRAINING"
    assert len(runs.requests) > 1


async def test_without_a_core_a_call_fails_as_unavailable() -> None:
    async with scripted_runs() as runs:
        address = runs.address
    async with Client(address, patience=0.2) as client:
        with pytest.raises(errors.Unavailable):
            await client.get("run_1")


async def test_a_watch_goes_on_behind_the_last_event_it_saw(runs: ScriptedRuns, client: Client) -> None:
    runs.plays = [[*TOLD[:2], Refusal()], [Refusal()], [*TOLD[:4], Refusal(grpc.StatusCode.CANCELLED, "")], TOLD]

    events = [event async for event in client.watch("run_1")]

    assert events == TOLD
    cursors = [request.after_seq for request in runs.requests if isinstance(request, WatchRunRequest)]
    assert cursors == [0, 2, 2, 4]


async def test_a_watch_of_what_was_seen_already_ends(runs: ScriptedRuns, client: Client) -> None:
    runs.plays = [TOLD]

    assert [event async for event in client.watch("run_1", after=5)] == []


async def test_a_watch_tells_why_it_cannot_go_on(runs: ScriptedRuns, client: Client) -> None:
    runs.plays = [[*TOLD[:2], Refusal(grpc.StatusCode.OUT_OF_RANGE, "EVENTS_EXPIRED", {"oldest_seq": "9"})]]

    events = client.watch("run_1")
    assert [(await anext(events)).seq, (await anext(events)).seq] == [1, 2]
    with pytest.raises(errors.OutOfRange) as caught:
        await anext(events)

    assert caught.value.metadata == {"oldest_seq": "9"}


async def test_a_stream_creates_again_until_it_knows_its_run_and_watches_then(
    runs: ScriptedRuns, client: Client
) -> None:
    runs.refusals = [Refusal(), Refusal()]
    runs.plays = [[Refusal()], [*TOLD[:3], Refusal()], TOLD]

    events = [event async for event in client.stream("echo", "hi")]

    assert events == TOLD
    kinds = [type(request) for request in runs.requests]
    assert kinds == [StreamRunRequest] * 3 + [WatchRunRequest] * 2
    assert runs.requests[0] == runs.requests[1] == runs.requests[2]


async def test_text_is_the_main_text_that_counts(runs: ScriptedRuns, client: Client) -> None:
    runs.plays = [
        log(
            QUEUED,
            MESSAGE,
            part(1, "taken back"),
            {"run_retrying": {"retracted_ordinals": [1]}},
            {"message_started": {"message": {"id": "msg_2"}, "lane": "run_child"}},
            part(2, "of a child", "msg_2"),
            part(4, "second"),
            part(3, "first, "),
            ENDED,
        )
    ]

    assert await client.text("echo", "hi") == "first, second"


async def test_text_of_a_run_that_failed_raises(runs: ScriptedRuns, client: Client) -> None:
    failed = {
        "state": "RUN_STATE_FAILED",
        "reason": "END_REASON_AGENT_ERROR",
        "error": {"code": "OUT_OF_STOCK", "message": "None left."},
    }
    runs.plays = [log(QUEUED, {"run_ended": failed})]

    with pytest.raises(errors.RunFailed, match=r"None left\.") as caught:
        await client.text("echo", "hi")

    assert (caught.value.run_id, caught.value.reason) == ("run_1", "OUT_OF_STOCK")
    assert caught.value.end.state == RunState.RUN_STATE_FAILED


async def test_wait_asks_again_until_the_run_rests(runs: ScriptedRuns, client: Client) -> None:
    running = Run(id="run_1", state=RunState.RUN_STATE_RUNNING)
    runs.runs = [running, running, succeeded("run_1")]

    assert (await client.wait("run_1")).state == RunState.RUN_STATE_SUCCEEDED


async def test_wait_returns_the_run_as_it_is_after_the_timeout(runs: ScriptedRuns, client: Client) -> None:
    runs.runs = [Run(id="run_1", state=RunState.RUN_STATE_RUNNING)]

    assert (await client.wait("run_1", timeout=0.0)).state == RunState.RUN_STATE_RUNNING


async def test_a_list_reads_all_pages(runs: ScriptedRuns, client: Client) -> None:
    runs.runs = [succeeded(f"run_{number}") for number in range(5)]

    listed = [run.id async for run in client.list(agent_id="echo")]

    assert listed == [f"run_{number}" for number in range(5)]
    tokens = [request.page_token for request in runs.requests if isinstance(request, ListRunsRequest)]
    assert tokens == ["", "2", "4"]


async def test_a_cancel_brings_a_request_id(runs: ScriptedRuns, client: Client) -> None:
    runs.refusals = [Refusal()]

    assert (await client.cancel("run_1")).cancel_requested
    assert runs.requests[0] == runs.requests[1]


async def test_a_list_can_be_narrowed_down(runs: ScriptedRuns, client: Client) -> None:
    since, before = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, 1, tzinfo=timezone(timedelta(hours=1)))

    assert [run async for run in client.list(metadata={"a": "b"}, created_since=since, created_before=before)] == []

    [request] = runs.requests
    assert request == ParseDict(
        {
            "metadata": {"a": "b"},
            "created_since": "2026-01-01T00:00:00Z",
            "created_before": "2026-02-01T00:00:00Z",
        },
        ListRunsRequest(),
    )
    with pytest.raises(ValueError, match="has no time zone"):
        client.list(created_since=datetime(2026, 1, 1))  # noqa: DTZ001 - that is what is refused


async def test_all_that_match_are_cancelled_page_by_page(runs: ScriptedRuns, client: Client) -> None:
    runs.runs = [succeeded(f"run_{number}") for number in range(5)]
    runs.refusals = [Refusal()]

    cancelled = await client.cancel_all(agent_id="echo", states=iter([RunState.RUN_STATE_WAITING]))

    assert cancelled == [f"run_{number}" for number in range(5)]
    requests = [request for request in runs.requests if isinstance(request, CancelRunsRequest)]
    assert requests[0] == requests[1], "a repeat"
    assert len({request.request_id for request in requests}) == 3
    assert all(request.states == [RunState.RUN_STATE_WAITING] and not request.all for request in requests)


async def test_a_run_is_deleted_once(runs: ScriptedRuns, client: Client) -> None:
    runs.refusals = [Refusal()]

    await client.delete("run_1", cancel=True)

    first, second = runs.requests
    assert first == second
    assert isinstance(first, DeleteRunRequest)
    assert (first.run_id, first.cancel, len(first.request_id)) == ("run_1", True, 32)


async def test_an_answer_is_given_once_however_often_it_is_sent(runs: ScriptedRuns, client: Client) -> None:
    runs.refusals = [Refusal()]

    run = await client.answer("run_1", "inp_1", {"size": "large"}, answered_by="eva")

    assert run.leg == 1
    first, second = runs.requests
    assert first == second
    assert isinstance(first, SubmitInputRequest)
    assert first == ParseDict(
        {
            "request_id": first.request_id,
            "run_id": "run_1",
            "answered_by": "eva",
            "answers": [
                {"input_id": "inp_1", "outcome": "INPUT_OUTCOME_ANSWERED", "answer_json": '{"size":"large"}'},
            ],
        },
        SubmitInputRequest(),
    )
    assert len(first.request_id) == 32


async def test_an_answer_can_be_declined_and_several_given_at_once(runs: ScriptedRuns, client: Client) -> None:
    await client.answer("run_1", "inp_1", declined=True, request_id="mine")
    await client.answers("run_1", [InputAnswer(input_id="inp_1"), InputAnswer(input_id="inp_2")])

    declined, several = runs.requests
    assert isinstance(declined, SubmitInputRequest)
    assert isinstance(several, SubmitInputRequest)
    assert declined.request_id == "mine"
    assert list(declined.answers) == [
        InputAnswer(input_id="inp_1", outcome=InputOutcome.INPUT_OUTCOME_DECLINED),
    ]
    assert [answer.input_id for answer in several.answers] == ["inp_1", "inp_2"]


async def test_the_questions_that_wait_are_listed(runs: ScriptedRuns, client: Client) -> None:
    runs.runs = [succeeded("run_1"), succeeded("run_2")]

    assert [found.run_id async for found in client.inputs(agent_id="approve")] == ["run_1", "run_2"]

    assert runs.requests == [ListInputsRequest(agent_id="approve", state=InputState.INPUT_STATE_OPEN)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("faster", {"role": "ROLE_USER", "parts": [{"text": {"text": "faster"}}]}),
        ({"speed": 2}, {"role": "ROLE_USER", "parts": [{"data": {"value_json": '{"speed":2}'}}]}),
        (Message(role=Role.ROLE_SYSTEM), {"role": "ROLE_SYSTEM"}),
    ],
    ids=["text", "json", "message"],
)
async def test_a_run_is_steered_by_a_message(
    runs: ScriptedRuns, client: Client, given: object, message: dict[str, object]
) -> None:
    stored = await client.steer("run_1", given)

    assert stored == ParseDict({"id": "msg_1", **message}, Message())
    [request] = runs.requests
    assert isinstance(request, SteerRunRequest)
    assert (request.run_id, len(request.request_id)) == ("run_1", 32)
