"""The stream of a worker from its Hello on, and the agents that it declares."""

from __future__ import annotations

import grpc
import pytest

from penstock.v1.agent_pb2 import Agent
from penstock.v1.agent_service_pb2 import GetAgentRequest, ListAgentsRequest
from penstock.v1.worker_service_pb2 import Credit, Held, Hello, WorkerMessage
from tests.core.refusals import refused
from tests.core.running_core import RunningCore
from tests.core.scripted_worker import Stream, agent


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (WorkerMessage(credit=Credit(runs=1)), "WORKER_PROTOCOL"),
        (WorkerMessage(hello=Hello(worker_id="w")), "INVALID_ARGUMENT"),
        (WorkerMessage(hello=Hello(agents=[Agent(id="echo")])), "INVALID_ARGUMENT"),
        (WorkerMessage(hello=Hello(worker_id="w" * 129, agents=[Agent(id="echo")])), "INVALID_ARGUMENT"),
        (WorkerMessage(hello=Hello(worker_id="w", agents=[Agent(id="Not An Id")])), "INVALID_ARGUMENT"),
        (WorkerMessage(hello=Hello(worker_id="w", agents=[Agent(id="")])), "INVALID_ARGUMENT"),
    ],
    ids=["no hello", "no agents", "no id", "long id", "bad agent", "empty agent"],
)
async def test_stream_that_begins_wrong_is_refused(core: RunningCore, message: WorkerMessage, reason: str) -> None:
    stream = Stream(core.channel)
    await stream.send(message)
    assert await stream.over() == reason
    assert (await core.status()).workers == []


async def test_second_hello_and_bad_credit_close_the_stream(core: RunningCore) -> None:
    for message in (WorkerMessage(hello=Hello(worker_id="w")), WorkerMessage(credit=Credit(runs=0))):
        worker = await core.connected_worker()
        await worker.now.send(message)
        assert await worker.now.over() == "WORKER_PROTOCOL"


async def test_hello_that_holds_nonsense_is_answered(core: RunningCore) -> None:
    stream = Stream(core.channel)
    held = [Held(run_id=run_id, attempt=attempt) for run_id in ("", "run_x", "\0", "x" * 10_000) for attempt in (-1, 0)]
    await stream.send(WorkerMessage(hello=Hello(worker_id="w", agents=[Agent(id="echo")], held=held)))
    welcome = (await stream.hears("welcome")).welcome
    assert [answer.revoked for answer in welcome.held] == [True] * len(held)
    await stream.cut()


async def test_declared_agents_are_listed_and_stay_known(core: RunningCore) -> None:
    worker = await core.connected_worker(agent("b", description="B"), agent("a"))
    found = (await core.agents.ListAgents(ListAgentsRequest())).agents
    assert [(known.id, known.name, known.online) for known in found] == [("a", "a", True), ("b", "b", True)]
    await worker.cut()
    await core.restart()
    known = (await core.agents.GetAgent(GetAgentRequest(agent_id="b"))).agent
    assert (known.description, known.version, known.online) == ("B", "7", False)
    assert known.HasField("create_time")
    with refused(grpc.StatusCode.NOT_FOUND, "AGENT_NOT_FOUND"):
        await core.agents.GetAgent(GetAgentRequest(agent_id="c"))


async def test_most_free_worker_gets_the_run(core: RunningCore) -> None:
    small = await core.connected_worker(credit=1)
    large = await core.connected_worker(credit=3)
    jobs = [await core.started(large) for _ in range(2)]
    assert not small.now.has_heard("assignment")
    for job in jobs:
        await job.say_all()


async def test_welcome_tells_the_lease_and_the_bounds(core: RunningCore) -> None:
    welcome = await core.worker().connect()
    assert welcome.core_id == core.core.core_id
    assert welcome.lease.ToSeconds() == 30
    assert (welcome.max_unacked_outputs, welcome.max_unacked_bytes) == (4_000, 1 << 20)
