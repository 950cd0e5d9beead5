"""Creates on a watch stream: the same runs and refusals as by CreateRun, and no stream that waits for one of them."""

from __future__ import annotations

import asyncio

import grpc
from google.rpc import code_pb2

from penstock.v1.run_pb2 import BusyPolicy, Run, RunOptions, RunState
from penstock.v1.run_service_pb2 import CreateRunRequest, ListRunsRequest, WatchAction, WatchCreate, WatchStop
from tests.core.refusals import refused
from tests.core.running_core import RunningCore, create_request
from tests.core.watches import ManyWatches

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
REJECT = RunOptions(busy_policy=BusyPolicy.BUSY_POLICY_REJECT)


async def all_runs(core: RunningCore) -> list[Run]:
    return list((await core.runs.ListRuns(ListRunsRequest())).runs)


def error_of(many: ManyWatches, watch_id: int) -> tuple[int, str]:
    """Code and reason of a watch that was refused, and had nothing before that."""
    (part,) = many.parts[watch_id]
    assert part.HasField("error")
    assert part.error.message
    return part.error.code, part.error.reason


async def test_run_is_created_and_seen_from_its_first_event(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker()
    many = any_core.watch_many()
    await many.create(1, create_request("hello", metadata={"team": "a"}))
    run = await many.read_created(1)
    first = many.parts[1][0]
    assert (first.last_seq, first.caught_up, first.ended) == (2, True, False)
    assert (run.state, run.attempt, run.last_seq) == (RunState.RUN_STATE_RUNNING, 1, 2)
    assert run == await any_core.get(run.id)
    job = await worker.take()
    await job.say_all("hello")
    await many.read_until_over(1)
    assert many.seen[1].events == await any_core.events(run.id)
    assert [part.HasField("created") for part in many.parts[1]].count(True) == 1
    assert (await any_core.status()).watches == 0


async def test_run_that_has_to_wait_is_announced_and_watched_all_the_same(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(credit=0)
    many = any_core.watch_many()
    await many.create(1, create_request())
    run = await many.read_created(1)
    assert (run.state, run.last_seq, many.seen[1].kinds) == (RunState.RUN_STATE_QUEUED, 1, ["run_queued"])
    await worker.give_credit(1)
    await (await worker.take()).say_all("later")
    await many.read_until_over(1)
    assert many.seen[1].text == "later"


async def test_refused_creates_are_told_and_the_others_go_on(core: RunningCore) -> None:
    worker = await core.connected_worker(credit=2)
    busy = await core.started(worker, thread_id="t")
    await core.create("first", request_id="key", thread_id="u")
    other = await worker.take()
    many = core.watch_many()
    first = await many.start(1, busy.run_id)
    await many.read_to(1, 2)
    await many.create(1, create_request("number in use"))
    await many.create(2, create_request(agent_id="nobody"))
    await many.create(3, create_request(thread_id="t", options=REJECT))
    await many.create(4, create_request("another body", request_id="key"))
    await many.create(5, CreateRunRequest(agent_id="echo"))
    await many.create(0, create_request("no number"))
    await many.read_until_over(0, 1, 2, 3, 4, 5)
    assert {number: error_of(many, number) for number in (0, 1, 2, 3, 4, 5)} == {
        0: (code_pb2.INVALID_ARGUMENT, "WORKER_PROTOCOL"),
        1: (code_pb2.INVALID_ARGUMENT, "WORKER_PROTOCOL"),
        2: (code_pb2.NOT_FOUND, "AGENT_NOT_FOUND"),
        3: (code_pb2.FAILED_PRECONDITION, "THREAD_BUSY"),
        4: (code_pb2.ALREADY_EXISTS, "IDEMPOTENCY_MISMATCH"),
        5: (code_pb2.INVALID_ARGUMENT, "INVALID_ARGUMENT"),
    }
    assert many.parts[3][0].error.metadata["run_id"] == busy.run_id
    assert many.parts[5][0].error.metadata["field"] == "input"
    assert len(await all_runs(core)) == 2
    many.seen[1] = first
    await busy.say_all("goes on")
    await many.start(6, other.run_id)
    await other.say_all("goes on")
    await many.read_to(1, 7)
    await many.read_until_over(6)


async def test_repeat_with_the_same_request_id_watches_the_same_run(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(credit=5)
    many = any_core.watch_many()
    await many.create(1, create_request(request_id="key"))
    run = await many.read_created(1)
    await many.create(2, create_request(request_id="key"))
    assert (await many.read_created(2)).id == run.id
    job = await worker.take()
    await job.say_all("once")
    await many.read_until_over(1, 2)
    await many.create(3, create_request(request_id="key"))
    assert (await many.read_created(3)).state == RunState.RUN_STATE_SUCCEEDED
    await many.read_until_over(3)
    assert many.seen[1].events == many.seen[2].events == many.seen[3].events
    assert (await any_core.create(request_id="key")).id == run.id
    assert len(await all_runs(any_core)) == 1


async def test_repeat_of_a_run_that_is_in_no_memory_any_more_reads_its_log(core: RunningCore) -> None:
    worker = await core.connected_worker()
    run = await core.create(request_id="key")
    await (await worker.take()).say_all("old")
    await core.ended(run.id)
    await core.restart()
    many = core.watch_many()
    await many.create(1, create_request(request_id="key"))
    assert (await many.read_created(1)).id == run.id
    await many.read_until_over(1)
    assert many.seen[1].text == "old"


async def test_stop_before_the_create_is_done_stops_the_watch_and_not_the_run(core: RunningCore) -> None:
    worker = await core.connected_worker(credit=2)
    gate = core.store.hold("create_run")
    many = core.watch_many()
    await many.create(1, create_request("unseen", request_id="key"))
    await gate.reached()
    await many.stop(1)
    await many.create(1, create_request("seen"))  # its number is free
    seen = await many.read_created(1)
    gate.open()
    job = await worker.take()
    if job.run_id == seen.id:
        job = await worker.take()
    await job.say_all("unseen")
    assert (await core.create("unseen", request_id="key")).id == job.run_id
    assert [part.created.run.id for part in many.parts[1]] == [seen.id]
    assert (await core.status()).watches == 1


async def test_create_and_stop_in_one_message_leave_no_watch(core: RunningCore) -> None:
    worker = await core.connected_worker()
    many = core.watch_many()
    create = WatchCreate(watch_id=1, create=create_request())
    await many.send(WatchAction(create=create), WatchAction(stop=WatchStop(watch_id=1)))
    await (await worker.take()).say_all("unseen")
    assert (await core.status()).watches == 0
    assert 1 not in many.parts


async def test_refusal_of_a_create_that_was_stopped_is_told_to_nobody(core: RunningCore) -> None:
    worker = await core.connected_worker()
    gate = core.store.hold("create_run")
    gate.error = RuntimeError("too late to matter")
    many = core.watch_many()
    await many.create(1, create_request("stopped"))
    await gate.reached()
    await many.stop(1)
    await many.create(1, create_request("goes on"))
    await core.until(lambda: len(core.store.calls_of("create_run")) == 2)  # so the stop before it has been heard
    gate.open()
    await many.read_created(1)
    await (await worker.take()).say_all()
    await many.read_until_over(1)


async def test_slow_create_delays_neither_other_creates_nor_watches(core: RunningCore) -> None:
    worker = await core.connected_worker(credit=3)
    job = await core.started(worker)
    gate = core.store.hold("create_run", times=2)
    many = core.watch_many()
    await many.create(1, create_request("slow"))
    await many.create(2, create_request("slow, too"))
    await gate.reached()
    await many.create(3, create_request("quick"))
    await many.start(4, job.run_id)
    await many.read_created(3)
    await job.say_all("meanwhile")
    await many.read_until_over(4)
    assert many.parts[1] == many.parts[2] == []
    gate.open()
    await many.read_created(1)
    await many.read_created(2)
    for _ in range(2):
        await (await worker.take()).say_all()


async def test_stream_that_breaks_between_commit_and_answer_leaves_one_run(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker()
    gate = any_core.store.hold("create_run", after=True)
    broken = any_core.watch_many()
    await broken.create(1, create_request(request_id="key"))
    await gate.reached()
    broken.cancel()
    again = any_core.watch_many()
    await again.create(7, create_request(request_id="key"))
    run = await again.read_created(7)
    gate.open()
    job = await worker.take()
    assert job.run_id == run.id
    await job.say_all("once")
    await again.read_until_over(7)
    assert (again.seen[7].text, len(await all_runs(any_core))) == ("once", 1)


async def test_create_whose_answer_the_store_lost_is_refused_and_may_be_repeated(core: RunningCore) -> None:
    worker = await core.connected_worker(credit=2)
    core.store.fail("create_run", after=True)
    many = core.watch_many()
    await many.create(1, create_request(request_id="key"))
    await many.read_until_over(1)
    assert error_of(many, 1) == (code_pb2.UNAVAILABLE, "STORE_UNAVAILABLE")
    await many.create(2, create_request(request_id="key"))
    run = await many.read_created(2)
    job = await worker.take()
    assert (job.run_id, job.attempt) == (run.id, 1)
    await job.say_all()
    await many.read_until_over(2)


async def test_fault_in_a_create_ends_that_watch_alone(core: RunningCore) -> None:
    worker = await core.connected_worker()
    core.store.fail("create_run", error=RuntimeError("a bug"))
    many = core.watch_many()
    await many.create(1, create_request("met the bug"))
    await many.create(2, create_request("did not"))
    await many.read_until_over(1)
    assert error_of(many, 1) == (code_pb2.INTERNAL, "")
    assert "a bug" not in many.parts[1][0].error.message
    await many.read_created(2)
    await (await worker.take()).say_all()
    await many.read_until_over(2)


async def test_draining_core_refuses_new_creates_and_answers_those_under_way(core: RunningCore) -> None:
    worker = await core.connected_worker(credit=2)
    job = await core.started(worker)
    alone = core.watch(job.run_id)
    gate = core.store.hold("create_run")
    many = core.watch_many()
    await many.start(3, job.run_id)  # for its sake the stream hears of the drain at once
    await many.create(1, create_request("under way"))
    await gate.reached()
    stopping = asyncio.create_task(core.drain())
    await worker.now.hears("draining")
    await many.create(2, create_request("too late"))
    await many.read_until_over(2)
    assert error_of(many, 2) == (code_pb2.UNAVAILABLE, "CORE_DRAINING")
    await worker.now.finish()
    with refused(UNAVAILABLE, "CORE_DRAINING"):
        await alone.read_to_end()
    gate.open()  # the watches of this core are being ended
    run_id = (await many.read_created(1)).id
    with refused(UNAVAILABLE, "CORE_DRAINING"):
        while await many.read() is not None:
            pass
    await stopping
    assert list(core.place.runs()) == [job.run_id, run_id]
