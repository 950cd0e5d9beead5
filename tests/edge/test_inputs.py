"""Questions, answers and steering over REST: exact answers, what they ask of the core, and refusals with a reason."""

import aiohttp
import grpc
import pytest

from penstock.v1.message_pb2 import Role
from penstock.v1.run_pb2 import Input, InputKind, InputOutcome, InputRequest, UnreadPolicy
from penstock.v1.run_service_pb2 import InputState, ListInputsRequest, SteerRunRequest, SubmitInputRequest
from tests.edge.hello_log import beginning
from tests.edge.scripted_calls import Refuse
from tests.edge.scripted_core import ScriptedCore
from tests.edge.test_rest import RUN, asked, get, post

ANSWER = {"input_id": "inp_1", "answer": {"approved": True}}
FAILED_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION


@pytest.fixture(autouse=True)
def waiting(core: ScriptedCore) -> None:
    """A run that may be spoken to."""
    core.append(*beginning())


# ── the inbox ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_questions_are_flat_json_with_their_schema_inline(
    core: ScriptedCore, http: aiohttp.ClientSession
) -> None:
    request = InputRequest(
        id="inp_1",
        kind=InputKind.INPUT_KIND_APPROVAL,
        message="May I?",
        schema_json='{"type":"object"}',
        call_id="call_1",
        tool_name="refund",
        arguments_json='{"order":7}',
    )
    core.inbox = [Input(request=request, run_id="run_1", agent_id="echo", thread_id="thr_1")]

    status, page = await get(http, "/v1/inputs")

    question = {
        "id": "inp_1",
        "kind": "approval",
        "message": "May I?",
        "schema": {"type": "object"},
        "call_id": "call_1",
        "tool_name": "refund",
        "arguments": {"order": 7},
    }
    listed = {"request": question, "run_id": "run_1", "agent_id": "echo", "thread_id": "thr_1"}
    assert (status, page) == (200, {"inputs": [listed], "next_page_token": "more"})
    assert asked(core, ListInputsRequest) == ListInputsRequest()


async def test_questions_are_listed_with_filters(core: ScriptedCore, http: aiohttp.ClientSession) -> None:
    query = {"state": "settled", "run_id": "run_1", "agent_id": "echo", "thread_id": "thr_1"}

    await get(http, "/v1/inputs", page_size="5", page_token="t", **query)

    assert asked(core, ListInputsRequest) == ListInputsRequest(
        page_size=5,
        page_token="t",
        state=InputState.INPUT_STATE_SETTLED,
        run_id="run_1",
        agent_id="echo",
        thread_id="thr_1",
    )


# ── answers ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_answers_go_to_the_core_as_they_were_written(core: ScriptedCore, http: aiohttp.ClientSession) -> None:
    body = (
        b'{"answers": [{"input_id": "inp_1", "answer": {"z": 9007199254740993, "a": 1.0}},'
        b' {"input_id": "inp_2", "outcome": "declined"}], "answered_by": "ada"}'
    )
    headers = {"Content-Type": "application/json", "Idempotency-Key": "a1"}
    async with http.post("/v1/runs/run_1/inputs", data=body, headers=headers) as response:
        assert (response.status, await response.json()) == (200, RUN | {"leg": 1, "last_seq": 4})

    submit = asked(core, SubmitInputRequest)
    assert (submit.run_id, submit.request_id, submit.answered_by) == ("run_1", "a1", "ada")
    first, second = submit.answers
    assert (first.input_id, first.answer_json) == ("inp_1", '{"z":9007199254740993,"a":1.0}')
    assert first.outcome == InputOutcome.INPUT_OUTCOME_UNSPECIFIED
    assert (second.input_id, second.answer_json) == ("inp_2", "")
    assert second.outcome == InputOutcome.INPUT_OUTCOME_DECLINED


async def test_a_repeated_answer_is_answered_with_the_same_leg(core: ScriptedCore, http: aiohttp.ClientSession) -> None:
    body = {"answers": [ANSWER]}

    answers = [await post(http, "/v1/runs/run_1/inputs", body, **{"Idempotency-Key": "a1"}) for _ in range(2)]

    assert [(status, run["leg"]) for status, run in answers] == [(200, 1), (200, 1)]


# ── messages ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_run_is_steered_by_text(core: ScriptedCore, http: aiohttp.ClientSession) -> None:
    body = {"input": "Shorter.", "unread_policy": "return"}

    status, told = await post(http, "/v1/runs/run_1/messages", body, **{"Idempotency-Key": "s1"})

    message = {"id": "msg_7", "role": "user", "parts": [{"kind": "text", "text": "Shorter."}]}
    assert (status, told) == (202, {"run": RUN | {"last_seq": 4}, "message": message})
    steer = asked(core, SteerRunRequest)
    assert (steer.run_id, steer.request_id) == ("run_1", "s1")
    assert steer.unread_policy == UnreadPolicy.UNREAD_POLICY_RETURN


@pytest.mark.parametrize(
    ("given", "role", "kind"),
    [
        ([{"role": "system", "content": "Be brief."}], Role.ROLE_SYSTEM, "text"),
        ([{"role": "user", "parts": [{"kind": "data", "value": {"a": 1}}]}], Role.ROLE_USER, "data"),
        ({"stop": True}, Role.ROLE_USER, "data"),
    ],
    ids=["a message", "parts", "JSON"],
)
async def test_a_run_is_steered_by_whatever_an_input_may_be(
    core: ScriptedCore, http: aiohttp.ClientSession, given: object, role: Role.ValueType, kind: str
) -> None:
    assert (await post(http, "/v1/runs/run_1/messages", {"input": given}))[0] == 202

    message = asked(core, SteerRunRequest).message
    assert (message.role, [part.WhichOneof("content") for part in message.parts]) == (role, [kind])


# ── refusals ──────────────────────────────────────────────────────────────────────────────────────────────────────────

INPUTS, MESSAGES = "/v1/runs/run_1/inputs", "/v1/runs/run_1/messages"
TWO = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        (INPUTS, [], ""),
        (INPUTS, {"answer": {}}, "answer"),
        (INPUTS, {"answers": ANSWER}, "answers"),
        (INPUTS, {"answers": ["inp_1"]}, "answers[0]"),
        (INPUTS, {"answers": [{"input_id": 1}]}, "answers[0].input_id"),
        (INPUTS, {"answers": [ANSWER | {"outcome": "maybe"}]}, "answers[0].outcome"),
        (INPUTS, {"answers": [ANSWER, {"id": "inp_2"}]}, "answers[1].id"),
        (INPUTS, {"answers": [ANSWER], "answered_by": 7}, "answered_by"),
        (INPUTS, {"answers": [ANSWER], "run_id": "run_2"}, "run_id"),
        (INPUTS, {"answers": [ANSWER], "request_id": "x"}, "request_id"),
        (f"{INPUTS}?force=1", {"answers": [ANSWER]}, "force"),
        (MESSAGES, [], ""),
        (MESSAGES, {"message": "Hi"}, "message"),
        (MESSAGES, {"input": []}, "input"),
        (MESSAGES, {"input": TWO}, "input"),
        (MESSAGES, {"input": [{"role": "boss", "content": "Hi"}]}, "input[0].role"),
        (MESSAGES, {"input": "Hi", "unread_policy": "burn"}, "unread_policy"),
    ],
)
async def test_a_malformed_body_reaches_no_run(
    core: ScriptedCore, http: aiohttp.ClientSession, path: str, body: object, field: str
) -> None:
    status, problem = await post(http, path, body)

    assert (status, problem["reason"], problem.get("field", "")) == (400, "INVALID_ARGUMENT", field)
    assert core.requests == []


@pytest.mark.parametrize("path", [INPUTS, MESSAGES])
@pytest.mark.parametrize(
    ("body", "headers", "status", "reason"),
    [
        (b"{", {}, 400, "INVALID_JSON"),
        (b"", {}, 400, "INVALID_JSON"),
        (b'{"answers": ' + b"[" * 70 + b"]" * 70 + b"}", {}, 400, "JSON_TOO_DEEP"),
        (b'"' + b"x" * (1 << 20) + b'"', {}, 413, "BODY_TOO_LARGE"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        (b"{}", {"Idempotency-Key": "a b"}, 400, "INVALID_IDEMPOTENCY_KEY"),
    ],
    ids=["cut off", "empty", "deep", "large", "no JSON", "key"],
)
async def test_a_body_that_cannot_be_used_reaches_no_run(
    core: ScriptedCore,
    http: aiohttp.ClientSession,
    path: str,
    body: bytes,
    headers: dict[str, str],
    status: int,
    reason: str,
) -> None:
    sent = {"Content-Type": "application/json"} | headers
    async with http.post(path, data=body, headers=sent) as response:
        problem = await response.json(content_type="application/problem+json")

    assert (response.status, problem["reason"]) == (status, reason)
    assert core.requests == []


@pytest.mark.parametrize("query", ["state=asleep", "states=open", "page_size=many", "run_id=a&run_id=b"])
async def test_a_bad_query_of_the_inbox_is_refused(core: ScriptedCore, http: aiohttp.ClientSession, query: str) -> None:
    status, problem = await get(http, f"/v1/inputs?{query}")

    assert (status, problem["reason"], problem["field"]) == (400, "INVALID_ARGUMENT", query.partition("=")[0])
    assert core.requests == []


@pytest.mark.parametrize(("path", "body"), [(INPUTS, {"answers": [ANSWER]}), (MESSAGES, {"input": "Hi"})])
async def test_a_run_that_is_not_there_is_not_found(http: aiohttp.ClientSession, path: str, body: object) -> None:
    status, problem = await post(http, path.replace("run_1", "run_9"), body)

    assert (status, problem["reason"]) == (404, "RUN_NOT_FOUND")


@pytest.mark.parametrize(
    ("rpc", "refusal", "status"),
    [
        ("SubmitInput", Refuse(grpc.StatusCode.NOT_FOUND, "INPUT_NOT_FOUND", {"input_id": "inp_1"}), 404),
        ("SubmitInput", Refuse(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ANSWER", {"input_id": "inp_1"}), 400),
        ("SubmitInput", Refuse(FAILED_PRECONDITION, "INPUT_ANSWERED", {"outcome": "declined"}), 409),
        ("SubmitInput", Refuse(FAILED_PRECONDITION, "RUN_ENDED", {"run_id": "run_1"}), 409),
        ("SteerRun", Refuse(FAILED_PRECONDITION, "RUN_ENDED", {"run_id": "run_1"}), 409),
        ("SteerRun", Refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL", {"limit": "100"}), 429),
    ],
    ids=lambda value: value.reason if isinstance(value, Refuse) else str(value),
)
async def test_a_refusal_of_the_core_keeps_its_reason(
    core: ScriptedCore, http: aiohttp.ClientSession, rpc: str, refusal: Refuse, status: int
) -> None:
    core.script[rpc] = [refusal]
    path, body = (INPUTS, {"answers": [ANSWER]}) if rpc == "SubmitInput" else (MESSAGES, {"input": "Hi"})

    async with http.post(path, json=body) as response:
        problem = await response.json(content_type="application/problem+json")

    assert (response.status, problem["reason"]) == (status, refusal.reason)
    assert refusal.metadata.items() <= problem.items()
    assert ("Retry-After" in response.headers) == (status == 429)
