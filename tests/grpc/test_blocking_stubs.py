"""The core as an internal service uses it: blocking calls, no event loop, nothing of the SDK."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from penstock.v1.agent_service_pb2 import GetAgentRequest, ListAgentsRequest
from penstock.v1.agent_service_pb2_grpc import AgentServiceStub
from penstock.v1.event_pb2 import Event
from penstock.v1.message_pb2 import Message, Part, Role, TextPart
from penstock.v1.run_pb2 import EndReason, Run, RunState
from penstock.v1.run_service_pb2 import (
    CancelRunRequest,
    CreateRunRequest,
    GetRunRequest,
    ListEventsRequest,
    ListRunsRequest,
    RunView,
    StreamRunRequest,
    WaitRunRequest,
    WatchAction,
    WatchManyRequest,
    WatchRunRequest,
    WatchRunResponse,
    WatchStart,
)
from penstock.v1.run_service_pb2_grpc import RunServiceStub
from penstock.v1.system_service_pb2 import GetStatusRequest
from penstock.v1.system_service_pb2_grpc import SystemServiceStub
from penstock.v1.thread_service_pb2 import CreateThreadRequest, ListMessagesRequest
from penstock.v1.thread_service_pb2_grpc import ThreadServiceStub
from tests.core.refusals import refused
from tests.grammar.checker import violations

DEADLINE = 20.0
PACED = '{"deltas": 30, "rate": 60}'
"""What `count` is asked for: half a second of output."""


def _request(text: str, *, agent_id: str = "echo", thread_id: str = "", request_id: str = "") -> CreateRunRequest:
    message = Message(role=Role.ROLE_USER, parts=[Part(text=TextPart(text=text))])
    return CreateRunRequest(agent_id=agent_id, input=[message], thread_id=thread_id, request_id=request_id)


def _text(events: list[Event]) -> str:
    return "".join(event.part_delta.text for event in events if event.HasField("part_delta"))


def _wait(stub: RunServiceStub, run_id: str) -> Run:
    return stub.WaitRun(WaitRunRequest(run_id=run_id), timeout=DEADLINE).run


def _watch(stub: RunServiceStub, run_id: str, after: int = 0) -> list[Event]:
    call = stub.WatchRun(WatchRunRequest(run_id=run_id, after_seq=after), timeout=DEADLINE)
    return [event for message in call for event in message.events]


def test_run_is_created_awaited_and_read_back(grpc_stub: RunServiceStub) -> None:
    created = grpc_stub.CreateRun(_request("one two three"), timeout=DEADLINE).run
    run = _wait(grpc_stub, created.id)
    assert (run.state, run.reason) == (RunState.RUN_STATE_SUCCEEDED, EndReason.END_REASON_COMPLETED)
    full = grpc_stub.GetRun(GetRunRequest(run_id=run.id, view=RunView.RUN_VIEW_FULL), timeout=DEADLINE)
    assert [part.text.text for message in full.messages for part in message.parts] == ["one two three "]
    page = grpc_stub.ListEvents(ListEventsRequest(run_id=run.id), timeout=DEADLINE)
    assert violations(list(page.events)) == []
    assert page.head_seq == run.last_seq == page.events[-1].seq


def test_stream_is_a_plain_iterator_that_ends_with_the_run(grpc_stub: RunServiceStub) -> None:
    stream = grpc_stub.StreamRun(StreamRunRequest(create=_request("count me")), timeout=DEADLINE)
    first, *rest = stream
    assert first.run_id
    events = [event for message in rest for event in message.events]
    assert violations(events) == []
    assert _text(events) == "count me "
    for after in range(len(events) + 1):
        assert _watch(grpc_stub, first.run_id, after) == events[after:]


def test_every_demo_agent_leaves_a_well_formed_log(grpc_stub: RunServiceStub) -> None:
    reasons = {}
    for agent_id in ("echo", "think", "tool", "error", "ctool", "count"):
        run = grpc_stub.CreateRun(_request(PACED, agent_id=agent_id), timeout=DEADLINE).run
        assert violations(_watch(grpc_stub, run.id)) == [], agent_id
        reasons[agent_id] = EndReason.Name(_wait(grpc_stub, run.id).reason).removeprefix("END_REASON_")
    assert reasons == {
        "echo": "COMPLETED",
        "think": "COMPLETED",
        "tool": "COMPLETED",
        "count": "COMPLETED",
        "error": "AGENT_ERROR",
        "ctool": "REJECTED",
    }


def test_watch_that_is_left_and_taken_up_again_joins(grpc_stub: RunServiceStub) -> None:
    run = grpc_stub.CreateRun(_request(PACED, agent_id="count"), timeout=DEADLINE).run
    seen: list[Event] = []
    while not seen or not seen[-1].HasField("run_ended"):
        call = grpc_stub.WatchRun(WatchRunRequest(run_id=run.id, after_seq=len(seen)), timeout=DEADLINE)
        seen.extend(next(message for message in call if message.events).events)
        call.cancel()
    assert [event.seq for event in seen] == list(range(1, len(seen) + 1))
    assert violations(seen) == []


def test_cancel_stops_a_run(grpc_stub: RunServiceStub) -> None:
    run = grpc_stub.CreateRun(_request("", agent_id="slow"), timeout=DEADLINE).run
    assert grpc_stub.CancelRun(CancelRunRequest(run_id=run.id), timeout=DEADLINE).run.cancel_requested
    ended = _wait(grpc_stub, run.id)
    assert (ended.state, ended.reason) == (RunState.RUN_STATE_CANCELLED, EndReason.END_REASON_USER)


def test_refusals_have_a_code_and_a_reason(grpc_stub: RunServiceStub) -> None:
    with refused(grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND"):
        grpc_stub.GetRun(GetRunRequest(run_id="run_x"), timeout=DEADLINE)
    with refused(grpc.StatusCode.NOT_FOUND, "AGENT_NOT_FOUND"):
        grpc_stub.CreateRun(_request("hello", agent_id="nobody"), timeout=DEADLINE)
    with refused(grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND"):
        next(grpc_stub.WatchRun(WatchRunRequest(run_id="run_x"), timeout=DEADLINE))


def test_deadline_ends_the_call_and_not_the_run(grpc_stub: RunServiceStub) -> None:
    run = grpc_stub.CreateRun(_request(PACED, agent_id="count"), timeout=DEADLINE).run
    with pytest.raises(grpc.RpcError) as caught:
        grpc_stub.WaitRun(WaitRunRequest(run_id=run.id), timeout=0.05)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert _wait(grpc_stub, run.id).state == RunState.RUN_STATE_SUCCEEDED


def test_threads_of_callers_share_one_channel(grpc_stub: RunServiceStub) -> None:
    def call(number: int) -> str:
        stream = grpc_stub.StreamRun(StreamRunRequest(create=_request(f"caller {number}")), timeout=DEADLINE)
        return _text([event for message in stream for event in message.events])

    with ThreadPoolExecutor(20) as callers:
        assert list(callers.map(call, range(100))) == [f"caller {number} " for number in range(100)]


def test_repeats_from_many_threads_are_one_run(grpc_stub: RunServiceStub) -> None:
    request = _request("once", request_id="blocking")
    with ThreadPoolExecutor(20) as callers:
        runs = list(callers.map(lambda _: grpc_stub.CreateRun(request, timeout=DEADLINE).run.id, range(40)))
    assert len(set(runs)) == 1


def test_many_watches_on_one_stream_are_fed_by_an_iterator(grpc_stub: RunServiceStub) -> None:
    requests: queue.SimpleQueue[WatchManyRequest | None] = queue.SimpleQueue()
    runs = [grpc_stub.CreateRun(_request(f"number {number}"), timeout=DEADLINE).run for number in range(5)]
    for number, run in enumerate(runs, 1):
        start = WatchAction(start=WatchStart(watch_id=number, run_id=run.id))
        requests.put(WatchManyRequest(actions=[start]))

    def sent() -> Iterator[WatchManyRequest]:
        yield from iter(requests.get, None)

    seen: dict[int, list[Event]] = {number: [] for number in range(1, 6)}
    ended: set[int] = set()
    for message in grpc_stub.WatchMany(sent(), timeout=DEADLINE):
        for part in message.parts:
            seen[part.watch_id].extend(WatchRunResponse.FromString(part.events).events)
            if part.ended:
                ended.add(part.watch_id)
        if len(ended) == len(runs):
            requests.put(None)
    assert [_text(events) for events in seen.values()] == [f"number {number} " for number in range(5)]


def test_other_services_are_on_the_same_channel(grpc_channel: grpc.Channel, grpc_stub: RunServiceStub) -> None:
    agents = AgentServiceStub(grpc_channel)
    names = [agent.id for agent in agents.ListAgents(ListAgentsRequest(), timeout=DEADLINE).agents]
    assert {"echo", "slow", "count"} <= set(names)
    assert agents.GetAgent(GetAgentRequest(agent_id="echo"), timeout=DEADLINE).agent.online
    threads = ThreadServiceStub(grpc_channel)
    thread = threads.CreateThread(CreateThreadRequest(), timeout=DEADLINE).thread
    for text in ("a", "b"):
        _wait(grpc_stub, grpc_stub.CreateRun(_request(text, thread_id=thread.id), timeout=DEADLINE).run.id)
    messages = threads.ListMessages(ListMessagesRequest(thread_id=thread.id), timeout=DEADLINE).messages
    assert [message.parts[0].text.text for message in messages] == ["a", "a ", "b", "b "]
    listed = grpc_stub.ListRuns(ListRunsRequest(thread_id=thread.id), timeout=DEADLINE).runs
    assert len(listed) == 2
    status = SystemServiceStub(grpc_channel).GetStatus(GetStatusRequest(), timeout=DEADLINE)
    assert (status.store, len(status.workers)) == ("sqlite", 1)
    health: Any = health_pb2_grpc.HealthStub(grpc_channel)
    check = health.Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE)
    assert check.status == health_pb2.HealthCheckResponse.SERVING
