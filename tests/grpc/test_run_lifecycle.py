"""The life of a run through plain, blocking stubs: questions, steering, busy threads, limits, child runs."""

from __future__ import annotations

import json
import time

import grpc
import pytest

from penstock.v1.message_pb2 import Message, Part, Role, TextPart
from penstock.v1.run_pb2 import (
    BusyPolicy,
    DisconnectPolicy,
    EndReason,
    Input,
    InputAnswer,
    InputOutcome,
    RetryPolicy,
    Run,
    RunOptions,
    RunState,
    UnreadPolicy,
)
from penstock.v1.run_service_pb2 import (
    CancelRunRequest,
    CreateRunRequest,
    CreateRunResponse,
    DeleteRunRequest,
    GetRunRequest,
    InputState,
    ListInputsRequest,
    ListRunsRequest,
    SteerRunRequest,
    StreamRunRequest,
    SubmitInputRequest,
    WaitRunRequest,
    WatchRunRequest,
)
from penstock.v1.run_service_pb2_grpc import RunServiceStub
from penstock.v1.thread_service_pb2 import ListMessagesRequest
from penstock.v1.thread_service_pb2_grpc import ThreadServiceStub
from tests.core.refusals import refused
from tests.grammar.checker import violations

DEADLINE = 20.0
FAILED_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION


def message(text: str) -> Message:
    return Message(role=Role.ROLE_USER, parts=[Part(text=TextPart(text=text))])


def create(
    stub: RunServiceStub,
    agent_id: str,
    thread_id: str = "",
    *,
    text: str = "Hi.",
    options: RunOptions | None = None,
    parent: str = "",
) -> CreateRunResponse:
    request = CreateRunRequest(
        agent_id=agent_id, thread_id=thread_id, input=[message(text)], options=options, parent_run_id=parent
    )
    return stub.CreateRun(request, timeout=DEADLINE)


def policy(name: BusyPolicy.ValueType) -> RunOptions:
    return RunOptions(busy_policy=name)


def wait(stub: RunServiceStub, run_id: str) -> Run:
    """Return a run once it has ended or waits."""
    return stub.WaitRun(WaitRunRequest(run_id=run_id), timeout=DEADLINE).run


def ended(stub: RunServiceStub, run_id: str) -> tuple[str, str]:
    """Return how a run ended, and check its whole log."""
    call = stub.WatchRun(WatchRunRequest(run_id=run_id), timeout=DEADLINE)
    events = [event for batch in call for event in batch.events]
    assert violations(events) == []
    end = events[-1].run_ended
    return (
        RunState.Name(end.state).removeprefix("RUN_STATE_"),
        EndReason.Name(end.reason).removeprefix("END_REASON_"),
    )


def answer(run: Run, outcome: InputOutcome.ValueType, value: object = None, request_id: str = "") -> SubmitInputRequest:
    """An answer to the only question of a run."""
    [question] = run.inputs
    answer_json = "" if value is None else json.dumps(value)
    given = InputAnswer(input_id=question.id, outcome=outcome, answer_json=answer_json)
    return SubmitInputRequest(run_id=run.id, answers=[given], answered_by="ada", request_id=request_id)


def asked_on(stub: RunServiceStub, thread_id: str) -> Input:
    """Return the question of a run of this thread, once it is asked."""
    until = time.monotonic() + DEADLINE
    while time.monotonic() < until:
        if found := stub.ListInputs(ListInputsRequest(thread_id=thread_id), timeout=DEADLINE).inputs:
            return found[0]
    raise TimeoutError(f"nobody asks on {thread_id}")


def said(channel: grpc.Channel, thread_id: str) -> list[str]:
    """What counts in a thread, in order: the text of its messages."""
    threads = ThreadServiceStub(channel)
    messages = threads.ListMessages(ListMessagesRequest(thread_id=thread_id), timeout=DEADLINE).messages
    return ["".join(part.text.text for part in one.parts) for one in messages]


# ── questions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_question_is_found_in_the_inbox_and_answered_once(grpc_stub: RunServiceStub) -> None:
    run = wait(grpc_stub, create(grpc_stub, "approve", text="Bern").run.id)
    assert run.state == RunState.RUN_STATE_WAITING
    [question] = grpc_stub.ListInputs(ListInputsRequest(run_id=run.id), timeout=DEADLINE).inputs
    assert (question.request, question.thread_id) == (run.inputs[0], run.thread_id)
    assert json.loads(question.request.arguments_json)["place"] == "Bern"

    given = answer(run, InputOutcome.INPUT_OUTCOME_ANSWERED, {"approved": True}, request_id="yes")
    resumed = grpc_stub.SubmitInput(given, timeout=DEADLINE).run
    repeated = grpc_stub.SubmitInput(given, timeout=DEADLINE).run

    assert (resumed.leg, repeated.leg) == (1, 1)
    assert ended(grpc_stub, run.id) == ("SUCCEEDED", "COMPLETED")
    settled = ListInputsRequest(run_id=run.id, state=InputState.INPUT_STATE_SETTLED)
    [question] = grpc_stub.ListInputs(settled, timeout=DEADLINE).inputs
    assert (question.answer_json, question.answered_by) == ('{"approved":true}', "ada")
    with refused(grpc.StatusCode.ALREADY_EXISTS, "IDEMPOTENCY_MISMATCH"):
        grpc_stub.SubmitInput(
            answer(run, InputOutcome.INPUT_OUTCOME_ANSWERED, {"approved": False}, request_id="yes"), timeout=DEADLINE
        )
    with refused(FAILED_PRECONDITION, "INPUT_ANSWERED", input_id=question.request.id, answered_by="ada"):
        grpc_stub.SubmitInput(answer(run, InputOutcome.INPUT_OUTCOME_DECLINED), timeout=DEADLINE)


def test_a_declined_approval_is_no_approval(grpc_stub: RunServiceStub, grpc_channel: grpc.Channel) -> None:
    run = wait(grpc_stub, create(grpc_stub, "approve", "declined").run.id)

    grpc_stub.SubmitInput(answer(run, InputOutcome.INPUT_OUTCOME_DECLINED), timeout=DEADLINE)

    assert ended(grpc_stub, run.id) == ("SUCCEEDED", "COMPLETED")
    assert said(grpc_channel, "declined")[-1] == "It was not approved: nothing is booked."


def test_an_answer_that_does_not_fit_leaves_the_run_waiting(grpc_stub: RunServiceStub) -> None:
    run = wait(grpc_stub, create(grpc_stub, "approve").run.id)

    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ANSWER"):
        grpc_stub.SubmitInput(answer(run, InputOutcome.INPUT_OUTCOME_ANSWERED, {"approved": "no"}), timeout=DEADLINE)
    with refused(grpc.StatusCode.NOT_FOUND, "INPUT_NOT_FOUND"):
        grpc_stub.SubmitInput(
            SubmitInputRequest(run_id=run.id, answers=[InputAnswer(input_id="inp_x")]), timeout=DEADLINE
        )
    assert grpc_stub.GetRun(GetRunRequest(run_id=run.id), timeout=DEADLINE).run == run

    grpc_stub.CancelRun(CancelRunRequest(run_id=run.id), timeout=DEADLINE)
    assert ended(grpc_stub, run.id) == ("CANCELLED", "USER")


# ── steering ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_message_that_nobody_read_is_returned(grpc_stub: RunServiceStub) -> None:
    run = create(grpc_stub, "slow").run
    steer = SteerRunRequest(
        request_id="steer-1",
        run_id=run.id,
        message=message("Shorter."),
        unread_policy=UnreadPolicy.UNREAD_POLICY_RETURN,
    )

    stored = [grpc_stub.SteerRun(steer, timeout=DEADLINE).message for _ in range(2)]

    assert stored[0] == stored[1]
    assert ended(grpc_stub, run.id) == ("SUCCEEDED", "COMPLETED")
    assert list(wait(grpc_stub, run.id).unread_message_ids) == [stored[0].id]
    with refused(FAILED_PRECONDITION, "RUN_ENDED"):
        grpc_stub.SteerRun(SteerRunRequest(run_id=run.id, message=message("Too late.")), timeout=DEADLINE)


def test_a_message_that_nobody_read_is_the_input_of_a_run_that_follows(
    grpc_stub: RunServiceStub, grpc_channel: grpc.Channel
) -> None:
    run = wait(grpc_stub, create(grpc_stub, "approve", "follow").run.id)
    grpc_stub.SteerRun(SteerRunRequest(run_id=run.id, message=message("Chur")), timeout=DEADLINE)

    grpc_stub.SubmitInput(answer(run, InputOutcome.INPUT_OUTCOME_DECLINED), timeout=DEADLINE)

    assert ended(grpc_stub, run.id) == ("SUCCEEDED", "COMPLETED")
    question = asked_on(grpc_stub, "follow")
    assert question.request.message == "Book a table in Chur"
    grpc_stub.CancelRun(CancelRunRequest(run_id=question.run_id), timeout=DEADLINE)
    assert "Chur" in said(grpc_channel, "follow")


# ── busy threads ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_reject_names_the_active_run(grpc_stub: RunServiceStub) -> None:
    active = create(grpc_stub, "slow", "reject").run

    with refused(FAILED_PRECONDITION, "THREAD_BUSY", run_id=active.id):
        create(grpc_stub, "echo", "reject", options=policy(BusyPolicy.BUSY_POLICY_REJECT))

    grpc_stub.CancelRun(CancelRunRequest(run_id=active.id), timeout=DEADLINE)


def test_enqueued_runs_keep_their_order(grpc_stub: RunServiceStub, grpc_channel: grpc.Channel) -> None:
    first = create(grpc_stub, "slow", "enqueue").run
    runs = [create(grpc_stub, "echo", "enqueue", text=text).run for text in ("one", "two")]
    assert [run.state for run in runs] == [RunState.RUN_STATE_QUEUED] * 2

    grpc_stub.CancelRun(CancelRunRequest(run_id=first.id), timeout=DEADLINE)

    assert [ended(grpc_stub, run.id)[0] for run in runs] == ["SUCCEEDED"] * 2
    assert said(grpc_channel, "enqueue")[-4:] == ["one", "one ", "two", "two "]


@pytest.mark.parametrize(
    ("name", "reason", "first_stays"),
    [
        (BusyPolicy.BUSY_POLICY_INTERRUPT, "SUPERSEDED", True),
        (BusyPolicy.BUSY_POLICY_ROLLBACK, "ROLLED_BACK", False),
    ],
    ids=["interrupt", "rollback"],
)
def test_a_newer_run_takes_the_place_of_one_that_waits(
    grpc_stub: RunServiceStub,
    grpc_channel: grpc.Channel,
    name: BusyPolicy.ValueType,
    reason: str,
    *,
    first_stays: bool,
) -> None:
    thread = f"replaced-{reason}"
    first = wait(grpc_stub, create(grpc_stub, "approve", thread, text="Bern").run.id)
    with refused(FAILED_PRECONDITION, "THREAD_WAITING", run_id=first.id, input_ids=first.inputs[0].id):
        create(grpc_stub, "echo", thread)

    newer = create(grpc_stub, "echo", thread, text="Never mind.", options=policy(name)).run

    assert ended(grpc_stub, newer.id) == ("SUCCEEDED", "COMPLETED")
    assert ended(grpc_stub, first.id) == ("CANCELLED", reason)
    assert ("Bern" in said(grpc_channel, thread)) == first_stays
    assert said(grpc_channel, thread)[-2:] == ["Never mind.", "Never mind. "]


def test_steer_hands_the_message_to_the_active_run_and_makes_none(grpc_stub: RunServiceStub) -> None:
    idle = create(grpc_stub, "approve", "steer", options=policy(BusyPolicy.BUSY_POLICY_STEER))
    wait(grpc_stub, idle.run.id)

    steered = create(grpc_stub, "echo", "steer", options=policy(BusyPolicy.BUSY_POLICY_STEER))

    assert (idle.steered, steered.steered) == (False, True)
    assert steered.run.id == idle.run.id
    listed = grpc_stub.ListRuns(ListRunsRequest(thread_id="steer"), timeout=DEADLINE).runs
    assert [run.id for run in listed] == [idle.run.id]
    grpc_stub.CancelRun(CancelRunRequest(run_id=idle.run.id), timeout=DEADLINE)


# ── limits, retries, leaving ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_ends_at_its_timeout(grpc_stub: RunServiceStub) -> None:
    options = RunOptions()
    options.run_timeout.FromMilliseconds(300)

    assert ended(grpc_stub, create(grpc_stub, "slow", options=options).run.id) == ("FAILED", "TIMEOUT")


@pytest.mark.parametrize(
    ("name", "attempts"),
    [(RetryPolicy.RETRY_POLICY_SAFE, 1), (RetryPolicy.RETRY_POLICY_ALWAYS, 2)],
    ids=["safe", "always"],
)
def test_a_failure_after_output_is_tried_again_only_when_told_to(
    grpc_stub: RunServiceStub, name: RetryPolicy.ValueType, attempts: int
) -> None:
    run = create(grpc_stub, "error", options=RunOptions(retry_policy=name, max_attempts=2)).run

    assert ended(grpc_stub, run.id) == ("FAILED", "AGENT_ERROR")
    assert wait(grpc_stub, run.id).attempt == attempts


def test_a_run_is_cancelled_when_the_stream_that_made_it_is_left(grpc_stub: RunServiceStub) -> None:
    options = RunOptions(on_disconnect=DisconnectPolicy.DISCONNECT_POLICY_CANCEL)
    options.disconnect_grace.FromMilliseconds(0)
    hours = message('{"deltas": 1000000, "rate": 20}')
    request = CreateRunRequest(agent_id="count", input=[hours], options=options)
    stream = grpc_stub.StreamRun(StreamRunRequest(create=request), timeout=DEADLINE)
    run_id = next(stream).run_id

    stream.cancel()

    run = wait(grpc_stub, run_id)  # which is no watch, and does not keep it alive
    assert run.reason == EndReason.END_REASON_DISCONNECTED


# ── child runs, deletion ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_child_ends_with_its_parent(grpc_stub: RunServiceStub) -> None:
    parent = wait(grpc_stub, create(grpc_stub, "approve").run.id)
    child = wait(grpc_stub, create(grpc_stub, "approve", parent=parent.id).run.id)
    assert (child.parent_run_id, child.depth) == (parent.id, 1)

    grpc_stub.CancelRun(CancelRunRequest(run_id=parent.id), timeout=DEADLINE)

    assert ended(grpc_stub, child.id) == ("CANCELLED", "PARENT")
    with refused(FAILED_PRECONDITION, "RUN_ENDED", run_id=parent.id):
        create(grpc_stub, "echo", parent=parent.id)


def test_agents_cannot_call_each_other_in_a_circle(grpc_stub: RunServiceStub) -> None:
    top = run = create(grpc_stub, "approve").run
    for _ in range(8):
        run = create(grpc_stub, "approve", parent=run.id).run
    assert run.depth == 8

    with refused(FAILED_PRECONDITION, "DEPTH_EXCEEDED", max_depth="8"):
        create(grpc_stub, "approve", parent=run.id)

    grpc_stub.CancelRun(CancelRunRequest(run_id=top.id), timeout=DEADLINE)
    assert ended(grpc_stub, run.id) == ("CANCELLED", "PARENT")


def test_an_active_run_is_deleted_only_when_it_may_be_cancelled(grpc_stub: RunServiceStub) -> None:
    run = wait(grpc_stub, create(grpc_stub, "approve").run.id)
    with refused(FAILED_PRECONDITION, "RUN_ACTIVE", run_id=run.id):
        grpc_stub.DeleteRun(DeleteRunRequest(run_id=run.id), timeout=DEADLINE)

    grpc_stub.DeleteRun(DeleteRunRequest(run_id=run.id, cancel=True), timeout=DEADLINE)

    with refused(grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND"):
        grpc_stub.GetRun(GetRunRequest(run_id=run.id), timeout=DEADLINE)
