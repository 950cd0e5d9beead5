"""Calls and watches of the edge's client, against a scripted core on a real port."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from edge import caller
from edge.core import CallLimits, CoreClient
from edge.errors import Refusal, refusal_of
from edge.watches import WatchLimits
from penstock.v1.agent_service_pb2 import ListAgentsRequest
from penstock.v1.event_pb2 import Event
from penstock.v1.run_service_pb2 import CreateRunRequest, WaitRunRequest, WatchRunResponse
from tests.edge.hello_log import beginning, delta, ending, whole
from tests.edge.scripted_calls import Refuse
from tests.edge.scripted_core import ScriptedCore

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@pytest.fixture
async def client(core: ScriptedCore) -> AsyncIterator[CoreClient]:
    async with CoreClient(core.address, calls=CallLimits(call_timeout=2, repeat_for=5)) as connected:
        yield connected


async def test_a_call_without_a_request_id_gets_one(core: ScriptedCore, client: CoreClient) -> None:
    await client.call(client.runs.CreateRun, CreateRunRequest(agent_id="echo"))
    await client.call(client.runs.CreateRun, CreateRunRequest(agent_id="echo", request_id="mine"))
    await client.call(client.agents.ListAgents, ListAgentsRequest())

    made, own = (request for request in core.requests if isinstance(request, CreateRunRequest))
    assert len(made.request_id) == 32
    assert own.request_id == "mine"


@pytest.mark.parametrize(
    "refusal",
    [
        Refuse(UNAVAILABLE, "CORE_DRAINING"),
        Refuse(UNAVAILABLE, "STORE_UNAVAILABLE"),
        Refuse(UNAVAILABLE, ""),
        Refuse(grpc.StatusCode.CANCELLED, ""),
        Refuse(grpc.StatusCode.DEADLINE_EXCEEDED, ""),
    ],
    ids=lambda refusal: f"{refusal.code.name} {refusal.reason}",
)
async def test_an_unknown_outcome_is_asked_again_with_the_same_id(
    core: ScriptedCore, client: CoreClient, refusal: Refuse
) -> None:
    core.script["CreateRun"] = [refusal, refusal]

    answer = await client.call(client.runs.CreateRun, CreateRunRequest(agent_id="echo"))

    assert answer.run.id == "run_1"
    ids = [request.request_id for request in core.requests if isinstance(request, CreateRunRequest)]
    assert len(ids) == 3
    assert len(set(ids)) == 1
    assert len(core.logs) == 1


@pytest.mark.parametrize(
    "refusal",
    [
        Refuse(UNAVAILABLE, "NO_WORKER"),
        Refuse(UNAVAILABLE, "STORE_FULL"),
        Refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL"),
        Refuse(grpc.StatusCode.FAILED_PRECONDITION, "THREAD_BUSY"),
        Refuse(grpc.StatusCode.INTERNAL, ""),
    ],
    ids=lambda refusal: f"{refusal.code.name} {refusal.reason}",
)
async def test_a_decided_refusal_is_final(core: ScriptedCore, client: CoreClient, refusal: Refuse) -> None:
    core.script["CreateRun"] = [refusal]

    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await client.call(client.runs.CreateRun, CreateRunRequest(agent_id="echo"))

    assert failed.value.code() == refusal.code
    assert refusal_of(failed.value).reason == (refusal.reason or "INTERNAL")
    assert len(core.requests) == 1


async def test_a_call_outlives_a_restart_of_the_core(core: ScriptedCore, client: CoreClient) -> None:
    await core.stop()
    calling = asyncio.create_task(client.call(client.runs.CreateRun, CreateRunRequest(agent_id="echo")))
    await asyncio.sleep(0)  # it is under way
    await core.start()

    assert (await calling).run.id == "run_1"


async def test_a_core_that_stays_away_is_reported_in_words_for_strangers(core: ScriptedCore) -> None:
    await core.stop()
    async with CoreClient(core.address, calls=CallLimits(repeat_for=0.2)) as client:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await client.call(client.agents.ListAgents, ListAgentsRequest())
    await core.start()

    refusal = refusal_of(failed.value)
    assert (refusal.status, refusal.reason) == (503, "CORE_UNAVAILABLE")
    assert "127.0.0.1" not in refusal.message


async def test_the_callers_own_deadline_is_not_repeated(core: ScriptedCore, client: CoreClient) -> None:
    core.append(*beginning())
    waiting = WaitRunRequest(run_id="run_1")
    waiting.timeout.FromSeconds(60)

    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await client.call(client.runs.WaitRun, waiting, timeout=0.2)

    assert failed.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert len(core.requests) == 1


async def test_a_cancelled_caller_is_not_mistaken_for_a_failed_call(core: ScriptedCore, client: CoreClient) -> None:
    core.append(*beginning())
    waiting = WaitRunRequest(run_id="run_1")
    waiting.timeout.FromSeconds(60)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await client.call(client.runs.WaitRun, waiting)

    assert len(core.requests) == 1


async def test_the_caller_travels_as_metadata(core: ScriptedCore, client: CoreClient) -> None:
    token = caller.current.set(caller.Caller(request_id="req-1", authorization="Bearer abc"))
    await client.call(client.agents.ListAgents, ListAgentsRequest())
    caller.current.reset(token)
    await client.call(client.agents.ListAgents, ListAgentsRequest())

    as_caller, as_nobody = core.metadata
    assert (as_caller["x-request-id"], as_caller["authorization"]) == ("req-1", "Bearer abc")
    assert "authorization" not in as_nobody


async def test_a_watch_brings_history_and_then_what_comes(core: ScriptedCore, client: CoreClient) -> None:
    core.append(*beginning())
    seen: list[Event] = []
    borders = []

    async for batch in client.watch("run_1", after=1):
        seen += WatchRunResponse.FromString(batch.events).events
        assert batch.last_seq == seen[-1].seq
        borders.append((batch.caught_up, batch.ended))
        if len(borders) == 1:
            core.append(delta(5))
        elif not batch.ended:
            core.append(*ending(6))

    assert [event.seq for event in seen] == [2, 3, 4, 5, 6, 7, 8]
    assert borders == [(True, False), (True, False), (True, True)]


async def test_a_watch_of_an_unknown_run_is_refused(core: ScriptedCore, client: CoreClient) -> None:
    with pytest.raises(Refusal) as refused:
        await anext(aiter(client.watch("run_9", after=0)))

    assert (refused.value.status, refused.value.reason) == (404, "RUN_NOT_FOUND")


async def test_what_overflows_is_read_again_and_nothing_is_lost_or_repeated(core: ScriptedCore) -> None:
    core.append(*whole(deltas=20_000))
    seqs: list[int] = []

    async with CoreClient(core.address, watches=WatchLimits(buffer=4096)) as client:
        async for batch in client.watch("run_1", after=0):
            seqs += [event.seq for event in WatchRunResponse.FromString(batch.events).events]

    assert seqs == list(range(1, 20_008))
    assert client.watches.overflows > 0
    assert len(client.watches) == 0


async def test_what_was_dropped_comes_again_after_what_was_taken(core: ScriptedCore, client: CoreClient) -> None:
    core.append(*beginning())

    with client.open_watch("run_1", after=0) as watch:
        first = await anext(watch)
        core.append(*ending(5))
        await watch.ready()
        assert watch.drop()
        assert not watch.drop()
        again = await anext(watch)

    assert (first.last_seq, again.last_seq, again.ended) == (4, 7, True)
    assert [event.seq for event in WatchRunResponse.FromString(again.events).events] == [5, 6, 7]
    assert [start.after_seq for start in core.starts] == [0, 4]


async def test_a_new_run_is_created_and_watched_by_one_message(core: ScriptedCore, client: CoreClient) -> None:
    core.append(*whole(deltas=3))
    token = caller.current.set(caller.Caller(request_id="req-1", authorization="Bearer abc"))
    seqs: list[int] = []

    with client.watch_new_run(CreateRunRequest(agent_id="echo")) as watch:
        run = await watch.created()
        async for batch in watch:
            seqs += [event.seq for event in WatchRunResponse.FromString(batch.events).events]
    caller.current.reset(token)

    assert (run, watch.run_id) == (core.logs["run_1"].run, "run_1")
    assert seqs == list(range(1, 11))
    [create] = core.requests
    assert isinstance(create, CreateRunRequest)
    assert (create.agent_id, len(create.request_id)) == ("echo", 32)
    assert core.metadata == [{"x-request-id": "req-1", "authorization": "Bearer abc"}]
    assert (len(core.watch_messages), len(client.watches)) == (1, 0)


@pytest.mark.parametrize("reason", ["CORE_DRAINING", "STORE_UNAVAILABLE"])
async def test_a_new_run_that_is_refused_for_now_is_asked_for_again(
    core: ScriptedCore, client: CoreClient, reason: str
) -> None:
    core.append(*whole(deltas=1))
    core.script["CreateRun"] = [Refuse(UNAVAILABLE, reason)] * 2

    with client.watch_new_run(CreateRunRequest(agent_id="echo")) as watch:
        assert (await watch.created()).id == "run_1"
        assert (await anext(watch)).last_seq == 8

    ids = {request.request_id for request in core.requests if isinstance(request, CreateRunRequest)}
    assert (len(core.requests), len(ids), len(core.logs)) == (3, 1, 1)


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (Refuse(UNAVAILABLE, "NO_WORKER"), 503),
        (Refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "STORE_FULL"), 503),
        (Refuse(grpc.StatusCode.FAILED_PRECONDITION, "THREAD_BUSY", {"run_id": "run_7"}), 409),
    ],
    ids=lambda value: value.reason if isinstance(value, Refuse) else str(value),
)
async def test_a_new_run_that_is_refused_for_good_is_not_asked_for_again(
    core: ScriptedCore, client: CoreClient, refusal: Refuse, status: int
) -> None:
    core.script["CreateRun"] = [refusal]

    with client.watch_new_run(CreateRunRequest(agent_id="echo")) as watch, pytest.raises(Refusal) as refused:
        await watch.created()

    assert (refused.value.status, refused.value.reason) == (status, refusal.reason)
    assert refused.value.metadata == refusal.metadata
    assert (len(core.requests), len(client.watches)) == (1, 0)


async def test_a_new_run_that_is_refused_all_the_time_is_refused_for_that_reason(core: ScriptedCore) -> None:
    core.script["CreateRun"] = [Refuse(UNAVAILABLE, "STORE_UNAVAILABLE")] * 100

    async with CoreClient(core.address, calls=CallLimits(repeat_for=0.7)) as client, asyncio.timeout(10):
        with client.watch_new_run(CreateRunRequest(agent_id="echo")) as watch, pytest.raises(Refusal) as refused:
            await watch.created()

    assert (refused.value.status, refused.value.reason) == (503, "STORE_UNAVAILABLE")
    assert len(core.requests) > 1


async def test_a_stream_that_breaks_between_commit_and_answer_makes_one_run(
    core: ScriptedCore, client: CoreClient
) -> None:
    core.append(*beginning())
    core.is_mute = True

    with client.watch_new_run(CreateRunRequest(agent_id="echo")) as watch:
        creating = asyncio.create_task(watch.created())
        async with asyncio.timeout(10):
            await core.until_watched(starts=1)
            await core.stop()
            core.is_mute = False
            await core.start()
            assert (await creating).id == "run_1"
            core.append(*ending(5))
            seqs = [batch.last_seq async for batch in watch]

    assert (seqs[-1], len(core.logs)) == (7, 1)
    first, again = (request for request in core.requests if isinstance(request, CreateRunRequest))
    assert first == again


async def test_a_created_run_is_watched_on_by_its_id_after_a_restart(core: ScriptedCore, client: CoreClient) -> None:
    core.append(*beginning())

    with client.watch_new_run(CreateRunRequest(agent_id="echo")) as watch:
        await watch.created()
        assert (await anext(watch)).last_seq == 4
        async with asyncio.timeout(10):
            await core.stop()
            core.append(*ending(5))
            await core.start()
            assert [batch.last_seq async for batch in watch] == [7]

    assert len(core.requests) == 1
    assert [(start.run_id, start.after_seq) for start in core.starts] == [("run_1", 0), ("run_1", 4)]


async def test_a_new_run_that_nobody_answers_for_is_given_up(core: ScriptedCore) -> None:
    async with CoreClient(core.address, calls=CallLimits(repeat_for=0.2)) as client:
        core.is_mute = True
        with client.watch_new_run(CreateRunRequest(agent_id="echo")) as watch, pytest.raises(Refusal) as mute:
            await watch.created()
        await core.stop()
        with client.watch_new_run(CreateRunRequest(agent_id="echo")) as watch, pytest.raises(Refusal) as away:
            await watch.created()
        await core.start()

    assert (away.value.status, away.value.reason) == (503, "CORE_UNAVAILABLE")
    assert (mute.value.status, mute.value.reason) == (503, "CORE_UNAVAILABLE")


async def test_a_core_that_leaves_one_create_without_an_answer_is_told_from_one_that_is_gone(
    core: ScriptedCore,
) -> None:
    core.append(*beginning())
    async with CoreClient(core.address, calls=CallLimits(repeat_for=0.2)) as client:
        await anext(aiter(client.watch("run_1", after=0)))  # the stream is up
        core.is_mute = True
        with client.watch_new_run(CreateRunRequest(agent_id="echo")) as watch, pytest.raises(Refusal) as late:
            await watch.created()

    assert (late.value.status, late.value.reason) == (504, "CORE_TIMEOUT")


async def test_whoever_broke_off_the_wait_for_a_new_run_may_ask_again(core: ScriptedCore, client: CoreClient) -> None:
    with client.watch_new_run(CreateRunRequest(agent_id="echo")) as watch:
        waiting = asyncio.create_task(watch.created())
        await asyncio.sleep(0)  # it is under way
        waiting.cancel()
        await asyncio.wait([waiting])
        assert (await watch.created()).id == "run_1"

    assert waiting.cancelled()
    assert len(core.requests) == 1


async def test_a_watch_that_is_closed_before_its_run_is_there_is_stopped(
    core: ScriptedCore, client: CoreClient
) -> None:
    core.is_mute = True

    with client.watch_new_run(CreateRunRequest(agent_id="echo")) as watch:
        waiting = asyncio.create_task(watch.created())
        await core.until_watched(starts=1)
        waiting.cancel()

    async with asyncio.timeout(10):
        await core.until_watched(stops=1)
    assert core.stops == [core.starts[0].watch_id]
    assert len(client.watches) == 0


async def test_large_creates_share_the_stream_in_messages_of_one_mebibyte(
    core: ScriptedCore, client: CoreClient
) -> None:
    creates = [CreateRunRequest(agent_id="echo", origin_json="x" * 100_000) for _ in range(40)]

    async def run_id(create: CreateRunRequest) -> str:
        with client.watch_new_run(create) as watch:
            return (await watch.created()).id

    async with asyncio.timeout(10):
        run_ids = await asyncio.gather(*map(run_id, creates))

    assert len(set(run_ids)) == 40
    assert max(core.watch_messages) < 1 << 20
    assert len(core.watch_messages) < 40, "what waits goes together"


async def test_a_create_that_no_message_holds_breaks_no_stream(core: ScriptedCore, client: CoreClient) -> None:
    with pytest.raises(Refusal) as refused:
        client.watch_new_run(CreateRunRequest(agent_id="echo", origin_json="x" * (8 << 20)))

    assert (refused.value.status, refused.value.reason) == (413, "BODY_TOO_LARGE")


async def test_many_watches_go_on_after_a_restart_each_at_its_own_place(core: ScriptedCore, client: CoreClient) -> None:
    runs = [f"run_{number}" for number in range(50)]
    for number, run_id in enumerate(runs):
        core.append(*beginning(), *(delta(5 + n) for n in range(number)), run_id=run_id)
    reached = {run_id: asyncio.Event() for run_id in runs}

    async def watch(run_id: str, history: int) -> list[int]:
        seqs: list[int] = []
        async for batch in client.watch(run_id, after=0):
            seqs += [event.seq for event in WatchRunResponse.FromString(batch.events).events]
            if len(seqs) >= history:
                reached[run_id].set()
        return seqs

    watching = [asyncio.create_task(watch(run_id, 4 + number)) for number, run_id in enumerate(runs)]
    async with asyncio.timeout(10):
        await asyncio.gather(*(event.wait() for event in reached.values()))
        await core.stop()
        for number, run_id in enumerate(runs):
            core.append(*ending(5 + number), run_id=run_id)
        await core.start()
        seqs = await asyncio.gather(*watching)

    assert seqs == [list(range(1, 8 + number)) for number in range(50)]
